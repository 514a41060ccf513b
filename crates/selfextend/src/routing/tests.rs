use super::*;
use proptest::prelude::*;

fn choose(routing: Routing, router: &[f32], bias: &[f32], used: usize) -> Vec<Choice> {
    let mut chosen = vec![Choice::default(); used];
    routing.choose(router, bias, &mut chosen, &mut ChoiceScratch::default());
    chosen
}

fn experts(chosen: &[Choice]) -> Vec<usize> {
    chosen.iter().map(|choice| choice.expert).collect()
}

#[test]
fn of_equal_experts_the_first_is_chosen() {
    for score in [Score::Softmax, Score::ChosenSoftmax, Score::Sigmoid] {
        let routing = Routing {
            score,
            ..Routing::SOFTMAX
        };
        let chosen = choose(routing, &[0.5, 2.0, 0.5, 2.0, 0.5], &[], 3);
        assert_eq!(experts(&chosen), [0, 1, 3], "{score:?}");
        assert_eq!(chosen[1].weight, chosen[2].weight);
        assert_eq!(experts(&choose(routing, &[1.0; 4], &[], 2)), [0, 1]);
    }
}

/// Against the formulas in doubles.
#[test]
fn weights_are_those_of_the_formulas() {
    let x = [0.3f32, -1.2, 2.5, 0.9];
    let e = x.map(|x| f64::from(x).exp());
    let all: f64 = e.iter().sum();
    let close = |routing: Routing, expected: [f64; 2]| {
        let chosen = choose(routing, &x, &[], 2);
        assert_eq!(experts(&chosen), [2, 3]);
        for (choice, expected) in chosen.iter().zip(expected) {
            let error = (f64::from(choice.weight) - expected).abs();
            assert!(error < 1e-6, "{routing:?}: {} {expected}", choice.weight);
        }
    };
    let of = |score, normalised, scale| Routing {
        score,
        normalised,
        scale,
        ..Routing::SOFTMAX
    };
    close(of(Score::Softmax, false, 1.0), [e[2] / all, e[3] / all]);
    let pair = e[2] + e[3];
    close(of(Score::Softmax, true, 1.0), [e[2] / pair, e[3] / pair]);
    close(
        of(Score::ChosenSoftmax, false, 0.5),
        [0.5 * e[2] / pair, 0.5 * e[3] / pair],
    );
    let s = [2, 3].map(|n| e[n] / (1.0 + e[n]));
    close(of(Score::Sigmoid, false, 1.0), s);
    let sum = s[0] + s[1];
    close(
        of(Score::Sigmoid, true, 2.5),
        [2.5 * s[0] / sum, 2.5 * s[1] / sum],
    );
}

#[test]
fn a_bias_chooses_and_does_not_weigh() {
    let routing = Routing {
        score: Score::Sigmoid,
        ..Routing::SOFTMAX
    };
    let x = [0.0, 1.0, 2.0, 3.0];
    let plain = choose(routing, &x, &[0.0; 4], 2);
    let biased = choose(routing, &x, &[0.9, 0.0, 0.0, 0.0], 2);
    assert_eq!(
        (experts(&plain), experts(&biased)),
        (vec![2, 3], vec![0, 3])
    );
    assert_eq!(biased[0].weight, 0.5);
    assert_eq!(biased[1], plain[1]);
}

#[test]
fn groups_are_chosen_by_their_two_best() {
    let routing = Routing {
        score: Score::ChosenSoftmax,
        groups: 3,
        groups_used: 1,
        ..Routing::SOFTMAX
    };
    // The best expert is alone in its group.
    let x = [5.0, 0.0, 0.0, 3.0, 3.1, -9.0, 1.0, 1.0, 1.0];
    assert_eq!(experts(&choose(routing, &x, &[], 2)), [3, 4]);
    let two = Routing {
        groups_used: 2,
        ..routing
    };
    assert_eq!(experts(&choose(two, &x, &[], 3)), [0, 3, 4]);
    // Of equal groups the first is taken.
    assert_eq!(experts(&choose(routing, &[1.0; 9], &[], 3)), [0, 1, 2]);
}

#[test]
fn what_is_not_a_number_shows() {
    for routing in [
        Routing::SOFTMAX,
        Routing {
            score: Score::Sigmoid,
            groups: 2,
            groups_used: 1,
            ..Routing::SOFTMAX
        },
    ] {
        let chosen = choose(routing, &[1.0, 2.0, f32::NAN, 0.0], &[], 2);
        assert!(
            chosen.iter().any(|choice| choice.weight.is_nan()),
            "{chosen:?}"
        );
    }
}

#[test]
fn impossible_choices_are_refused() {
    let right = Experts {
        count: 8,
        used: 2,
        width: 4,
        shared_width: 0,
        limit: None,
        routing: Routing::SOFTMAX,
        sparse: vec![true],
    };
    assert_eq!(right.check(), Ok(()));
    let with = |change: &dyn Fn(&mut Experts)| {
        let mut experts = right.clone();
        change(&mut experts);
        experts.check().unwrap_err()
    };
    assert!(with(&|it| it.used = 9).contains("9 of 8 experts"));
    assert!(with(&|it| it.used = 0).contains("0 of 8"));
    assert!(with(&|it| it.count = 0).contains("0 experts"));
    assert!(with(&|it| it.width = 0).contains("width 0"));
    assert!(with(&|it| it.routing.groups = 3).contains("3 groups"));
    assert!(with(&|it| it.routing.scale = f32::NAN).contains("NaN"));
    let crowded = |it: &mut Experts| {
        (it.used, it.routing.groups) = (3, 4);
    };
    assert!(with(&crowded).contains("1 of 4 groups of 2"));
}

proptest! {
    /// Whatever the numbers, different experts are chosen, in order, and none that is not chosen is
    /// better than one that is.
    #[test]
    fn the_best_are_chosen(
        x in prop::collection::vec(-4i8..4, 12),
        used in 1usize..=6,
        sigmoid: bool,
    ) {
        let x: Vec<f32> = x.into_iter().map(f32::from).collect();
        let score = if sigmoid { Score::Sigmoid } else { Score::ChosenSoftmax };
        let chosen = experts(&choose(Routing { score, ..Routing::SOFTMAX }, &x, &[], used));
        prop_assert!(chosen.is_sorted_by(|a, b| a < b));
        for n in (0..x.len()).filter(|n| !chosen.contains(n)) {
            for &expert in &chosen {
                prop_assert!(x[expert] > x[n] || (x[expert] == x[n] && expert < n));
            }
        }
    }
}

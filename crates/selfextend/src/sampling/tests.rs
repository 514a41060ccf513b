use super::*;
use proptest::prelude::*;

fn draws(settings: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(settings).unwrap();
    (0..n).map(|_| sampler.draw(logits)).collect()
}

#[test]
fn filters_keep_what_they_say() {
    let logits = [0.0, 3.0, 2.0, 1.0, -5.0];
    let hot = Sampling {
        temperature: 5.0,
        ..Default::default()
    };
    let all = |settings: Sampling| {
        let mut seen = draws(settings, &logits, 400);
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    assert_eq!(all(hot.clone()), [0, 1, 2, 3, 4]);
    assert_eq!(
        all(Sampling {
            top_k: 2,
            ..hot.clone()
        }),
        [1, 2]
    );
    // At temperature 1 the probabilities are .64 .24 .09 .03 .0002.
    let warm = Sampling {
        temperature: 1.0,
        ..hot
    };
    assert_eq!(
        all(Sampling {
            top_p: 0.7,
            ..warm.clone()
        }),
        [1, 2]
    );
    assert_eq!(
        all(Sampling {
            top_p: 0.01,
            ..warm.clone()
        }),
        [1]
    );
    assert_eq!(
        all(Sampling {
            min_p: 0.1,
            ..warm.clone()
        }),
        [1, 2, 3]
    );
    assert_eq!(all(Sampling { min_p: 1.0, ..warm }), [1]);
}

#[test]
fn draws_follow_the_probabilities() {
    let settings = Sampling {
        temperature: 1.0,
        seed: 3,
        ..Default::default()
    };
    let ones = draws(settings, &[0.0, 3f32.ln()], 4000)
        .iter()
        .filter(|&&t| t == 1)
        .count();
    assert!(
        (2850..3150).contains(&ones),
        "{ones} of 4000, expected 3000"
    );
}

#[test]
fn repetition_is_penalised() {
    let settings = Sampling {
        repetition_penalty: 2.0,
        ..Default::default()
    };
    assert_eq!(draws(settings, &[3.0, 2.0, -1.0], 3), [0, 1, 0]);
}

#[test]
fn presence_and_frequency_are_penalised() {
    let settings = |presence_penalty, frequency_penalty| Sampling {
        presence_penalty,
        frequency_penalty,
        ..Default::default()
    };
    // Once for being there: 3 becomes 1.5, then 2 becomes .5, and so it stays.
    let once = draws(settings(1.5, 0.0), &[3.0, 2.0, 1.0], 5);
    assert_eq!(once, [0, 1, 0, 0, 0]);
    // For each time: 3 2 1, 2 2 1, 1 2 1, 1 1 1, ...
    let each = draws(settings(0.0, 1.0), &[3.0, 2.0, 1.0], 6);
    assert_eq!(each, [0, 0, 1, 0, 1, 2]);
}

#[test]
fn bias_and_masks_choose_among_tokens() {
    let settings = Sampling {
        bias: vec![(2, 5.0), (0, f32::NEG_INFINITY), (99, 1.0)],
        ..Default::default()
    };
    assert_eq!(draws(settings, &[3.0, 2.0, 1.0], 1), [2]);
    for temperature in [0.0, 1.0] {
        let settings = Sampling {
            temperature,
            ..Default::default()
        };
        let mut sampler = Sampler::new(settings).unwrap();
        let logits: Vec<f32> = (0..40).map(|i| i as f32).collect();
        for _ in 0..20 {
            let token = sampler.draw_among(&logits, Some(&[1 << 4, 1 << 2]));
            assert!([4, 34].contains(&token), "{token}");
        }
    }
}

#[test]
fn values_outside_their_range_are_refused() {
    for settings in [
        Sampling {
            temperature: -1.0,
            ..Default::default()
        },
        Sampling {
            temperature: f32::NAN,
            ..Default::default()
        },
        Sampling {
            top_p: 0.0,
            ..Default::default()
        },
        Sampling {
            min_p: 1.5,
            ..Default::default()
        },
        Sampling {
            repetition_penalty: 0.0,
            ..Default::default()
        },
    ] {
        assert!(Sampler::new(settings).is_err());
    }
}

proptest! {
    #[test]
    fn the_same_seed_draws_the_same(logits in prop::collection::vec(-9f32..9.0, 1..50), seed in any::<u64>()) {
        let settings = Sampling { temperature: 0.8, top_k: 20, top_p: 0.9, seed, ..Default::default() };
        prop_assert_eq!(draws(settings.clone(), &logits, 20), draws(settings, &logits, 20));
    }

    /// Candidates come as a full sort would bring them.
    #[test]
    fn candidates_descend(logits in prop::collection::vec(-3f32..3.0, 1..700), k in 0usize..800) {
        let mut all: Vec<_> = (0u32..).zip(logits.iter().map(|&x| x.round() + 0.0)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(if k == 0 { usize::MAX } else { k });
        let logits: Vec<_> = logits.iter().map(|x| x.round() + 0.0).collect();
        let mut sorted = Descending::new(&logits, k, 1.0);
        let ids: Vec<_> = (0..).map_while(|at| sorted.get(at)).map(|c| c.0).collect();
        prop_assert_eq!(ids, all.iter().map(|c| c.0).collect::<Vec<_>>());
    }

    #[test]
    fn log_probabilities_add_up(logits in prop::collection::vec(-50f32..50.0, 1..50)) {
        let total: f64 = (0..logits.len() as u32).map(|t| log_probability(&logits, t).exp()).sum();
        prop_assert!((total - 1.0).abs() < 1e-6);
    }
}

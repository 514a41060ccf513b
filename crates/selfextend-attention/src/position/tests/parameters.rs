//! Parameters: what a method takes, what it refuses, and what it does without any.

use super::*;
use crate::AttentionError;

/// The authors' values for the models they name, and the fractions of other trained windows.
#[test]
fn defaults_follow_the_trained_window() {
    assert_eq!([4096, 4, 1].map(DualChunk::default_chunk), [3072, 3, 1]);
    assert_eq!([32768, 16, 15].map(JetLong::default_local), [2048, 1, 0]);
    assert_eq!([4096, 16, 7].map(ReRope::default_window), [512, 2, 1]);
    assert_eq!([8192, 8].map(Lampe::default_ends), [(512, 199), (1, 0)]);
    assert_eq!([4096, 512, 15].map(Shifted::default_window), [128, 32, 1]);
    let recent = |sinks, trained| Streaming::default_recent(sinks, trained);
    assert_eq!([recent(4, 4096), recent(4, 5), recent(4, 3)], [4091, 1, 1]);
    assert_eq!(
        [8192, 4096, 1024, 64, 1].map(Logistic::default_rate),
        [0.02, 0.02, 0.08, 1.28, 1.28]
    );
}

#[test]
fn defaults_follow_the_context() {
    let group = |context| JetLong::new(0, 32768, context).unwrap().group_size();
    assert_eq!([0, 32768, 32769, 131_072].map(group), [1, 1, 2, 4]);
    // (context - 513) / (4096 - 513), rounded up.
    let factor = |context| LeakyReRope::default_factor(512, 4096, context);
    assert_eq!([1, 4096, 4097, 65536].map(factor), [1.0, 1.0, 2.0, 19.0]);
    assert_eq!(LeakyReRope::default_factor(512, 100, 600), 87.0);
    // A third, what does not fit, the trained window.
    let shift = |context| Shifted::default_shift(128, 4096, context);
    assert_eq!([4096, 6000, 10_000].map(shift), [1365, 2032, 4096]);
    assert_eq!(Shifted::default_shift(10, 8, 5), 11);
    // 0.757 L / (1 + exp(2.467 - 0.860 N / L)), within what is beside the head and in the context.
    let mapped = |head, context| Lampe::default_mapped(head, 8192, context);
    assert_eq!([mapped(512, 16384), mapped(512, 32768)], [1993, 4500]);
    assert_eq!([mapped(8000, 32768), mapped(8192, 32768)], [192, 1]);
    assert_eq!(Lampe::default_mapped(1, 100, 3), 2);
}

#[test]
fn bounds_are_taken_and_what_is_beyond_is_refused() {
    fn check<T>(fits: &[Result<T, AttentionError>], not: &[Result<T, AttentionError>]) {
        assert!(fits.iter().all(Result::is_ok));
        for refused in not {
            let Err(AttentionError::Position(reason)) = refused else {
                panic!("a bound is not kept");
            };
            assert!(reason.len() < 150 && !reason.contains('\n'), "{reason}");
        }
    }
    let dca = DualChunk::new;
    check(
        &[dca(4, 5), dca(4, 8)],
        &[dca(4, 4), dca(4, 9), dca(0, 0), dca(0, 1)],
    );
    check(&[JetLong::new(0, 1, 0)], &[JetLong::new(1, 0, 8)]);
    check(&[ReRope::new(1)], &[ReRope::new(0)]);
    check(&[Streaming::new(0, 1)], &[Streaming::new(1, 0)]);
    check(&[LmInfinite::new(0, 1)], &[LmInfinite::new(1, 0)]);
    check(
        &[Shifted::new(1, 0)],
        &[Shifted::new(1, 1), Shifted::new(1, 2)],
    );
    let leaky = LeakyReRope::new;
    check(
        &[leaky(1, 1.0), leaky(1, 1e6)],
        &[
            leaky(0, 2.0),
            leaky(1, 0.99),
            leaky(1, 1.1e6),
            leaky(1, f64::NAN),
        ],
    );
    let logistic = Logistic::new;
    check(
        &[logistic(2, 1e-4, 1), logistic(65536, 10.0, 1)],
        &[
            logistic(1, 0.1, 1),
            logistic(65537, 0.1, 1),
            logistic(33, 0.9e-4, 1),
            logistic(33, 10.1, 1),
            logistic(33, f64::NAN, 1),
            logistic(33, 0.1, 0),
        ],
    );
    let lampe = Lampe::new;
    check(
        // Positions that are not compressed, 5 of 6, still leave the head one of its own.
        &[lampe(3, 2, 2, 6), lampe(3, 0, 1, 6), lampe(2, 0, 4, 6)],
        &[
            lampe(0, 2, 2, 6),
            lampe(3, 3, 2, 6),
            lampe(3, 2, 0, 6),
            lampe(3, 2, 6, 6),
            lampe(5, 0, 5, 6),
            lampe(0, 0, 0, 0),
            lampe(1, 0, 1, usize::MAX),
        ],
    );
}

#[test]
fn names_and_parameters_are_shown() {
    let map = PositionMap::self_extend(4, 16).unwrap();
    assert_eq!(
        map.to_string(),
        "SelfExtend, group size 4, neighbor window 16"
    );
    assert_eq!(PositionMap::Plain.to_string(), "Plain");
    assert_eq!(PositionMap::self_extend(1, 16).unwrap(), PositionMap::Plain);
    let map = SelfExtend::new(4, 16).unwrap();
    assert_eq!((map.group_size(), map.neighbor_window()), (4, 16));
    assert!(Keys::first(3).is_derived() && !Keys::Stored.is_derived());
}

#[test]
fn queries_are_scaled_by_the_published_factors() {
    let log_n = |i| QueryScaling::LogN { base: 4096 }.factor(i);
    assert_eq!([0, 4095, 4096 * 4096 - 1].map(log_n), [1.0, 1.0, 2.0]);
    assert_eq!(QueryScaling::LogN { base: 4 }.factor(15), 2.0);
    // (0.1 ln 8 + 1)^2, and nothing for a context within the trained window.
    let yarn = |factor| QueryScaling::Yarn { factor }.factor(7);
    assert_eq!([8.0, 1.0, 0.5].map(yarn), [1.459_129_1, 1.0, 1.0]);
    assert_eq!(QueryScaling::default().factor(7), 1.0);
}

/// Any parameter, also one that no context has.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..40, usize::MAX - 2..=usize::MAX, any::<usize>()]
}

proptest! {
    /// A map of any parameters is refused or computes: nothing overflows.
    #[test]
    fn parameters_of_any_size_are_refused_or_work(
        a in size(), b in size(), c in size(), d in size(), k in 1f64..1e6, trained in 1usize..1 << 40,
        i in 0usize..5000, back in 0usize..5000,
    ) {
        let maps = [
            PositionMap::self_extend(a, b),
            ReRope::new(a).map(Into::into),
            LeakyReRope::new(a, k).map(Into::into),
            Shifted::new(a, b).map(Into::into),
            DualChunk::new(a, b).map(Into::into),
            JetLong::new(a, b, c).map(Into::into),
            Lampe::new(a, b, c, d).map(Into::into),
            Streaming::new(a, b).map(Into::into),
            LmInfinite::new(a, b).map(Into::into),
            Logistic::new(33, 0.1, a).map(Into::into),
        ];
        for map in maps.into_iter().flatten() {
            // The one map whose queries end with its context.
            let i = if matches!(map, PositionMap::Lampe(_)) { i.min(d - 1) } else { i };
            let (j, map) = (i.saturating_sub(back), map.positions());
            let reach = map.reach(trained);
            prop_assert!(reach != Some(0), "{map:?}");
            let inside = |&region: &usize| map.span(region, i).contains(&j);
            let region = (0..map.regions().len()).find(inside);
            let separable = region.map(|region| map.query(region, i) - map.key(region, j));
            prop_assert_eq!(separable.is_some(), map.relative(i, j).is_some());
            let forgotten = map.forgotten(i);
            prop_assert_eq!(forgotten.contains(&j), map.relative(i, j).is_none());
        }
    }
}

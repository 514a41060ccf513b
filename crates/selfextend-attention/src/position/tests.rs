//! The separable form of every map against its definition.

use super::*;
use proptest::prelude::*;

mod formulas;
mod parameters;

/// Any map that a sequence of up to `context` tokens can have.
pub(crate) fn any_map(context: usize) -> impl Strategy<Value = PositionMap> {
    let n = context;
    prop_oneof![
        Just(PositionMap::Plain),
        (1usize..12, 1usize..150).prop_map(|(g, w)| PositionMap::self_extend(g, w).unwrap()),
        (prop::collection::vec(1usize..12, 1..9), 1usize..150)
            .prop_map(|(scales, w)| DimensionWise::new(w, &scales).unwrap().into()),
        (1usize..150).prop_map(|w| ReRope::new(w).unwrap().into()),
        (1usize..150, 1f64..20.0).prop_map(|(w, k)| LeakyReRope::new(w, k).unwrap().into()),
        (0usize..50, 1usize..150).prop_map(|(w, more)| Shifted::new(w + more, w).unwrap().into()),
        (1usize..120, 1usize..120)
            .prop_map(|(s, more)| DualChunk::new(s, s + more.min(s)).unwrap().into()),
        (0usize..100, 1usize..150).prop_map(move |(w0, w)| JetLong::new(w0, w, n).unwrap().into()),
        (2usize..40, 0.005f64..2.0, 1usize..150)
            .prop_map(|(c, r, w)| Logistic::new(c, r, w).unwrap().into()),
        (2usize..40, 0usize..40, 1usize..40).prop_map(move |(h, t, share)| {
            let mapped = (n / 2).min(n * share / 80).max(1);
            Lampe::new(h, t, mapped, n).unwrap().into()
        }),
        (0usize..40, 1usize..150).prop_map(|(s, r)| Streaming::new(s, r).unwrap().into()),
        (0usize..40, 1usize..150).prop_map(|(s, r)| LmInfinite::new(s, r).unwrap().into()),
    ]
}

/// The largest relative position in a context under a map, over all pairs.
fn farthest(map: &dyn Positions, context: usize) -> f64 {
    let rows = (0..context).flat_map(|i| (0..=i).map(move |j| (i, j)));
    rows.filter_map(|(i, j)| map.relative(i, j))
        .fold(0.0, f64::max)
}

/// The same pair in every band of a map, which agree in where it is.
fn check_pair(map: &dyn Positions, i: usize, j: usize) -> Result<(), TestCaseError> {
    check_band(map, i, j)?;
    let bands = (0..map.bands()).filter_map(|band| map.band(band));
    for (n, band) in bands.enumerate() {
        for region in 0..map.regions().len() {
            prop_assert_eq!(band.span(region, i), map.span(region, i));
            if n == 0 {
                prop_assert_eq!(band.query(region, i), map.query(region, i));
                prop_assert_eq!(band.key(region, j), map.key(region, j));
                prop_assert_eq!(band.stored(j), map.stored(j));
            }
        }
        check_band(band, i, j)?;
    }
    Ok(())
}

fn check_band(map: &dyn Positions, i: usize, j: usize) -> Result<(), TestCaseError> {
    let inside: Vec<usize> = (0..map.regions().len())
        .filter(|&region| map.span(region, i).contains(&j))
        .collect();
    match map.relative(i, j) {
        None => prop_assert!(inside.is_empty()),
        Some(relative) => {
            prop_assert_eq!(inside.len(), 1);
            let separable = map.query(inside[0], i) - map.key(inside[0], j);
            prop_assert!(
                (separable - relative).abs() < 1e-9,
                "{separable} for {relative}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every pair is in the region whose positions give its relative position, or in none where it
    /// is not seen.
    #[test]
    fn regions_reproduce_the_relative_position(
        map in any_map(2000), i in 0usize..2000, back in 0usize..2000,
    ) {
        check_pair(&*map.positions(), i, i.saturating_sub(back))?;
    }

    /// The same of all pairs of a short context: what concerns a few keys only, such as LaMPE's tail.
    #[test]
    fn regions_reproduce_every_relative_position_of_a_context(map in any_map(80)) {
        let map = map.positions();
        for (i, j) in (0..80).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            check_pair(&*map, i, j)?;
        }
    }

    #[test]
    fn spans_are_in_order_and_move_forwards(map in any_map(2000), i in 0usize..1999) {
        let map = map.positions();
        let regions = map.regions();
        prop_assert!((1..=MAX_REGIONS).contains(&regions.len()));
        let mut end = 0;
        for (region, keys) in regions.iter().enumerate() {
            let (now, next) = (map.span(region, i), map.span(region, i + 1));
            prop_assert!(end <= now.start && now.start <= now.end);
            prop_assert!(now.start <= next.start && now.end <= next.end);
            match *keys {
                Keys::Derived(kept) => {
                    prop_assert!(now.len() <= kept.most());
                    if let Kept::First(most) = kept {
                        prop_assert!(now.end <= most);
                    }
                }
                Keys::Stored => for j in now.clone() {
                    prop_assert_eq!(map.key(region, j), map.stored(j));
                },
            }
            end = now.end;
        }
        prop_assert_eq!(end, i + 1);
    }

    #[test]
    fn forgotten_keys_are_never_seen_again(
        map in any_map(2000), i in 0usize..1000, later in 0usize..900, at in 0usize..2000,
    ) {
        let map = map.positions();
        let forgotten = map.forgotten(i);
        let next = map.forgotten(i + 1);
        prop_assert!(forgotten.start <= next.start && forgotten.end <= next.end);
        if forgotten.contains(&at) {
            prop_assert_eq!(map.relative(i + later, at), None);
        }
    }

    /// Over every pair, in both directions: the last token of the reach is at a trained position,
    /// one more is not.
    #[test]
    fn the_reach_is_where_positions_leave_the_trained_window(
        map in any_map(160), trained in 1usize..120,
    ) {
        const SEEN: usize = 400;
        let made_for = match map {
            PositionMap::Lampe(_) => 160,
            _ => SEEN,
        };
        let map = map.positions();
        let reach = map.reach(trained).unwrap_or(SEEN);
        let within = farthest(&*map, reach.min(made_for));
        prop_assert!(within <= (trained - 1) as f64, "{within} at {reach} of {trained}");
        if reach < made_for {
            let beyond = farthest(&*map, reach + 1);
            prop_assert!(beyond > (trained - 1) as f64, "{beyond} at {reach} and one of {trained}");
        }
    }

    #[test]
    fn absurd_factors_are_refused(window in 1usize..100, exponent in 7i32..300) {
        let error = LeakyReRope::new(window, 10f64.powi(exponent)).unwrap_err().to_string();
        prop_assert!(error.len() < 150 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn group_size_one_is_plain(w in 1usize..200, i in 0usize..5000, back in 0usize..5000) {
        let j = i.saturating_sub(back);
        let map = SelfExtend::new(1, w).unwrap();
        prop_assert_eq!(map.relative(i, j), Some((i - j) as f64));
    }
}

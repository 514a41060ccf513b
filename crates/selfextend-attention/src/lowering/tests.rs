//! Lowered maps, and the tiles that are visited, against the maps themselves.

use super::*;
use crate::PositionMap;
use crate::position::Regions;
use crate::position::tests::any_map;
use proptest::prelude::*;

/// Sees keys on both sides: those up to `near` away exactly, all others of the text at half the
/// distance before it and at a constant one after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BothSides {
    pub near: usize,
}

impl Positions for BothSides {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let region = (0..3).find(|&region| self.span(region, i).contains(&j))?;
        Some(self.query(region, i) - self.key(region, j))
    }

    fn reach(&self, _trained: usize) -> Option<usize> {
        None
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(2 * self.near), Keys::Stored].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let (before, after) = ((i + 1).saturating_sub(self.near), i + self.near);
        match region {
            0 => 0..before,
            1 => before..after,
            _ => after..usize::MAX,
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        [i as f64 / 2.0, i as f64, i as f64 / 2.0 - 3.0][region]
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        [0.5, 1.0, 0.5][region] * j as f64
    }

    fn stored(&self, j: usize) -> f64 {
        0.5 * j as f64
    }
}

/// Maps of decoders, and one that sees what comes after a query.
fn maps() -> impl Strategy<Value = std::sync::Arc<dyn Positions>> {
    prop_oneof![
        4 => any_map(1000).prop_map(|map| map.positions()),
        1 => (1usize..200).prop_map(|near| std::sync::Arc::new(BothSides { near }) as _),
    ]
}

proptest! {
    /// Every pair that the map sees is visited exactly once, in the region whose positions give the
    /// relative position; no other is; unmasked tiles are inside for all rows.
    #[test]
    fn every_pair_is_seen_once(
        map in maps(), start in 0usize..700, tokens in 1usize..300,
        block in 0usize..3, tall in prop_oneof![Just(64usize), Just(128)],
        width in prop_oneof![Just(16usize), Just(32), Just(64), Just(128)],
    ) {
        let end = start + tokens;
        let lowering = Lowering::new(&*map, start..end);
        let first = (block * tall).min((tokens - 1) / tall * tall);
        let last = (first + tall).min(tokens) - 1;
        let mut seen = vec![vec![0; end]; last + 1 - first];
        for visit in lowering.visits(first, last, width) {
            let region = &lowering.regions()[visit.region];
            for (t, seen) in (first..=last).zip(&mut seen) {
                let inside = region.start(t)..region.end(t);
                let tile = visit.tile * width..(visit.tile + 1) * width;
                prop_assert!(
                    visit.masked || inside.start <= tile.start && tile.end <= inside.end,
                    "{visit:?} is not inside {inside:?} of query {}", start + t
                );
                for (j, seen) in seen.iter_mut().enumerate() {
                    if tile.contains(&j) && inside.contains(&j) {
                        *seen += 1;
                        let relative = region.query_positions()[t] - map.key(visit.region, j);
                        let exact = map.relative(start + t, j).unwrap();
                        prop_assert!((relative - exact).abs() < 1e-9, "{relative} for {exact}");
                    }
                }
            }
        }
        for (t, seen) in (first..).zip(&seen) {
            for (j, &times) in seen.iter().enumerate() {
                let sees = j < lowering.end(t) && map.relative(start + t, j).is_some();
                prop_assert_eq!(times, usize::from(sees), "query {} and key {}", start + t, j);
            }
        }
    }

    /// What SelfExtend costs beyond plain attention: the tiles that the two regions share.
    #[test]
    fn two_regions_share_few_tiles(
        g in 2usize..9, w in 1usize..3000, start in 0usize..20_000, tokens in 1usize..129,
    ) {
        let map = PositionMap::self_extend(g, w).unwrap();
        let count = |map: PositionMap| {
            let lowering = Lowering::new(&*map.positions(), start..start + tokens);
            lowering.visits(0, tokens - 1, 64).count()
        };
        let (plain, both) = (count(PositionMap::Plain), count(map));
        prop_assert!(both <= plain + 3, "{both} visits instead of {plain}");
    }

    /// Filled again, a lowering is what a new one is, whatever it held.
    #[test]
    fn nothing_is_left_of_an_earlier_lowering(
        before in maps(), map in maps(), start in 0usize..700, tokens in 0usize..50,
    ) {
        let mut lowering = Lowering::new(&*before, 3..40);
        lowering.fill(&*map, start..start + tokens);
        prop_assert_eq!(&lowering, &Lowering::new(&*map, start..start + tokens));
        for region in lowering.regions() {
            prop_assert!(region.spans().iter().map(|span| span.0).is_sorted());
            prop_assert!(region.spans().iter().map(|span| span.1).is_sorted());
            prop_assert_eq!(region.kept().is_some(), region.is_derived());
        }
    }

    /// What a region keeps between steps, by its own word, is all that its queries see.
    #[test]
    fn kept_keys_are_all_that_a_query_sees(map in any_map(1000), i in 0usize..1000) {
        let map = map.positions();
        for region in Lowering::new(&*map, i..i + 1).regions() {
            let held = match region.kept() {
                None => 0..i + 1,
                Some(Kept::Newest(most)) => (i + 1).saturating_sub(most)..i + 1,
                Some(Kept::First(most)) => 0..most,
            };
            let seen = region.extent();
            prop_assert!(seen.is_empty() || held.start <= seen.start && seen.end <= held.end);
        }
    }
}

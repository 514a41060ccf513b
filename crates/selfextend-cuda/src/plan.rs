//! Position maps as data for the kernels, and the rule by which they visit tiles of keys.

use selfextend_attention::position::{Keys, MAX_REGIONS, Positions};

/// Most rotations that keys are stored in: for ever, and for each region of its own.
pub const MAX_PLANES: usize = 1 + MAX_REGIONS;

/// The plane of keys that each region reads: 0 for the one that is stored for ever.
pub(crate) fn planes(regions: &[Keys]) -> Vec<usize> {
    let mut rings = 0;
    let plane = |keys: &Keys| match keys {
        Keys::Stored => 0,
        Keys::Derived { .. } => {
            rings += 1;
            rings
        }
    };
    regions.iter().map(plane).collect()
}

/// The regions of some consecutive queries, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Regions {
    /// Of each region, the first key of every query, and the key after the last.
    pub spans: Vec<[Vec<i32>; 2]>,
    /// What queries are rotated to, `[regions][tokens]`.
    pub query_positions: Vec<Vec<f64>>,
    /// What their own keys are rotated to, `[planes][tokens]`.
    pub key_positions: Vec<Vec<f64>>,
    /// The plane of keys that each region reads.
    pub planes: Vec<usize>,
}

impl Regions {
    /// Of the `tokens` queries from position `start`, which with them fits an `i32`.
    pub fn new(map: &dyn Positions, start: usize, tokens: usize) -> Self {
        let queries = start..start + tokens;
        let regions = map.regions();
        let rows = |f: &dyn Fn(usize) -> f64| queries.clone().map(f).collect::<Vec<f64>>();
        let ends = |f: &dyn Fn(usize) -> usize| queries.clone().map(|i| f(i) as i32).collect();
        let mut key_positions = vec![rows(&|j| map.stored(j))];
        let rings = (0..regions.len()).filter(|&r| regions[r] != Keys::Stored);
        key_positions.extend(rings.map(|r| rows(&|j| map.key(r, j))));
        let all = 0..regions.len();
        Self {
            spans: all
                .clone()
                .map(|r| {
                    [
                        ends(&|i| map.span(r, i).start),
                        ends(&|i| map.span(r, i).end),
                    ]
                })
                .collect(),
            query_positions: all.map(|r| rows(&|i| map.query(r, i))).collect(),
            key_positions,
            planes: planes(&regions),
        }
    }

    /// The keys that any of the queries sees, of each region; nothing where it ends before it starts.
    pub fn extents(&self) -> [(i32, i32); MAX_REGIONS] {
        let mut extents = [(0, 0); MAX_REGIONS];
        for (to, [low, high]) in extents.iter_mut().zip(&self.spans) {
            if let (Some(&first), Some(&last)) = (low.first(), high.last()) {
                *to = (first, last);
            }
        }
        extents
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.spans.len()
    }
}

/// A tile of keys that a block of queries multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Which region's queries and keys.
    pub region: usize,
    /// Its keys start at `tile` times the width.
    pub tile: usize,
    /// Whether some pairs in it are outside the region: the boundary tiles.
    pub masked: bool,
}

/// The visits of the block of queries `first..=last` over tiles of `width` keys, in the order of
/// `prefill.cu` and `hopper.cu`, which have the same rule. Tiles that no query of the block sees
/// are left out.
pub fn visits(regions: &Regions, first: usize, last: usize, width: usize) -> Vec<Visit> {
    let mut visits = Vec::new();
    for (region, [low, high]) in regions.spans.iter().enumerate() {
        let [low_first, low_last] = [low[first], low[last]].map(|key| key as usize);
        let [high_first, high_last] = [high[first], high[last]].map(|key| key as usize);
        if high_last <= low_first {
            continue;
        }
        for tile in low_first / width..high_last.div_ceil(width) {
            let key = tile * width;
            visits.push(Visit {
                region,
                tile,
                masked: key < low_last || key + width > high_first,
            });
        }
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfextend_attention::PositionMap;

    proptest! {
        /// Every pair of a query and a key before it is seen exactly once, in the region whose
        /// positions give the map's relative position, and unmasked tiles are inside for all rows.
        #[test]
        fn every_pair_is_seen_once(
            g in 1usize..9, w in 1usize..300, start in 0usize..700, tokens in 1usize..300,
            block in 0usize..3, tall in prop_oneof![Just(64usize), Just(128)],
            width in prop_oneof![Just(16usize), Just(32), Just(64), Just(128)],
        ) {
            let map = PositionMap::self_extend(g, w).unwrap().positions();
            let regions = Regions::new(&*map, start, tokens);
            let first = (block * tall).min((tokens - 1) / tall * tall);
            let last = (first + tall).min(tokens) - 1;
            let mut seen = vec![vec![0; start + tokens]; last + 1 - first];
            for visit in visits(&regions, first, last, width) {
                for (t, seen) in (first..=last).zip(&mut seen) {
                    let i = start + t;
                    let inside = map.span(visit.region, i);
                    let tile = visit.tile * width..(visit.tile + 1) * width;
                    prop_assert!(
                        visit.masked || inside.start <= tile.start && tile.end <= inside.end,
                        "{visit:?} is not inside {inside:?} of query {i}"
                    );
                    for (j, seen) in seen.iter_mut().enumerate() {
                        if tile.contains(&j) && inside.contains(&j) {
                            *seen += 1;
                            let relative = map.query(visit.region, i) - map.key(visit.region, j);
                            prop_assert_eq!(Some(relative), map.relative(i, j));
                        }
                    }
                }
            }
            for (i, seen) in (start + first..).zip(&seen) {
                prop_assert!(seen[..=i].iter().all(|&n| n == 1));
                prop_assert!(seen[i + 1..].iter().all(|&n| n == 0));
            }
        }

        /// What SelfExtend costs beyond plain attention: the tiles that the two regions share.
        #[test]
        fn two_regions_share_few_tiles(
            g in 2usize..9, w in 1usize..3000, start in 0usize..20_000, tokens in 1usize..129,
        ) {
            let map = PositionMap::self_extend(g, w).unwrap();
            let count = |map: PositionMap| {
                let regions = Regions::new(&*map.positions(), start, tokens);
                visits(&regions, 0, tokens - 1, 64).len()
            };
            let (plain, both) = (count(PositionMap::Plain), count(map));
            prop_assert!(both <= plain + 3, "{both} visits instead of {plain}");
        }

        #[test]
        fn spans_never_go_back(g in 1usize..9, w in 1usize..300, start in 0usize..700) {
            let map = PositionMap::self_extend(g, w).unwrap();
            for ends in Regions::new(&*map.positions(), start, 200).spans {
                prop_assert!(ends.iter().all(|row| row.is_sorted()));
            }
        }
    }
}

//! Position maps as data for the kernels, and the rule by which they visit tiles of keys.

use selfextend_attention::PositionMap;

/// Most regions a map may have: what the kernels' arguments hold.
pub const MAX_REGIONS: usize = 3;

/// The regions of some consecutive queries.
///
/// Region `r` of query `t` holds the keys from `bounds[r][t]` up to, not including,
/// `bounds[r + 1][t]`. No row of bounds ever decreases: the kernels take the extent of a block
/// from its first and last query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// `[regions + 1][tokens]`.
    pub bounds: Vec<Vec<i32>>,
    /// What queries are rotated to, `[regions][tokens]`.
    pub query_positions: Vec<Vec<i32>>,
    /// What their own keys are rotated to, `[regions][tokens]`.
    pub key_positions: Vec<Vec<i32>>,
}

impl Regions {
    /// Of the `tokens` queries from position `start`.
    pub fn new(map: PositionMap, start: usize, tokens: usize) -> Self {
        let queries = start..start + tokens;
        let row = |f: &dyn Fn(usize) -> i64| -> Vec<i32> {
            queries
                .clone()
                .map(|i| i32::try_from(f(i)).expect("a cache checks that positions fit"))
                .collect()
        };
        let mut regions = Self {
            bounds: vec![vec![0; tokens]],
            query_positions: vec![row(&|i| map.base_query(i))],
            key_positions: vec![row(&|i| map.base_key(i))],
        };
        if map.has_window() {
            regions.bounds.push(row(&|i| map.window_start(i) as i64));
            regions.query_positions.push(row(&|i| map.window_query(i)));
            regions.key_positions.push(row(&|i| map.window_key(i)));
        }
        regions.bounds.push(row(&|i| i as i64 + 1));
        regions
    }

    /// The keys that any of the queries sees, of each region; nothing where it ends before it starts.
    pub fn extents(&self) -> [(i32, i32); MAX_REGIONS] {
        let mut extents = [(0, 0); MAX_REGIONS];
        for (to, bounds) in extents.iter_mut().zip(self.bounds.windows(2)) {
            if let (Some(&first), Some(&last)) = (bounds[0].first(), bounds[1].last()) {
                *to = (first, last);
            }
        }
        extents
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.query_positions.len()
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
/// `prefill.cu`, which has the same rule. Tiles that no query of the block sees are left out.
pub fn visits(regions: &Regions, first: usize, last: usize, width: usize) -> Vec<Visit> {
    let mut visits = Vec::new();
    for (region, bounds) in regions.bounds.windows(2).enumerate() {
        let (low, high) = (&bounds[0], &bounds[1]);
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

    proptest! {
        /// Every pair of a query and a key before it is seen exactly once, in the region whose
        /// positions give the map's relative position, and unmasked tiles are inside for all rows.
        #[test]
        fn every_pair_is_seen_once(
            g in 1usize..9, w in 1usize..300, start in 0usize..700, tokens in 1usize..300,
            block in 0usize..3, tall in prop_oneof![Just(64usize), Just(128)],
            width in prop_oneof![Just(16usize), Just(32), Just(64), Just(128)],
        ) {
            let map = PositionMap::self_extend(g, w).unwrap();
            let regions = Regions::new(map, start, tokens);
            let first = (block * tall).min((tokens - 1) / tall * tall);
            let last = (first + tall).min(tokens) - 1;
            let mut seen = vec![vec![0; start + tokens]; last + 1 - first];
            for visit in visits(&regions, first, last, width) {
                for t in first..=last {
                    let i = start + t;
                    let inside = regions.bounds[visit.region][t]..regions.bounds[visit.region + 1][t];
                    for j in visit.tile * width..(visit.tile + 1) * width {
                        let there = inside.contains(&(j as i32));
                        prop_assert!(there || visit.masked, "{visit:?} hides ({i}, {j})");
                        if there {
                            seen[t - first][j] += 1;
                            let key = Regions::new(map, j, 1).key_positions[visit.region][0];
                            let query = regions.query_positions[visit.region][t];
                            prop_assert_eq!((query - key) as usize, map.relative(i, j));
                        }
                    }
                }
            }
            for (row, seen) in seen.iter().enumerate() {
                let i = start + first + row;
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
            let count = |map| visits(&Regions::new(map, start, tokens), 0, tokens - 1, 64).len();
            let (plain, both) = (count(PositionMap::Plain), count(map));
            prop_assert!(both <= plain + 3, "{both} visits instead of {plain}");
        }

        #[test]
        fn bounds_never_decrease(g in 1usize..9, w in 1usize..300, start in 0usize..700) {
            let map = PositionMap::self_extend(g, w).unwrap();
            for row in Regions::new(map, start, 200).bounds {
                prop_assert!(row.is_sorted());
            }
        }
    }
}

//! A position map as numbers, for some consecutive queries: the one form that every backend reads.
//!
//! A [`Lowering`] has, for each region of the map, the span of keys of every query, the positions
//! that queries are rotated to, and where the region's keys are: in the plane of stored keys, or
//! in a plane of derived keys and at which positions there. It is filled again for every pass in
//! the memory of the one before, so a decode step allocates nothing.
//!
//! Nothing here assumes that keys come before their query: a span ends where the map says, at the
//! latest with the last key that is stored when the queries attend.

use crate::position::{Kept, Keys, Positions};
use std::ops::Range;

/// The regions of some consecutive queries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lowering {
    queries: Range<usize>,
    bands: usize,
    stored: Vec<f64>,
    regions: Vec<LoweredRegion>,
    gaps: bool,
}

/// One region of a [`Lowering`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoweredRegion {
    /// First key of each query, and the key after its last. Neither ever decreases.
    spans: Vec<(usize, usize)>,
    queries: Vec<f64>,
    keys: Vec<f64>,
    plane: usize,
    kept: Option<Kept>,
}

impl Lowering {
    /// Of the queries `queries`, which are the last tokens that are stored when they attend.
    pub fn new(map: &dyn Positions, queries: Range<usize>) -> Self {
        let mut lowering = Self::default();
        lowering.fill(map, queries);
        lowering
    }

    /// [`Lowering::new`] in the memory of an earlier lowering.
    pub fn fill(&mut self, map: &dyn Positions, queries: Range<usize>) {
        let end = queries.end;
        self.fill_up_to(map, queries, |_| end);
    }

    /// The same for queries that attend as if each were the last token that is stored.
    pub fn fill_steps(&mut self, map: &dyn Positions, queries: Range<usize>) {
        self.fill_up_to(map, queries, |i| i + 1);
    }

    /// Query `i` sees no key from `end(i)` on.
    fn fill_up_to(
        &mut self,
        map: &dyn Positions,
        queries: Range<usize>,
        end: impl Fn(usize) -> usize,
    ) {
        self.queries = queries.clone();
        self.bands = map.bands();
        let banded = |position: fn(&dyn Positions, usize, usize) -> f64, r: usize| {
            let bands = (0..map.bands()).map(|band| in_band(map, band));
            let queries = queries.clone();
            bands.flat_map(move |map| queries.clone().map(move |at| position(map, r, at)))
        };
        refill(&mut self.stored, banded(|map, _, j| map.stored(j), 0));
        let regions = map.regions();
        self.regions
            .resize_with(regions.len(), LoweredRegion::default);
        let mut planes = 0;
        for (r, (region, keys)) in self.regions.iter_mut().zip(&*regions).enumerate() {
            let bounded = queries.clone().map(|i| {
                let span = map.span(r, i);
                let end = span.end.min(end(i));
                (span.start.min(end), end)
            });
            refill(&mut region.spans, bounded);
            refill(&mut region.queries, banded(|map, r, i| map.query(r, i), r));
            match *keys {
                Keys::Stored => {
                    (region.plane, region.kept) = (0, None);
                    region.keys.clear();
                }
                Keys::Derived(kept) => {
                    planes += 1;
                    (region.plane, region.kept) = (planes, Some(kept));
                    refill(&mut region.keys, banded(|map, r, j| map.key(r, j), r));
                }
            }
        }
        self.gaps = (0..self.len()).any(|t| self.has_gap(t));
    }

    /// Whether query `t` does not see some key between those that it sees.
    fn has_gap(&self, t: usize) -> bool {
        let mut next = 0;
        self.regions.iter().any(|region| {
            let gap = region.start(t) != next;
            next = region.end(t);
            gap
        })
    }

    /// The queries, by position.
    pub fn queries(&self) -> Range<usize> {
        self.queries.clone()
    }

    /// How many queries.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there is no query.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// How many bands of pairs have positions of their own. Lists of positions hold those of all
    /// tokens in band 0, the slowest pairs, then those in band 1, and so on.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// The positions at which the keys of the same tokens are stored.
    pub fn stored(&self) -> &[f64] {
        &self.stored
    }

    /// From the farthest keys to the nearest.
    pub fn regions(&self) -> &[LoweredRegion] {
        &self.regions
    }

    /// Whether some query does not see some key between those that it sees.
    pub fn has_gaps(&self) -> bool {
        self.gaps
    }

    /// The key after the last that query `t` of them sees.
    #[inline(always)]
    pub fn end(&self, t: usize) -> usize {
        self.regions.last().map_or(0, |region| region.end(t))
    }

    /// The tiles of `width` keys that a block of the queries `first..=last` multiplies with: region
    /// after region, each from left to right. Tiles that no query of the block sees are left out.
    ///
    /// A tile that two regions share is visited once in each, with complementary masks.
    pub fn visits(
        &self,
        first: usize,
        last: usize,
        width: usize,
    ) -> impl Iterator<Item = Visit> + '_ {
        let regions = self.regions.iter().enumerate();
        regions.flat_map(move |(region, it)| {
            let tiles = it.tiles(first, last, width);
            tiles.range().map(move |tile| Visit {
                region,
                tile,
                masked: tiles.is_masked(tile),
            })
        })
    }
}

impl LoweredRegion {
    /// The first key of query `t`.
    #[inline(always)]
    pub fn start(&self, t: usize) -> usize {
        self.spans[t].0
    }

    /// The key after the last of query `t`.
    #[inline(always)]
    pub fn end(&self, t: usize) -> usize {
        self.spans[t].1
    }

    /// The keys of each query: the first, and the one after the last.
    pub fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    /// From the first key of the first query to the last of the last: all that any of them sees.
    /// Empty where no query sees a key.
    pub fn extent(&self) -> Range<usize> {
        match (self.spans.first(), self.spans.last()) {
            (Some(first), Some(last)) => first.0..last.1.max(first.0),
            _ => 0..0,
        }
    }

    /// Whether one of the queries `first..=last` may see one of the keys `from..to`.
    #[inline(always)]
    pub fn touches(&self, first: usize, last: usize, from: usize, to: usize) -> bool {
        let (start, end) = (self.spans[first].0, self.spans[last].1);
        start < end && from < end && to > start
    }

    /// The positions that queries are rotated to.
    pub fn query_positions(&self) -> &[f64] {
        &self.queries
    }

    /// The positions that keys of the same tokens are rotated to where the region's keys are
    /// derived; empty where they are the stored ones.
    pub fn key_positions(&self) -> &[f64] {
        &self.keys
    }

    /// The plane of keys that the region reads: 0 for the stored ones, then one for each region
    /// whose keys are derived.
    pub fn plane(&self) -> usize {
        self.plane
    }

    /// Which keys the plane keeps; `None` where they are the stored ones.
    pub fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// Whether its keys are derived.
    #[inline(always)]
    pub fn is_derived(&self) -> bool {
        self.plane > 0
    }

    /// The tiles of `width` keys that a block of the queries `first..=last` visits. `Tiles` in
    /// `common.cuh` of the CUDA crate is the same rule.
    pub fn tiles(&self, first: usize, last: usize, width: usize) -> Tiles {
        let ((low_first, high_first), (low_last, high_last)) =
            (self.spans[first], self.spans[last]);
        let from = low_first / width;
        Tiles {
            width,
            from,
            to: if high_last > low_first {
                high_last.div_ceil(width)
            } else {
                from
            },
            low_last,
            high_first,
        }
    }
}

/// Tiles of keys of one region that a block of queries visits, from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    width: usize,
    from: usize,
    to: usize,
    /// The first key of the block's last query.
    low_last: usize,
    /// The key after the last of the block's first query.
    high_first: usize,
}

impl Tiles {
    /// Their numbers; a tile's first key is its number times the width.
    pub fn range(self) -> Range<usize> {
        self.from..self.to
    }

    /// Whether some query of the block does not see some key of a tile.
    pub fn is_masked(self, tile: usize) -> bool {
        let key = tile * self.width;
        key < self.low_last || key + self.width > self.high_first
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

/// The positions of key `j`: where it is stored, and in a region that derives it from there.
pub fn key_positions(map: &dyn Positions, region: usize, j: usize) -> [f64; 2] {
    [map.stored(j), map.key(region, j)]
}

/// A map as a band of pairs sees it.
pub(crate) fn in_band(map: &dyn Positions, band: usize) -> &dyn Positions {
    map.band(band).unwrap_or(map)
}

fn refill<T>(to: &mut Vec<T>, from: impl Iterator<Item = T>) {
    to.clear();
    to.extend(from);
}

#[cfg(test)]
pub(crate) mod tests;

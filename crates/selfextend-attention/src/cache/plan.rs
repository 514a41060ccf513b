//! What the next tokens of a sequence need, computed once and used by every layer of a kind.

use super::{DeltaTable, LayerCache, LayerKind};
use crate::position::{Keys, Positions};
use crate::rope::RopeTable;
use std::ops::Range;

/// Regions and rotations of the next tokens of a sequence.
#[derive(Debug, Default)]
pub struct StepPlan {
    pub(crate) start: usize,
    pub(crate) tokens: usize,
    /// Whether it goes through the decode path.
    pub(crate) decode: bool,
    pub(crate) query_factors: Vec<f32>,
    /// One for each kind of layer.
    pub(crate) kinds: Vec<KindPlan>,
}

/// A plan for the layers of one kind.
#[derive(Debug, Default)]
pub(crate) struct KindPlan {
    /// Rotations of the new keys as they are stored.
    pub keys: RopeTable,
    /// From the farthest keys to the nearest.
    pub regions: Vec<RegionPlan>,
    /// Whether some keys are in no region.
    pub gaps: bool,
}

/// One region of a plan.
#[derive(Debug, Default)]
pub(crate) struct RegionPlan {
    /// The keys of each new token: first and end. Neither ever decreases.
    spans: Vec<(usize, usize)>,
    /// Rotations of the new queries.
    pub queries: RopeTable,
    /// Whether its keys are derived from the stored ones.
    pub derived: bool,
    /// Rotations from the stored position of the keys to the region's.
    pub deltas: DeltaTable,
}

impl RegionPlan {
    /// The first key of token `t`.
    #[inline(always)]
    pub fn start(&self, t: usize) -> usize {
        self.spans[t].0
    }

    /// The end of the keys of token `t`.
    #[inline(always)]
    pub fn end(&self, t: usize) -> usize {
        self.spans[t].1
    }

    /// The end of the last token's keys.
    pub fn last_end(&self) -> usize {
        self.spans.last().map_or(0, |span| span.1)
    }

    /// Whether one of the tokens `first..=last` may see one of the keys `from..to`.
    #[inline(always)]
    pub fn touches(&self, first: usize, last: usize, from: usize, to: usize) -> bool {
        let (start, end) = (self.spans[first].0, self.spans[last].1);
        start < end && from < end && to > start
    }
}

impl KindPlan {
    /// Computes it for the tokens `tokens`. A decode step derives only the keys that `layer`, one
    /// of the kind, does not hold yet.
    pub fn fill(
        &mut self,
        kind: &LayerKind,
        tokens: Range<usize>,
        layer: Option<&LayerCache>,
        decode: bool,
    ) {
        let (map, rope) = (&*kind.positions, &*kind.rope);
        self.keys.fill(rope, tokens.clone().map(|j| map.stored(j)));
        self.regions
            .resize_with(kind.regions.len(), RegionPlan::default);
        for (r, (plan, keys)) in self.regions.iter_mut().zip(&kind.regions).enumerate() {
            plan.spans.clear();
            let spans = tokens.clone().map(|i| kind.span(r, i));
            plan.spans.extend(spans.map(|span| (span.start, span.end)));
            let queries = tokens.clone().map(|i| map.query(r, i));
            plan.queries.fill(rope, queries);
            plan.derived = matches!(keys, Keys::Derived { .. });
            let ends = plan.spans.first().zip(plan.spans.last());
            let (needed, end) = ends.map_or((0, 0), |(first, last)| (first.0, last.1));
            let held = match layer {
                Some(layer) if decode => layer.rings[r].held_until(needed),
                _ => needed,
            };
            if plan.derived && held < end {
                let delta = |j| map.key(r, j) - map.stored(j);
                plan.deltas.fill(rope, held, end, delta);
            } else {
                plan.deltas.fill(rope, 0, 0, |_| 0.0);
            }
        }
        self.gaps = self.has_gaps(tokens.len());
    }

    fn has_gaps(&self, tokens: usize) -> bool {
        (0..tokens).any(|t| {
            let mut next = 0;
            self.regions.iter().any(|region| {
                let gap = region.start(t) != next;
                next = region.end(t);
                gap
            })
        })
    }

    /// Masks the scores of token `t` against the keys from `first` on that are in no region.
    #[inline(always)]
    pub fn mask(&self, t: usize, first: usize, scores: &mut [f32]) {
        let end = first + scores.len();
        let spans = self.regions.iter().map(|region| region.spans[t]);
        let mut next = first;
        for (from, to) in spans.chain([(end, end)]) {
            let from = from.clamp(next, end);
            scores[next - first..from - first].fill(f32::NEG_INFINITY);
            next = to.clamp(from, end);
        }
    }
}

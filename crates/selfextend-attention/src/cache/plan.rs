//! What the next tokens of a sequence need, computed once and used by every layer of a kind.

use super::derived::DeltaTable;
use super::held::Held;
use super::kind::LayerKind;
use crate::lowering::{Lowering, in_band, key_positions};
use crate::position::QueryScaling;
use crate::rope::RopeTable;
use std::ops::Range;

/// Spans and rotations of the next tokens of a sequence; made by
/// [`KvCache::plan`](crate::KvCache::plan).
#[derive(Debug, Default)]
pub struct SegmentPlan {
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
    /// The map as numbers.
    pub lowering: Lowering,
    /// Rotations of the new keys as they are stored.
    pub keys: RopeTable,
    /// Of each region.
    pub rotations: Vec<Rotations>,
}

/// Rotations of one region.
#[derive(Debug, Default)]
pub(crate) struct Rotations {
    /// Of the new queries.
    pub queries: RopeTable,
    /// From the stored position of the keys to the region's; no panel where they are the same, or
    /// where a ring holds them already.
    pub deltas: DeltaTable,
}

impl SegmentPlan {
    /// How many tokens it was made for.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// What the kinds have in common.
    pub(super) fn start(
        &mut self,
        queries: Range<usize>,
        decode: bool,
        scaling: QueryScaling,
        kinds: usize,
    ) {
        (self.start, self.tokens, self.decode) = (queries.start, queries.len(), decode);
        self.query_factors.clear();
        self.query_factors
            .extend(queries.map(|i| scaling.factor(i)));
        self.kinds.resize_with(kinds, KindPlan::default);
    }
}

impl KindPlan {
    /// Computes the rotations of the queries that are lowered. A decode step gives what the rings of
    /// the kind hold, and derives only the other keys.
    pub(super) fn fill(&mut self, kind: &LayerKind, held: Option<&[Held]>) {
        let rope = kind.rope();
        let bands = self.lowering.bands();
        self.keys.fill_bands(rope, bands, self.lowering.stored());
        let regions = self.lowering.regions();
        self.rotations
            .resize_with(regions.len(), Rotations::default);
        for (r, (to, region)) in self.rotations.iter_mut().zip(regions).enumerate() {
            to.queries.fill_bands(rope, bands, region.query_positions());
            let seen = region.extent();
            let first = held.map_or(seen.start, |held| held[r].until(seen.start));
            if region.is_derived() && first < seen.end {
                let delta = |j, band| {
                    let [stored, there] = key_positions(in_band(kind, band), r, j);
                    there - stored
                };
                to.deltas.fill(rope, first..seen.end, bands, delta);
            } else {
                to.deltas.fill(rope, 0..0, bands, |_, _| 0.0);
            }
        }
    }

    /// Masks the scores of token `t` against the keys from `first` on that are in no region.
    #[inline(always)]
    pub fn mask(&self, t: usize, first: usize, scores: &mut [f32]) {
        let end = first + scores.len();
        let regions = self.lowering.regions().iter();
        let spans = regions.map(|region| (region.start(t), region.end(t)));
        let mut next = first;
        for (from, to) in spans.chain([(end, end)]) {
            let from = from.clamp(next, end);
            scores[next - first..from - first].fill(f32::NEG_INFINITY);
            next = to.clamp(from, end);
        }
    }
}

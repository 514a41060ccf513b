//! The new tokens of a sequence in a pass, and in one layer of it.

use crate::cache::{KindPlan, KvCache, LayerCache, SegmentPlan};
use crate::lowering::LoweredRegion;
use crate::rope::Rope;
use crate::simd::kernels::hadamard;

/// The new tokens of one sequence in a pass: those that follow its cache.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Where its keys and values are, and go.
    pub cache: &'a mut KvCache,
    /// Made by [`KvCache::plan`] for the number of new tokens.
    pub plan: &'a SegmentPlan,
}

/// A segment in one layer, whose keys and values are stored.
#[derive(Clone, Copy)]
pub(super) struct LayerSegment<'a> {
    pub cache: &'a KvCache,
    pub plan: &'a SegmentPlan,
    pub layer: usize,
    /// Its first row in the packed input and output.
    pub row: usize,
}

impl<'a> LayerSegment<'a> {
    pub fn layer(&self) -> &'a LayerCache {
        self.cache.layer(self.layer)
    }

    /// The plan for this layer.
    pub fn kind(&self) -> &'a KindPlan {
        &self.plan.kinds[self.layer().kind]
    }

    /// The soft cap of scores, which are logarithms in base 2.
    pub fn soft_cap(&self) -> Option<f32> {
        let cap = self.cache.shape().soft_cap();
        cap.map(|cap| cap * std::f32::consts::LOG2_E)
    }

    /// The rotary embedding of this layer.
    pub fn rope(&self) -> &'a Rope {
        self.cache.rope(self.layer)
    }

    pub fn regions(&self) -> &'a [LoweredRegion] {
        self.kind().lowering.regions()
    }

    /// The key after the last that token `token` sees.
    #[inline(always)]
    pub fn end(&self, token: usize) -> usize {
        self.kind().lowering.end(token)
    }

    /// Copies one head of the query of token `token`, rotated for a region and scaled so that
    /// scores are logarithms in base 2; transformed where the region's keys are.
    pub fn query(&self, q: &[f32], region: usize, token: usize, head: usize, to: &mut [f32]) {
        let (shape, rotations) = (self.cache.shape(), &self.kind().rotations[region]);
        let from = ((self.row + token) * shape.heads() + head) * shape.head_dim();
        let query = &q[from..from + shape.head_dim()];
        let scale = shape.scale() * self.plan.query_factors[token] * std::f32::consts::LOG2_E;
        to.iter_mut()
            .zip(query)
            .for_each(|(to, from)| *to = from * scale);
        self.rope().rotate(&rotations.queries, token, to);
        let transformed = self.cache.kv_type().is_transformed();
        if transformed && !self.regions()[region].is_derived() {
            hadamard(to);
        }
    }

    /// Undoes in one head's weighted sum of values what was done to the values when they were stored.
    pub fn finish(&self, sum: &mut [f32]) {
        if self.cache.kv_type().is_transformed() {
            hadamard(sum);
        }
    }
}

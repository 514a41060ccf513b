//! The new tokens of a sequence in a pass, and in one layer of it.

use crate::cache::{KindPlan, KvCache, LayerCache, SegmentPlan};
use crate::lowering::LoweredRegion;
use crate::rope::Rope;
use crate::simd::kernels::{Running, hadamard};

/// The new tokens of one sequence in a pass: those that follow its cache.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Where its keys and values are, and go.
    pub cache: &'a mut KvCache,
    /// Made by [`KvCache::plan`] for the number of new tokens.
    pub plan: &'a SegmentPlan,
}

/// Numbers of a layer that its attention needs beside queries, keys and values; each may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadWeights<'a> {
    /// The sink of each query head: a number that takes part in its softmax as a score does, and has no
    /// value. No method moves it, as it is at no position.
    pub sinks: &'a [f32],
    /// What the components of a query's head are multiplied by once it is rotated. Where queries and keys
    /// are normalised after their rotation, which leaves their length, these are the weights of both
    /// norms, one times the other. Scores then depend on the positions of the map themselves, no longer
    /// on their differences alone.
    pub turned: &'a [f32],
}

/// A segment in one layer, whose keys and values are stored.
#[derive(Clone, Copy)]
pub(super) struct LayerSegment<'a> {
    pub cache: &'a KvCache,
    pub plan: &'a SegmentPlan,
    pub layer: usize,
    /// Its first row in the packed input and output.
    pub row: usize,
    pub weights: HeadWeights<'a>,
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
        let turned = self.weights.turned.iter();
        to.iter_mut().zip(turned).for_each(|(to, w)| *to *= w);
        let transformed = self.cache.kv_type().is_transformed();
        if transformed && !self.regions()[region].is_derived() {
            hadamard(to);
        }
    }

    /// The sum that a head's weights are divided by. A sink is a score without a value: it takes a part
    /// of the weights, and gives nothing for it.
    #[inline(always)]
    pub fn total(&self, head: usize, state: Running) -> f32 {
        match self.weights.sinks.get(head) {
            None => state.sum,
            Some(sink) => state.sum + (sink * std::f32::consts::LOG2_E - state.max).exp2(),
        }
    }

    /// Undoes in one head's weighted sum of values what was done to the values when they were stored.
    pub fn finish(&self, sum: &mut [f32]) {
        if self.cache.kv_type().is_transformed() {
            hadamard(sum);
        }
    }
}

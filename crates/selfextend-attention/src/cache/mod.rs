//! Keys and values of one sequence, for all layers.
//!
//! Keys are stored once, rotated for the base region of the position map. The keys of the window
//! region (SelfExtend's neighbours) are always *derived* from the stored ones by the rotation
//! that lies between the two positions, and rounded to the storage type:
//!
//! * a prefill derives those it needs for one layer at a time, in a scratch buffer;
//! * a decode step keeps them in a ring of `W` keys per layer and adds one per step.
//!
//! So the extra memory is `W` keys (3.1% of plain attention's cache at 16 W tokens), and because
//! the ring holds nothing that could not be derived again, truncating or forking a sequence
//! anywhere gives bit for bit what a fresh run would.

mod block;
mod page;
mod plain;
mod quantized;
mod window;

pub use block::KvBlock;
pub use page::{LayerPages, PAGE, Page};
pub(crate) use page::{Stored, with_stored};
pub use window::{DeltaTable, RingKeys, WindowRing, derive_panels};

use crate::attention::AttentionShape;
use crate::position::{PositionMap, QueryScaling};
use crate::rope::{Rope, RopeTable};
use std::sync::Arc;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 4 bytes per component; the reference.
    F32,
    /// 2 bytes per component.
    #[default]
    F16,
    /// Bytes with a half-float scale for each 32 components (ggml's q8_0).
    Q8_0,
}

/// Keys and values of one sequence. Cloning it forks the sequence: full pages are shared.
#[derive(Debug, Clone)]
pub struct KvCache {
    shape: AttentionShape,
    kv_type: KvType,
    map: PositionMap,
    scaling: QueryScaling,
    rope: Arc<Rope>,
    layers: Vec<LayerCache>,
    len: usize,
}

/// One layer of a cache.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    pub pages: LayerPages,
    pub ring: WindowRing,
}

/// Rotations of the next tokens of a sequence, computed once and used by every layer.
#[derive(Debug, Default)]
pub struct StepPlan {
    pub(crate) start: usize,
    pub(crate) tokens: usize,
    /// Whether it goes through the decode path.
    pub(crate) decode: bool,
    pub(crate) query_factors: Vec<f32>,
    pub(crate) base_keys: RopeTable,
    pub(crate) base_queries: RopeTable,
    pub(crate) window_queries: RopeTable,
    pub(crate) window_deltas: DeltaTable,
}

/// Up to this many new tokens, a step goes through the decode path (split over keys, window ring).
pub(crate) const DECODE_TOKENS: usize = 4;

impl KvCache {
    /// An empty cache.
    pub fn new(
        shape: AttentionShape,
        layers: usize,
        kv_type: KvType,
        map: PositionMap,
        rope: impl Into<Arc<Rope>>,
    ) -> Self {
        let layer = LayerCache {
            pages: LayerPages::new(shape, kv_type),
            ring: WindowRing::new(shape, kv_type, map.window_len()),
        };
        Self {
            shape,
            kv_type,
            map,
            scaling: QueryScaling::None,
            rope: rope.into(),
            layers: vec![layer; layers],
            len: 0,
        }
    }

    /// The same with scaled queries.
    pub fn with_query_scaling(self, scaling: QueryScaling) -> Self {
        Self { scaling, ..self }
    }

    /// Tokens whose keys and values are stored in every layer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heads and head size.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// The position map its keys are rotated for.
    pub fn map(&self) -> PositionMap {
        self.map
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Bytes allocated, window rings included.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.pages.bytes() + layer.ring.bytes())
            .sum()
    }

    /// Computes what the next `tokens` tokens need, for all layers.
    pub fn plan(&self, tokens: usize) -> StepPlan {
        let mut plan = StepPlan::default();
        self.plan_into(tokens, &mut plan);
        plan
    }

    /// [`KvCache::plan`] in the memory of an earlier plan.
    pub fn plan_into(&self, tokens: usize, plan: &mut StepPlan) {
        self.plan_step(tokens, tokens <= DECODE_TOKENS, plan);
    }

    /// The same for a step that goes through the prefill path whatever its length. The two paths
    /// add up in different orders: with this one, the result of a token does not depend on how
    /// many were computed with it.
    pub fn plan_prefill_into(&self, tokens: usize, plan: &mut StepPlan) {
        self.plan_step(tokens, false, plan);
    }

    fn plan_step(&self, tokens: usize, decode: bool, plan: &mut StepPlan) {
        let (start, end, map) = (self.len, self.len + tokens, self.map);
        let rope = &self.rope;
        (plan.start, plan.tokens, plan.decode) = (start, tokens, decode);
        plan.query_factors.clear();
        let factors = (start..end).map(|i| self.scaling.factor(i));
        plan.query_factors.extend(factors);
        plan.base_keys
            .fill(rope, (start..end).map(|j| map.base_key(j)));
        let queries = (start..end).map(|i| map.base_query(i));
        plan.base_queries.fill(rope, queries);
        if map.has_window() {
            // A decode step needs only the keys its ring does not hold yet.
            let held = self
                .layers
                .first()
                .map_or(0, |layer| layer.ring.held_until(start));
            let first = if decode { held } else { 0 };
            let first = map.window_start(start).max(first).min(end);
            let queries = (start..end).map(|i| map.window_query(i));
            plan.window_queries.fill(rope, queries);
            let delta = |j| map.window_key(j) - map.base_key(j);
            plan.window_deltas.fill(rope, first, end, delta);
        } else {
            // The plan may have served another map before.
            plan.window_queries.fill(rope, std::iter::empty());
            plan.window_deltas.fill(rope, 0, 0, |_| 0);
        }
    }

    /// Counts `tokens` planned tokens as stored, after every layer has attended.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Forgets every token from `len` on. Longer than the sequence: nothing happens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for layer in &mut self.layers {
            layer.pages.truncate(self.len);
            layer.ring.truncate(self.len);
        }
    }

    /// Stores the keys and values of a planned step in one layer. `keys` and `values` are
    /// `[tokens][kv_heads * head_dim]`, keys not yet rotated.
    pub(crate) fn append(&mut self, layer: usize, plan: &StepPlan, keys: &[f32], values: &[f32]) {
        let pages = &mut self.layers[layer].pages;
        pages.append(plan.start, plan.tokens, keys, values, |token, head| {
            self.rope.rotate(&plan.base_keys, token, head);
        });
    }

    /// Brings a layer's ring up to the keys a decode step needs.
    pub(crate) fn update_ring(&mut self, layer: usize, plan: &StepPlan) {
        if self.map.has_window() {
            let LayerCache { pages, ring } = &mut self.layers[layer];
            ring.update(
                pages,
                &self.rope,
                &plan.window_deltas,
                plan.start + plan.tokens,
            );
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }
}

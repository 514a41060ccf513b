//! Keys and values of one sequence, for all layers.
//!
//! Keys are stored once, at the stored position of the map. Keys of a region whose positions differ
//! (SelfExtend's neighbours) are always *derived* from the stored ones by the rotation that lies
//! between the two positions, and rounded to the storage type:
//!
//! * a prefill derives those it needs for one layer at a time, in a scratch buffer;
//! * a decode step keeps them in a ring per layer and region, and adds one per step.
//!
//! So SelfExtend's extra memory is `W` keys (3.1% of plain attention's cache at 16 W tokens), and
//! because a ring holds nothing that could not be derived again, truncating or forking a sequence
//! anywhere gives bit for bit what a fresh run would.
//!
//! Pages that no later query sees (a map that forgets, a layer with a sliding window) are freed, so
//! such a cache stays bounded. Truncating to where they would be seen again starts afresh.

mod block;
mod kind;
mod page;
mod plain;
mod plan;
mod quantized;
mod window;

pub use block::KvBlock;
pub use kind::LayerKind;
pub use page::{LayerPages, PAGE, Page};
pub(crate) use page::{Stored, WeightScratch, with_stored};
pub use plan::StepPlan;
pub(crate) use plan::{KindPlan, RegionPlan};
pub use window::{DeltaTable, WindowRing, derive_panels};

use crate::attention::AttentionShape;
use crate::position::{PositionMap, Positions, QueryScaling};
use crate::rope::Rope;
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
    scaling: QueryScaling,
    kinds: Vec<LayerKind>,
    layers: Vec<LayerCache>,
    len: usize,
}

/// One layer of a cache.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    /// Which of the cache's kinds it is.
    pub kind: usize,
    pub pages: LayerPages,
    /// One for each region; those of stored regions stay empty.
    pub rings: Vec<WindowRing>,
}

/// Up to this many new tokens, a step goes through the decode path (split over keys, rings).
pub(crate) const DECODE_TOKENS: usize = 4;

/// Pages are freed this many tokens late, so that a sequence can be shortened a little.
const SLACK: usize = PAGE;

impl KvCache {
    /// An empty cache whose layers are all alike.
    pub fn new(
        shape: AttentionShape,
        layers: usize,
        kv_type: KvType,
        map: PositionMap,
        rope: impl Into<Arc<Rope>>,
    ) -> Self {
        let kind = LayerKind::new(map, rope);
        Self::with_kinds(shape, kv_type, vec![kind], (0..layers).map(|_| 0))
    }

    /// An empty cache with layers of several kinds; `layers` names the kind of each.
    ///
    /// # Panics
    /// When a layer is of a kind that is not there.
    pub fn with_kinds(
        shape: AttentionShape,
        kv_type: KvType,
        kinds: Vec<LayerKind>,
        layers: impl IntoIterator<Item = usize>,
    ) -> Self {
        let layer = |kind: usize| LayerCache {
            kind,
            pages: LayerPages::new(shape, kv_type),
            rings: kinds[kind].rings(shape, kv_type),
        };
        Self {
            shape,
            kv_type,
            scaling: QueryScaling::None,
            layers: layers.into_iter().map(layer).collect(),
            kinds,
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

    /// The kinds of its layers.
    pub fn kinds(&self) -> &[LayerKind] {
        &self.kinds
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Bytes allocated, window rings included.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| {
                let rings: usize = layer.rings.iter().map(WindowRing::bytes).sum();
                layer.pages.bytes() + rings
            })
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
        let (start, end) = (self.len, self.len + tokens);
        (plan.start, plan.tokens, plan.decode) = (start, tokens, decode);
        plan.query_factors.clear();
        let factors = (start..end).map(|i| self.scaling.factor(i));
        plan.query_factors.extend(factors);
        plan.kinds.resize_with(self.kinds.len(), KindPlan::default);
        for (number, (plan, kind)) in plan.kinds.iter_mut().zip(&self.kinds).enumerate() {
            let layer = self.layers.iter().find(|layer| layer.kind == number);
            plan.fill(kind, start..end, layer, decode);
        }
    }

    /// Counts `tokens` planned tokens as stored, after every layer has attended.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
        for layer in &mut self.layers {
            let forgotten = self.kinds[layer.kind].forgotten(self.len);
            let end = forgotten.end.saturating_sub(SLACK);
            layer.pages.forget(forgotten.start..end);
        }
    }

    /// Forgets every token from `len` on, and returns how many are left: `len`, or all of a shorter
    /// sequence, or none where keys that the next query would see have been freed already.
    #[must_use = "fewer tokens than asked for may be left"]
    pub fn truncate(&mut self, len: usize) -> usize {
        if len < self.len {
            let whole = |layer: &LayerCache| {
                let forgotten = self.kinds[layer.kind].forgotten(len);
                layer.pages.only_forgot(forgotten)
            };
            self.len = if self.layers.iter().all(whole) {
                len
            } else {
                0
            };
        }
        for layer in &mut self.layers {
            layer.pages.truncate(self.len);
            layer
                .rings
                .iter_mut()
                .for_each(|ring| ring.truncate(self.len));
        }
        self.len
    }

    /// Stores the keys and values of a planned step in one layer. `keys` and `values` are
    /// `[tokens][kv_heads * head_dim]`, keys not yet rotated.
    pub(crate) fn append(&mut self, layer: usize, plan: &StepPlan, keys: &[f32], values: &[f32]) {
        let LayerCache { kind, pages, .. } = &mut self.layers[layer];
        let (rope, table) = (&self.kinds[*kind].rope, &plan.kinds[*kind].keys);
        pages.append(plan.start, plan.tokens, keys, values, |token, head| {
            rope.rotate(table, token, head);
        });
    }

    /// Brings a layer's rings up to the keys a decode step needs.
    pub(crate) fn update_rings(&mut self, layer: usize, plan: &StepPlan) {
        let LayerCache { kind, pages, rings } = &mut self.layers[layer];
        let (rope, plan) = (&self.kinds[*kind].rope, &plan.kinds[*kind]);
        for (ring, region) in rings.iter_mut().zip(&plan.regions) {
            // Nothing to add where everything is held already.
            if !region.deltas.panels().is_empty() {
                ring.update(pages, rope, &region.deltas, region.last_end());
            }
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    /// The rotary embedding of a layer.
    pub(crate) fn rope(&self, layer: usize) -> &Rope {
        &self.kinds[self.layers[layer].kind].rope
    }
}

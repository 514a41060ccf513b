//! Keys and values of one sequence, in all layers.

use super::derived::DerivedRing;
use super::held::Held;
use super::kind::LayerKind;
use super::kv_type::KvType;
use super::pages::LayerPages;
use super::plan::SegmentPlan;
use super::stored::{DECODE_TOKENS, MOST_STEPS, PAGE};
use crate::position::{PositionMap, Positions, QueryScaling};
use crate::rope::Rope;
use crate::shape::AttentionShape;
use std::sync::Arc;

/// Keys and values of one sequence. Cloning it forks the sequence: full pages are shared.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(super) shape: AttentionShape,
    pub(super) kv_type: KvType,
    scaling: QueryScaling,
    kinds: Vec<LayerKind>,
    pub(super) layers: Vec<LayerCache>,
    pub(super) len: usize,
    /// What the rings of each kind and region hold, in all of its layers.
    held: Vec<Vec<Held>>,
    /// The same once the pass under way is counted.
    next: Vec<Vec<Held>>,
}

/// One layer of a cache.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    /// Which of the cache's kinds it is.
    pub kind: usize,
    pub pages: LayerPages,
    /// One for each region; those of stored regions stay empty.
    pub rings: Vec<DerivedRing>,
}

/// Pages are freed this many tokens late, so that a sequence can still be shortened a little.
const SLACK: usize = PAGE;
// Decode steps that turn out to be unwanted can be taken back.
const _: () = assert!(MOST_STEPS <= SLACK);

/// Which kernels the next tokens go through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// Those for many tokens.
    Many,
    /// Those for few.
    Few,
    /// Those for few, each token as if it came alone.
    Steps,
}

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
    /// When a layer names a kind that does not exist.
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
        let layers = layers.into_iter().map(layer).collect();
        let regions = kinds.iter().map(|kind| kind.regions().len());
        let held: Vec<Vec<Held>> = regions.map(|count| vec![Held::default(); count]).collect();
        Self {
            shape,
            kv_type,
            scaling: QueryScaling::None,
            layers,
            kinds,
            len: 0,
            next: held.clone(),
            held,
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

    /// Bytes allocated, rings of derived keys included.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| {
                let rings: usize = layer.rings.iter().map(DerivedRing::bytes).sum();
                layer.pages.bytes() + rings
            })
            .sum()
    }

    /// Bytes of the rings of derived keys once a decode step has been made.
    pub fn ring_bytes(&self) -> usize {
        let rings = self.layers.iter().flat_map(|layer| &layer.rings);
        rings.map(DerivedRing::capacity).sum()
    }

    /// Computes what the next `tokens` tokens need, for all layers. Up to 4 tokens go through the
    /// decode path.
    pub fn plan(&self, tokens: usize) -> SegmentPlan {
        let mut plan = SegmentPlan::default();
        self.plan_into(tokens, &mut plan);
        plan
    }

    /// [`KvCache::plan`] in the memory of an earlier plan.
    pub fn plan_into(&self, tokens: usize, plan: &mut SegmentPlan) {
        let kernels = if tokens <= DECODE_TOKENS {
            Kernels::Few
        } else {
            Kernels::Many
        };
        self.plan_as(tokens, kernels, plan);
    }

    /// The same for tokens that go through the decode path as if each came alone: bit for bit what as
    /// many passes of one token give.
    ///
    /// # Panics
    /// With more than [`MOST_STEPS`] tokens.
    pub fn plan_steps_into(&self, tokens: usize, plan: &mut SegmentPlan) {
        assert!(tokens <= MOST_STEPS, "{tokens} decode steps at once");
        self.plan_as(tokens, Kernels::Steps, plan);
    }

    /// The same for tokens that go through the prefill path however few they are. The two paths
    /// add up in different orders: with this one, the result of a token does not depend on how
    /// many were computed with it.
    pub fn plan_prefill_into(&self, tokens: usize, plan: &mut SegmentPlan) {
        self.plan_as(tokens, Kernels::Many, plan);
    }

    fn plan_as(&self, tokens: usize, kernels: Kernels, plan: &mut SegmentPlan) {
        let queries = self.len..self.len + tokens;
        let decode = kernels != Kernels::Many;
        plan.start(queries.clone(), decode, self.scaling, self.kinds.len());
        let kinds = self.kinds.iter().zip(&self.held);
        for (plan, (kind, held)) in plan.kinds.iter_mut().zip(kinds) {
            if kernels == Kernels::Steps {
                plan.lowering.fill_steps(kind, queries.clone());
            } else {
                plan.lowering.fill(kind, queries.clone());
            }
            plan.fill(kind, decode.then_some(held));
        }
    }

    /// Counts `tokens` planned tokens as stored, after every layer has attended. A pass that is not
    /// counted, because it ended before its last layer, leaves nothing behind that a later one sees.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
        for (held, next) in self.held.iter_mut().zip(&self.next) {
            held.copy_from_slice(next);
        }
        for layer in &mut self.layers {
            let next = self.len.saturating_sub(SLACK);
            layer.pages.forget(self.kinds[layer.kind].forgotten(next));
        }
    }

    /// Forgets every token from `len` on, and returns how many are left: `len`, or all of a shorter
    /// sequence, or none where keys that the next query would see have been freed already; those of the
    /// last [`PAGE`] queries never are.
    #[must_use = "fewer tokens than requested may be left"]
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
        }
        let len = self.len;
        let held = self.held.iter_mut().flatten();
        held.for_each(|held| held.truncate(len));
        self.len
    }

    /// Whether the next tokens are those of a plan.
    pub(crate) fn continues(&self, plan: &SegmentPlan) -> bool {
        plan.start == self.len && plan.kinds.len() == self.kinds.len()
    }

    /// Stores the keys and values of a planned segment in one layer. `keys` and `values` are
    /// `[tokens][kv_heads * head_dim]`, keys not yet rotated.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        plan: &SegmentPlan,
        keys: &[f32],
        values: &[f32],
    ) {
        let LayerCache { kind, pages, .. } = &mut self.layers[layer];
        let (kind, table) = (&self.kinds[*kind], &plan.kinds[*kind].keys);
        let rotate = |token: usize, head: &mut [f32]| kind.rope().rotate(table, token, head);
        let advance = |number, head: &mut [f32]| kind.advance(number * PAGE, PAGE, head);
        pages.append(plan.start, plan.tokens, keys, values, rotate, advance);
    }

    /// Adds the keys that a decode step needs to a layer's rings; a prefill needs none.
    pub(crate) fn update_rings(&mut self, layer: usize, plan: &SegmentPlan) {
        let LayerCache { kind, pages, rings } = &mut self.layers[layer];
        let (rope, its) = (self.kinds[*kind].rope(), &plan.kinds[*kind]);
        let states = self.held[*kind].iter_mut().zip(&mut self.next[*kind]);
        let regions = its.lowering.regions().iter().zip(&its.rotations);
        for (ring, ((held, next), (region, rotations))) in rings.iter_mut().zip(states.zip(regions))
        {
            let panels = rotations.deltas.panels();
            *next = *held;
            // Nothing to add where the ring holds everything already.
            if plan.decode && !panels.is_empty() {
                held.overwrite(ring.slots(), panels.end);
                *next = held.with(panels, region.extent().end);
                ring.update(pages, rope, &rotations.deltas);
            }
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    /// The rotary embedding of a layer.
    pub(crate) fn rope(&self, layer: usize) -> &Rope {
        self.kinds[self.layers[layer].kind].rope()
    }
}

//! What layers may differ in: position map, rotary embedding, sliding window.

use super::derived::DerivedRing;
use super::kv_type::KvType;
use crate::lowering::in_band;
use crate::position::{Keys, Positions, Regions};
use crate::rope::Rope;
use crate::shape::AttentionShape;
use std::ops::Range;
use std::sync::Arc;

/// Layers that attend alike. It is itself a position map: its own within its sliding window.
#[derive(Debug, Clone)]
pub struct LayerKind {
    map: Arc<dyn Positions>,
    rope: Arc<Rope>,
    window: Option<usize>,
}

impl LayerKind {
    /// Layers with a position map (a [`PositionMap`](crate::PositionMap), or one of your own) and a
    /// rotary embedding.
    pub fn new(map: impl Into<Arc<dyn Positions>>, rope: impl Into<Arc<Rope>>) -> Self {
        Self {
            map: map.into(),
            rope: rope.into(),
            window: None,
        }
    }

    /// The same, whose queries see only the last `window` keys, their own included: the model's
    /// sliding window.
    pub fn with_window(self, window: usize) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    /// The rotary embedding of its keys and queries.
    pub fn rope(&self) -> &Arc<Rope> {
        &self.rope
    }

    /// The first key of query `i` that its sliding window allows.
    fn window_start(&self, i: usize) -> usize {
        self.window
            .map_or(0, |window| (i + 1).saturating_sub(window))
    }

    /// Turns a stored key from the place of token `j` to that of the token `by` later.
    pub(super) fn advance(&self, j: usize, by: usize, head: &mut [f32]) {
        for t in 0..self.rope.pairs() {
            let its = in_band(self, self.rope.band(t, self.bands()));
            let (cos, sin) = self.rope.angle(its.stored(j + by) - its.stored(j), t);
            let (a, b) = self.rope.pair(t);
            let (x, y) = (f64::from(head[a]), f64::from(head[b]));
            (head[a], head[b]) = ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32);
        }
    }

    /// An empty ring for each region.
    pub(super) fn rings(&self, shape: AttentionShape, kv_type: KvType) -> Vec<DerivedRing> {
        let regions = self.map.regions();
        let rings = regions.iter().map(|keys| match *keys {
            Keys::Stored => DerivedRing::none(shape, kv_type),
            Keys::Derived(kept) => DerivedRing::new(shape, kv_type, kept.most()),
        });
        rings.collect()
    }
}

/// Its map within its sliding window.
impl Positions for LayerKind {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let inside = j >= self.window_start(i);
        inside.then(|| self.map.relative(i, j)).flatten()
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        self.map.reach(trained)
    }

    fn regions(&self) -> Regions {
        self.map.regions()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let (span, first) = (self.map.span(region, i), self.window_start(i));
        span.start.max(first)..span.end.max(first)
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        self.map.query(region, i)
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        self.map.key(region, j)
    }

    fn stored(&self, j: usize) -> f64 {
        self.map.stored(j)
    }

    fn bands(&self) -> usize {
        self.map.bands()
    }

    fn band(&self, band: usize) -> Option<&dyn Positions> {
        self.map.band(band)
    }

    fn forgotten(&self, i: usize) -> Range<usize> {
        let (map, first) = (self.map.forgotten(i), self.window_start(i));
        if first >= map.start {
            0..map.end.max(first)
        } else {
            map
        }
    }
}

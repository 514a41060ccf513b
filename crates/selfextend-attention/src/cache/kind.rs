//! What layers may differ in: position map, rotary embedding, sliding window.

use super::{KvType, WindowRing};
use crate::attention::AttentionShape;
use crate::position::{Keys, PositionMap, Positions};
use crate::rope::Rope;
use std::ops::Range;
use std::sync::Arc;

/// Layers that attend alike.
#[derive(Debug, Clone)]
pub struct LayerKind {
    map: PositionMap,
    pub(crate) positions: Arc<dyn Positions>,
    pub(crate) regions: Vec<Keys>,
    pub(crate) rope: Arc<Rope>,
    window: Option<usize>,
}

impl LayerKind {
    /// Layers with a position map and a rotary embedding.
    pub fn new(map: PositionMap, rope: impl Into<Arc<Rope>>) -> Self {
        let positions = map.positions();
        Self {
            map,
            regions: positions.regions(),
            positions,
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

    /// The position map its keys are rotated for.
    pub fn map(&self) -> PositionMap {
        self.map
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

    /// An empty ring for each region.
    pub(super) fn rings(&self, shape: AttentionShape, kv_type: KvType) -> Vec<WindowRing> {
        let most = |keys: &Keys| match *keys {
            Keys::Stored => 0,
            Keys::Derived { most } => most,
        };
        let regions = self.regions.iter();
        regions
            .map(|keys| WindowRing::new(shape, kv_type, most(keys)))
            .collect()
    }
}

/// Its map within its sliding window.
impl Positions for LayerKind {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let inside = j >= self.window_start(i);
        inside.then(|| self.positions.relative(i, j)).flatten()
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        self.positions.reach(trained)
    }

    fn regions(&self) -> Vec<Keys> {
        self.regions.clone()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let (span, first) = (self.positions.span(region, i), self.window_start(i));
        span.start.max(first)..span.end.max(first)
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        self.positions.query(region, i)
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        self.positions.key(region, j)
    }

    fn stored(&self, j: usize) -> f64 {
        self.positions.stored(j)
    }

    fn forgotten(&self, i: usize) -> Range<usize> {
        let (map, first) = (self.positions.forgotten(i), self.window_start(i));
        if first >= map.start {
            0..map.end.max(first)
        } else {
            map
        }
    }
}

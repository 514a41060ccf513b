//! Keys of the window region, derived from the stored ones.

use super::{KvType, LayerPages, PAGE, Page};
use crate::attention::AttentionShape;
use crate::rope::Rope;
use crate::simd::{Element, WIDTH};
use half::f16;

/// The rotation from the base to the window position of some keys, in whole panels:
/// `[panel][pair][16]`, cosines and sines.
#[derive(Debug, Default)]
pub struct DeltaTable {
    first_panel: usize,
    panels: usize,
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl DeltaTable {
    /// Angles for the panels that hold keys `first..end`; `delta` is the difference of positions.
    pub fn fill(
        &mut self,
        rope: &Rope,
        first: usize,
        end: usize,
        delta: impl Fn(usize) -> i64,
    ) {
        self.first_panel = first / WIDTH;
        self.panels = end.div_ceil(WIDTH).saturating_sub(self.first_panel);
        self.pairs = rope.pairs();
        self.cos.clear();
        self.sin.clear();
        for panel in self.panels() {
            for t in 0..self.pairs {
                for key in panel * WIDTH..(panel + 1) * WIDTH {
                    let (cos, sin) = rope.angle(delta(key), t);
                    self.cos.push(cos as f32);
                    self.sin.push(sin as f32);
                }
            }
        }
    }

    /// The panels it covers.
    pub fn panels(&self) -> std::ops::Range<usize> {
        self.first_panel..self.first_panel + self.panels
    }

    fn rows(&self, panel: usize) -> (&[f32], &[f32]) {
        let from = (panel - self.first_panel) * self.pairs * WIDTH;
        let range = from..from + self.pairs * WIDTH;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Rotates one stored panel by one panel of a table and rounds it to the storage type, which is
/// also what a ring would hold: prefill and decode see the same keys.
fn derive<E: Element>(rope: &Rope, table: &DeltaTable, panel: usize, from: &[E], to: &mut [f32]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(to, from)| *to = from.to_f32());
    let (cos, sin) = table.rows(panel);
    for t in 0..table.pairs {
        let (a, b) = rope.pair(t);
        let lanes = t * WIDTH..(t + 1) * WIDTH;
        for (lane, (cos, sin)) in cos[lanes.clone()].iter().zip(&sin[lanes]).enumerate() {
            let (x, y) = (to[a * WIDTH + lane], to[b * WIDTH + lane]);
            to[a * WIDTH + lane] = x * cos - y * sin;
            to[b * WIDTH + lane] = x * sin + y * cos;
        }
    }
}

/// Derives one head's panels `panels` (absolute numbers) as floats rounded to the storage type:
/// `to` is `[panel][component][16]`.
pub fn derive_panels(
    pages: &LayerPages,
    rope: &Rope,
    table: &DeltaTable,
    head: usize,
    panels: std::ops::Range<usize>,
    to: &mut [f32],
) {
    let size = pages.shape().head_dim() * WIDTH;
    let mut halves = vec![f16::ZERO; size];
    for (panel, to) in panels.zip(to.chunks_exact_mut(size)) {
        match pages.page_of(panel * WIDTH) {
            Page::F32(b) => {
                derive(
                    rope,
                    table,
                    panel,
                    b.key_panels(pages.shape(), head, in_page(panel)),
                    to,
                );
            }
            Page::F16(b) => {
                derive(
                    rope,
                    table,
                    panel,
                    b.key_panels(pages.shape(), head, in_page(panel)),
                    to,
                );
                f16::from_slice(to, &mut halves);
                half::slice::HalfFloatSliceExt::convert_to_f32_slice(&halves[..], to);
            }
        }
    }
}

fn in_page(panel: usize) -> usize {
    panel % (PAGE / WIDTH)
}

/// The last keys of one layer in their window rotation, for decode.
#[derive(Debug, Clone)]
pub struct WindowRing {
    shape: AttentionShape,
    /// Keys a query can see through the window region.
    window: usize,
    /// Panels of each head, allocated at the first decode step.
    slots: usize,
    keys: RingKeys,
    /// The keys it holds, by position.
    from: usize,
    until: usize,
}

/// Keys of a ring: `[kv_head][slot][component][16]`.
#[derive(Debug, Clone)]
pub enum RingKeys {
    /// Full precision.
    F32(Vec<f32>),
    /// Half precision.
    F16(Vec<f16>),
}

impl WindowRing {
    pub(super) fn new(shape: AttentionShape, kv_type: KvType, window: usize) -> Self {
        let keys = match kv_type {
            KvType::F32 => RingKeys::F32(Vec::new()),
            KvType::F16 => RingKeys::F16(Vec::new()),
        };
        // W keys and the few new ones of a decode step touch at most one panel more than they fill.
        let slots = (window + super::DECODE_TOKENS).div_ceil(WIDTH) + 1;
        Self {
            shape,
            window,
            slots,
            keys,
            from: 0,
            until: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.keys {
            RingKeys::F32(keys) => keys.len() * size_of::<f32>(),
            RingKeys::F16(keys) => keys.len() * size_of::<f16>(),
        }
    }

    /// The first key that must be derived before a query at `start` can use the ring.
    pub(super) fn held_until(&self, start: usize) -> usize {
        let needed = (start + 1).saturating_sub(self.window);
        if self.from <= needed && self.until >= needed {
            self.until
        } else {
            needed
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.until = self.until.min(len);
        self.from = self.from.min(self.until);
    }

    /// The keys it holds.
    pub fn keys(&self) -> &RingKeys {
        &self.keys
    }

    /// Where the panel (absolute number) of a head starts in [`WindowRing::keys`].
    pub fn offset(&self, head: usize, panel: usize) -> usize {
        (head * self.slots + panel % self.slots) * self.shape.head_dim() * WIDTH
    }

    /// Derives the panels of `table` from the pages, up to key `end`.
    pub(super) fn update(
        &mut self,
        pages: &LayerPages,
        rope: &Rope,
        table: &DeltaTable,
        end: usize,
    ) {
        let size = self.shape.head_dim() * WIDTH;
        let total = self.shape.kv_heads() * self.slots * size;
        match &mut self.keys {
            RingKeys::F32(keys) => keys.resize(total, 0.0),
            RingKeys::F16(keys) => keys.resize(total, f16::ZERO),
        }
        let mut derived = vec![0.0; size];
        for head in 0..self.shape.kv_heads() {
            for panel in table.panels() {
                derive_panels(pages, rope, table, head, panel..panel + 1, &mut derived);
                let at = self.offset(head, panel);
                match &mut self.keys {
                    RingKeys::F32(keys) => f32::from_slice(&derived, &mut keys[at..at + size]),
                    RingKeys::F16(keys) => f16::from_slice(&derived, &mut keys[at..at + size]),
                }
            }
        }
        let oldest = (end.div_ceil(WIDTH) * WIDTH).saturating_sub(self.slots * WIDTH);
        let first = table.panels().start * WIDTH;
        // What was held stays held where the new panels continue it.
        let from = if self.until >= first {
            self.from.min(first)
        } else {
            first
        };
        self.from = from.max(oldest);
        self.until = end;
    }
}

//! Derived keys: those of regions whose positions differ from the stored ones, rotated from these.

use super::kv_type::KvType;
use super::page::{Page, with_stored};
use super::pages::LayerPages;
use super::stored::{MOST_STEPS, PAGE, Stored};
use crate::parallel;
use crate::rope::Rope;
use crate::shape::AttentionShape;
use crate::simd::kernels::{hadamard_panel, rotate_panel, round_to};
use crate::simd::{Element, Kernel, Simd, WIDTH, dispatch};
use half::f16;
use std::cell::RefCell;
use std::ops::Range;

/// The rotation from the stored position of some keys to that of a region, in whole panels:
/// `[panel][pair][16]`, cosines and sines.
#[derive(Debug, Default)]
pub(crate) struct DeltaTable {
    first_panel: usize,
    panels: usize,
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl DeltaTable {
    /// Angles for the panels that hold some keys; `delta` is the difference of a key's positions in a
    /// band of pairs.
    pub fn fill(
        &mut self,
        rope: &Rope,
        keys: Range<usize>,
        bands: usize,
        delta: impl Fn(usize, usize) -> f64,
    ) {
        self.first_panel = keys.start / WIDTH;
        self.panels = keys.end.div_ceil(WIDTH).saturating_sub(self.first_panel);
        self.pairs = rope.pairs();
        self.cos.clear();
        self.sin.clear();
        for panel in self.panels() {
            for t in 0..self.pairs {
                let band = rope.band(t, bands);
                for key in panel * WIDTH..(panel + 1) * WIDTH {
                    let (cos, sin) = rope.angle(delta(key, band), t);
                    self.cos.push(cos as f32);
                    self.sin.push(sin as f32);
                }
            }
        }
    }

    /// The panels it covers.
    pub fn panels(&self) -> Range<usize> {
        self.first_panel..self.first_panel + self.panels
    }

    fn rows(&self, panel: usize) -> (&[f32], &[f32]) {
        let from = (panel - self.first_panel) * self.pairs * WIDTH;
        let range = from..from + self.pairs * WIDTH;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Derives one head's panels `panels` (absolute numbers) as floats, rounded to what a ring would
/// hold, so that prefill and decode see the same keys: `to` is `[panel][component][16]`.
pub(crate) fn derive_panels(
    pages: &LayerPages,
    rope: &Rope,
    table: &DeltaTable,
    head: usize,
    panels: Range<usize>,
    to: &mut [f32],
) {
    let size = pages.shape().head_dim() * WIDTH;
    for (panel, to) in panels.zip(to.chunks_exact_mut(size)) {
        let shape = pages.shape();
        with_stored!(pages.page_of(panel * WIDTH), |stored| dispatch(Derive {
            stored,
            shape,
            rope,
            table,
            head,
            panel,
            to,
        }));
    }
}

/// Rotates one stored panel by one panel of a table.
struct Derive<'a, P> {
    stored: &'a P,
    shape: AttentionShape,
    rope: &'a Rope,
    table: &'a DeltaTable,
    head: usize,
    panel: usize,
    to: &'a mut [f32],
}

impl<P: Stored> Kernel for Derive<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let in_page = self.panel % (PAGE / WIDTH);
        self.stored
            .widen_panel(s, self.shape, self.head, in_page, self.to);
        if P::TRANSFORMED {
            hadamard_panel(s, self.to);
        }
        let (cos, sin) = self.table.rows(self.panel);
        let pairs = self.table.pairs;
        rotate_panel(s, self.to, pairs, |t| self.rope.pair(t), cos, sin);
        round_to::<S, P::Near>(s, self.to);
    }
}

/// The keys of one layer's derived region in their rotation, kept for decode. The keys that a query
/// sees move forwards with the queries, and so does what the ring holds.
#[derive(Debug, Clone)]
pub(crate) struct DerivedRing {
    shape: AttentionShape,
    /// Panels of each head, allocated at the first decode step; none where nothing is derived.
    slots: usize,
    keys: RingKeys,
}

/// Keys of a ring: `[kv_head][slot][component][16]`.
#[derive(Debug, Clone)]
enum RingKeys {
    /// Full precision.
    F32(Vec<f32>),
    /// Half precision.
    F16(Vec<f16>),
}

impl DerivedRing {
    /// For a region whose queries see at most `most` derived keys.
    pub(super) fn new(shape: AttentionShape, kv_type: KvType, most: usize) -> Self {
        // The most keys of a query and the few new ones of decode steps touch at most one panel
        // more than they fill.
        let slots = (most + MOST_STEPS).div_ceil(WIDTH) + 1;
        Self::of_slots(shape, kv_type, slots)
    }

    /// For a region whose keys are the stored ones.
    pub(super) fn none(shape: AttentionShape, kv_type: KvType) -> Self {
        Self::of_slots(shape, kv_type, 0)
    }

    fn of_slots(shape: AttentionShape, kv_type: KvType, slots: usize) -> Self {
        let keys = match kv_type {
            KvType::F32 => RingKeys::F32(Vec::new()),
            KvType::F16 | KvType::Q8_0 | KvType::Q4 => RingKeys::F16(Vec::new()),
        };
        Self { shape, slots, keys }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.keys {
            RingKeys::F32(keys) => keys.len() * size_of::<f32>(),
            RingKeys::F16(keys) => keys.len() * size_of::<f16>(),
        }
    }

    /// Bytes it has from the first decode step on.
    pub(super) fn capacity(&self) -> usize {
        let number = match self.keys {
            RingKeys::F32(_) => size_of::<f32>(),
            RingKeys::F16(_) => size_of::<f16>(),
        };
        self.shape.kv_heads() * self.slots * self.shape.head_dim() * WIDTH * number
    }

    /// Panels of each head; none where nothing is derived.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The keys it holds, where they are floats; nothing otherwise.
    pub fn f32s(&self) -> &[f32] {
        match &self.keys {
            RingKeys::F32(keys) => keys,
            RingKeys::F16(_) => &[],
        }
    }

    /// The keys it holds, where they are half floats; nothing otherwise.
    pub fn f16s(&self) -> &[f16] {
        match &self.keys {
            RingKeys::F16(keys) => keys,
            RingKeys::F32(_) => &[],
        }
    }

    /// Where the panel (absolute number) of a head starts among the ring's keys.
    pub fn offset(&self, head: usize, panel: usize) -> usize {
        (head * self.slots + panel % self.slots) * self.shape.head_dim() * WIDTH
    }

    /// Derives the panels of `table` from the pages.
    pub(super) fn update(&mut self, pages: &LayerPages, rope: &Rope, table: &DeltaTable) {
        match &mut self.keys {
            RingKeys::F32(keys) => fill(keys, self.shape, self.slots, pages, rope, table),
            RingKeys::F16(keys) => fill(keys, self.shape, self.slots, pages, rope, table),
        }
    }
}

thread_local! {
    /// A panel on its way into a ring.
    static DERIVED: RefCell<Vec<f32>> = RefCell::default();
}

/// Derives the panels of `table` into a ring of `slots` panels a head.
fn fill<E: Element>(
    ring: &mut Vec<E>,
    shape: AttentionShape,
    slots: usize,
    pages: &LayerPages,
    rope: &Rope,
    table: &DeltaTable,
) {
    let size = shape.head_dim() * WIDTH;
    ring.resize(shape.kv_heads() * slots * size, E::default());
    let wanted = table.panels();
    let tasks = ring
        .chunks_exact_mut(size)
        .enumerate()
        .filter_map(|(n, to)| {
            // The one panel from the first wanted one on that belongs in this slot.
            let (head, slot) = (n / slots, n % slots);
            let panel = wanted.start + (slot + slots - wanted.start % slots) % slots;
            (panel < wanted.end).then_some((head, panel, to))
        });
    let derive = |(head, panel, to): (usize, usize, &mut [E])| {
        DERIVED.with_borrow_mut(|derived| {
            derived.resize(size, 0.0);
            derive_panels(pages, rope, table, head, panel..panel + 1, derived);
            E::from_slice(derived, to);
        });
    };
    // A decode step adds a panel or two; only the first one after a prefill fills the whole ring.
    if wanted.len() <= 2 {
        tasks.for_each(derive);
    } else {
        parallel::for_each(tasks, derive);
    }
}

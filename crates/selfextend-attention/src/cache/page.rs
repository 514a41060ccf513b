//! Pages of stored keys and values.

use super::plain::Floats;
use super::quantized::Bytes;
use super::{DECODE_TOKENS, KvType};
use crate::attention::AttentionShape;
use crate::parallel;
use crate::simd::kernels::Rounded;
use crate::simd::{Element, Simd, WIDTH};
use half::f16;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Tokens in a page. Pages are allocated as a sequence grows and shared by forks.
pub const PAGE: usize = 256;

/// How a page keeps its numbers. A panel is 16 tokens of one head; panels are counted within the
/// page.
pub trait Stored: Clone + Send + Sync {
    /// What window keys derived from this page are rounded to.
    type Near: Element;

    /// An empty page.
    fn new(shape: AttentionShape) -> Self;

    /// Bytes allocated.
    fn bytes(&self) -> usize;

    /// Appends its numbers, little-endian.
    fn write(&self, to: &mut Vec<u8>);

    /// Takes as many bytes as [`Stored::write`] gave from the front; `None` when there are fewer.
    fn read(&mut self, from: &mut &[u8]) -> Option<()>;

    /// Its panels, head after head, to be written.
    fn panels_mut(&mut self, shape: AttentionShape) -> impl Iterator<Item: PanelMut> + Send;

    /// Asks for a panel's keys before they are needed.
    fn ask_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize);

    /// Asks for a panel's values before they are needed.
    fn ask_values<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize);

    /// Scores of up to 12 rows of the queries, as they are and (where the storage is quantised)
    /// rounded, against a panel: see [`crate::simd::kernels::scores_few`].
    #[allow(clippy::too_many_arguments)]
    fn scores<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        queries: (&[f32], &Rounded),
        rows: Range<usize>,
        out: &mut [f32],
        stride: usize,
    );

    /// Weighted sums of the values of the first `keys` tokens, for up to 12 rows: see
    /// [`crate::simd::kernels::accumulate_few`]. `weights` has rows of [`PAGE`], as many as `acc`,
    /// with zeros from `keys` to the end of the panel.
    #[allow(clippy::too_many_arguments)]
    fn accumulate<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        keys: usize,
        weights: &[f32],
        scratch: &mut WeightScratch,
        acc: &mut [f32],
    );

    /// One panel of keys as floats, `[component][16]`.
    fn widen_panel<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        to: &mut [f32],
    );

    /// Values of `count` tokens from `first` (a panel's first) on as floats, `[padded component /
    /// 16][tile][16]`.
    #[allow(clippy::too_many_arguments)]
    fn widen_values<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        first: usize,
        count: usize,
        tile: usize,
        to: &mut [f32],
    );
}

/// Asks for a panel of `len` numbers. The processor's own prefetching stops at the end of each 4
/// KiB, and nothing tells it that the values come after the keys.
#[inline(always)]
pub(super) fn ask<S: Simd, E>(s: S, numbers: &[E], panel: usize, len: usize) {
    let start = numbers.as_ptr().wrapping_add(panel * len).cast::<u8>();
    for line in (0..len * size_of::<E>()).step_by(64) {
        s.prefetch(start.wrapping_add(line));
    }
}

/// What weighing the values of quantised pages needs.
#[derive(Debug, Default)]
pub struct WeightScratch {
    /// Weights times the scales of their values.
    pub(super) scaled: Vec<f32>,
    pub(super) rounded: Rounded,
}

/// Sixteen tokens of one head, to be written.
pub trait PanelMut: Send {
    /// Stores the rotated key and the value of one token.
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]);
}

/// One page of one layer.
#[derive(Debug, Clone)]
pub enum Page {
    /// Full precision.
    F32(Floats<f32>),
    /// Half precision.
    F16(Floats<f16>),
    /// Bytes with scales.
    Q8(Bytes),
}

/// Runs a block with `$stored` bound to what a page holds, whatever its type.
macro_rules! with_stored {
    ($page:expr, |$stored:ident| $body:expr) => {
        match $page {
            Page::F32($stored) => $body,
            Page::F16($stored) => $body,
            Page::Q8($stored) => $body,
        }
    };
}
pub(crate) use with_stored;

impl Page {
    pub(super) fn new(kv_type: KvType, shape: AttentionShape) -> Self {
        match kv_type {
            KvType::F32 => Self::F32(Stored::new(shape)),
            KvType::F16 => Self::F16(Stored::new(shape)),
            KvType::Q8_0 => Self::Q8(Stored::new(shape)),
        }
    }
}

/// The pages of one layer.
#[derive(Debug, Clone)]
pub struct LayerPages {
    shape: AttentionShape,
    kv_type: KvType,
    /// `None` where no query will look again.
    pages: Vec<Option<Arc<Page>>>,
}

impl LayerPages {
    pub(super) fn new(shape: AttentionShape, kv_type: KvType) -> Self {
        Self {
            shape,
            kv_type,
            pages: Vec::new(),
        }
    }

    /// Heads and head size.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// The page that holds token `token`.
    ///
    /// # Panics
    /// When it has been forgotten.
    pub fn page_of(&self, token: usize) -> &Page {
        let page = self.pages[token / PAGE].as_ref();
        page.expect("no region reaches keys its map has forgotten")
    }

    /// Frees the pages that hold only tokens of a range.
    pub(super) fn forget(&mut self, tokens: Range<usize>) {
        let last = (tokens.end / PAGE).min(self.pages.len());
        let first = tokens.start.div_ceil(PAGE).min(last);
        // From the back: earlier calls have freed what lies before.
        let held = self.pages[first..last].iter_mut().rev();
        held.take_while(|page| page.is_some())
            .for_each(|page| *page = None);
    }

    /// Whether every page that was freed holds only tokens of a range.
    pub(super) fn only_forgot(&self, tokens: Range<usize>) -> bool {
        let mut freed = (0..self.pages.len()).filter(|&number| self.pages[number].is_none());
        freed.all(|number| tokens.start <= number * PAGE && (number + 1) * PAGE <= tokens.end)
    }

    pub(super) fn bytes(&self) -> usize {
        self.pages
            .iter()
            .flatten()
            .map(|page| with_stored!(&**page, |stored| stored.bytes()))
            .sum()
    }

    /// Page `number`, shared; `None` where it is forgotten or was never there.
    pub(super) fn share(&self, number: usize) -> Option<Arc<Page>> {
        self.pages.get(number).cloned().flatten()
    }

    /// Adds a page that is shared with others.
    pub(super) fn push(&mut self, page: Arc<Page>) {
        self.pages.push(Some(page));
    }

    /// Bytes of one page.
    pub(super) fn page_bytes(&self) -> usize {
        self.kv_type.page_bytes(self.shape)
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
    }

    /// Stores `tokens` tokens from position `start`; `rotate(token, key)` rotates one key.
    pub(super) fn append(
        &mut self,
        start: usize,
        tokens: usize,
        keys: &[f32],
        values: &[f32],
        rotate: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        while self.pages.len() * PAGE < start + tokens {
            let page = Page::new(self.kv_type, self.shape);
            self.pages.push(Some(Arc::new(page)));
        }
        let new = NewTokens {
            shape: self.shape,
            start,
            tokens,
            keys,
            values,
        };
        for number in start / PAGE..(start + tokens).div_ceil(PAGE) {
            let page = self.pages[number].as_mut();
            let page = page.expect("new tokens belong to pages that are kept");
            // A page shared with a fork is copied here, once.
            with_stored!(Arc::make_mut(page), |stored| new.fill(
                stored,
                number * PAGE,
                &rotate
            ));
        }
    }
}

/// Tokens to store: `[tokens][kv_heads * head_dim]`.
struct NewTokens<'a> {
    shape: AttentionShape,
    start: usize,
    tokens: usize,
    keys: &'a [f32],
    values: &'a [f32],
}

thread_local! {
    /// A key while it is rotated.
    static ROTATED: RefCell<Vec<f32>> = RefCell::default();
}

impl NewTokens<'_> {
    /// Writes those tokens that belong to the page whose first token is `first`.
    fn fill<P: Stored>(
        &self,
        page: &mut P,
        first: usize,
        rotate: &(impl Fn(usize, &mut [f32]) + Sync),
    ) {
        let end = self.start + self.tokens;
        let panels = page.panels_mut(self.shape).enumerate();
        let touched = panels.filter_map(|(n, panel)| {
            let (head, from) = (n / (PAGE / WIDTH), first + n % (PAGE / WIDTH) * WIDTH);
            let tokens = from.max(self.start)..end.min(from + WIDTH);
            (!tokens.is_empty()).then_some((head, tokens, panel))
        });
        let write = |(head, tokens, mut panel): (usize, Range<usize>, _)| {
            self.write(head, tokens, &mut panel, rotate);
        };
        if self.tokens <= DECODE_TOKENS {
            touched.for_each(write);
        } else {
            parallel::for_each(touched, write);
        }
    }

    fn write(
        &self,
        head: usize,
        tokens: Range<usize>,
        panel: &mut impl PanelMut,
        rotate: &impl Fn(usize, &mut [f32]),
    ) {
        let dim = self.shape.head_dim();
        ROTATED.with_borrow_mut(|rotated| {
            rotated.resize(dim, 0.0);
            for token in tokens {
                let row = token - self.start;
                let from = (row * self.shape.kv_heads() + head) * dim;
                rotated.copy_from_slice(&self.keys[from..from + dim]);
                rotate(row, rotated);
                panel.put(token % WIDTH, rotated, &self.values[from..from + dim]);
            }
        });
    }
}

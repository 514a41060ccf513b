//! The pages of a layer: storing tokens, and freeing pages that no query sees any more.

use super::kv_type::KvType;
use super::page::{Page, with_stored};
use super::stored::{DECODE_TOKENS, PAGE, PanelMut, Stored};
use crate::parallel;
use crate::shape::AttentionShape;
use crate::simd::WIDTH;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// The pages of one layer.
#[derive(Debug, Clone)]
pub struct LayerPages {
    shape: AttentionShape,
    kv_type: KvType,
    /// `None` where no later query sees a key.
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

    /// Stores `tokens` tokens from position `start`; `rotate(token, key)` rotates one key, and
    /// `advance(number, key)` a stored one of page `number` from its place to the one a page later.
    pub(super) fn append(
        &mut self,
        start: usize,
        tokens: usize,
        keys: &[f32],
        values: &[f32],
        rotate: impl Fn(usize, &mut [f32]) + Sync,
        advance: impl Fn(usize, &mut [f32]),
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
            let (before, from) = self.pages.split_at_mut(number);
            let page = from[0].as_mut();
            let page = page.expect("new tokens belong to pages that are kept");
            // A page shared with a fork is copied here, once.
            let page = Arc::make_mut(page);
            // Pages are freed later than the next one begins.
            let before = before.last().and_then(Option::as_deref);
            if let Some(before) = before.filter(|_| start <= number * PAGE) {
                page.follow(self.shape, before, |key| advance(number - 1, key));
            }
            with_stored!(page, |stored| new.fill(stored, number * PAGE, &rotate));
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

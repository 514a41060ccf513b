//! Pages of stored keys and values.

use super::KvType;
use crate::attention::AttentionShape;
use crate::simd::{Element, WIDTH};
use half::f16;
use std::sync::Arc;

/// Tokens in a page. Pages are allocated as a sequence grows and shared by forks.
pub const PAGE: usize = 256;

/// Keys and values of up to [`PAGE`] tokens in one storage type.
#[derive(Debug, Clone)]
pub struct Buffers<E> {
    /// Keys in panels: `[kv_head][token / 16][component][token % 16]`.
    keys: Vec<E>,
    /// Values: `[kv_head][token][component]`, components padded to a multiple of 16.
    values: Vec<E>,
}

/// One page of one layer.
#[derive(Debug, Clone)]
pub enum Page {
    /// Full precision.
    F32(Buffers<f32>),
    /// Half precision.
    F16(Buffers<f16>),
}

/// Runs a block with `$buffers` bound to a page's buffers, whatever their type.
macro_rules! with_buffers {
    ($page:expr, |$buffers:ident| $body:expr) => {
        match $page {
            Page::F32($buffers) => $body,
            Page::F16($buffers) => $body,
        }
    };
}

impl<E: Element> Buffers<E> {
    fn new(shape: AttentionShape) -> Self {
        Self {
            keys: vec![E::default(); PAGE * shape.kv_heads() * shape.head_dim()],
            values: vec![E::default(); PAGE * shape.kv_heads() * shape.padded_dim()],
        }
    }

    /// The key panels of one head from panel `first` on: `[panel][component][16]`.
    pub fn key_panels(&self, shape: AttentionShape, head: usize, first: usize) -> &[E] {
        let per_head = PAGE * shape.head_dim();
        let from = head * per_head + first * shape.head_dim() * WIDTH;
        &self.keys[from..(head + 1) * per_head]
    }

    /// The values of one head from token `first` on: `[token][padded component]`.
    pub fn value_rows(&self, shape: AttentionShape, head: usize, first: usize) -> &[E] {
        let per_head = PAGE * shape.padded_dim();
        let from = head * per_head + first * shape.padded_dim();
        &self.values[from..(head + 1) * per_head]
    }

    fn put(&mut self, shape: AttentionShape, head: usize, slot: usize, key: &[E], value: &[E]) {
        let (dim, padded) = (shape.head_dim(), shape.padded_dim());
        let from = (head * PAGE + slot / WIDTH * WIDTH) * dim + slot % WIDTH;
        let lane = self.keys[from..].iter_mut().step_by(WIDTH);
        lane.zip(key).for_each(|(to, from)| *to = *from);
        let from = (head * PAGE + slot) * padded;
        self.values[from..from + dim].copy_from_slice(value);
    }

    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<E>()
    }
}

/// The pages of one layer.
#[derive(Debug, Clone)]
pub struct LayerPages {
    shape: AttentionShape,
    kv_type: KvType,
    pages: Vec<Arc<Page>>,
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
    pub fn page_of(&self, token: usize) -> &Page {
        &self.pages[token / PAGE]
    }

    pub(super) fn bytes(&self) -> usize {
        self.pages
            .iter()
            .map(|page| with_buffers!(&**page, |b| b.bytes()))
            .sum()
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
        rotate: impl Fn(usize, &mut [f32]),
    ) {
        while self.pages.len() * PAGE < start + tokens {
            self.pages.push(Arc::new(match self.kv_type {
                KvType::F32 => Page::F32(Buffers::new(self.shape)),
                KvType::F16 => Page::F16(Buffers::new(self.shape)),
            }));
        }
        let mut token = 0;
        while token < tokens {
            let position = start + token;
            let here = (PAGE - position % PAGE).min(tokens - token);
            // A page shared with a fork is copied here, once.
            let page = Arc::make_mut(&mut self.pages[position / PAGE]);
            let rows = token..token + here;
            with_buffers!(page, |b| fill(
                b,
                self.shape,
                position % PAGE,
                rows,
                keys,
                values,
                &rotate
            ));
            token += here;
        }
    }
}

fn fill<E: Element>(
    buffers: &mut Buffers<E>,
    shape: AttentionShape,
    first_slot: usize,
    rows: std::ops::Range<usize>,
    keys: &[f32],
    values: &[f32],
    rotate: &impl Fn(usize, &mut [f32]),
) {
    let dim = shape.head_dim();
    let mut rotated = vec![0.0; dim];
    let (mut key, mut value) = (vec![E::default(); dim], vec![E::default(); dim]);
    for (slot, row) in rows.enumerate() {
        for head in 0..shape.kv_heads() {
            let from = (row * shape.kv_heads() + head) * dim;
            rotated.copy_from_slice(&keys[from..from + dim]);
            rotate(row, &mut rotated);
            E::from_slice(&rotated, &mut key);
            E::from_slice(&values[from..from + dim], &mut value);
            buffers.put(shape, head, first_slot + slot, &key, &value);
        }
    }
}

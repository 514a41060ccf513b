//! Pages that keep keys and values as floats, whole or half.

use super::stored::{
    Number, PAGE, PanelMut, Queries, Stored, WeightScratch, prefetch, read_numbers, write_numbers,
};
use crate::shape::AttentionShape;
use crate::simd::kernels::{accumulate_few, scores_few, widen, widen_rows};
use crate::simd::{Element, Simd, WIDTH};
use std::ops::Range;

/// Keys and values of up to [`PAGE`] tokens.
#[derive(Debug, Clone)]
pub struct Floats<E> {
    /// Keys in panels: `[kv_head][token / 16][component][token % 16]`.
    keys: Vec<E>,
    /// Values: `[kv_head][token][component]`, components padded to a multiple of 16.
    values: Vec<E>,
}

impl<E: Element> Floats<E> {
    fn panel(&self, shape: AttentionShape, head: usize, panel: usize) -> &[E] {
        let size = shape.head_dim() * WIDTH;
        let at = (head * (PAGE / WIDTH) + panel) * size;
        &self.keys[at..at + size]
    }

    fn rows(&self, shape: AttentionShape, head: usize, first: usize, count: usize) -> &[E] {
        let at = (head * PAGE + first) * shape.padded_dim();
        &self.values[at..at + count * shape.padded_dim()]
    }
}

impl<E: Element + Number> Stored for Floats<E> {
    type Near = E;

    fn new(shape: AttentionShape) -> Self {
        Self {
            keys: vec![E::default(); PAGE * shape.kv_heads() * shape.head_dim()],
            values: vec![E::default(); PAGE * shape.kv_heads() * shape.padded_dim()],
        }
    }

    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<E>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_numbers(&self.keys, to);
        write_numbers(&self.values, to);
    }

    fn read(&mut self, from: &mut &[u8]) -> Option<()> {
        read_numbers(&mut self.keys, from)?;
        read_numbers(&mut self.values, from)
    }

    fn panels_mut(&mut self, shape: AttentionShape) -> impl Iterator<Item: PanelMut> + Send {
        let keys = self.keys.chunks_exact_mut(WIDTH * shape.head_dim());
        let values = self.values.chunks_exact_mut(WIDTH * shape.padded_dim());
        keys.zip(values)
    }

    #[inline(always)]
    fn prefetch_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        let panel = head * (PAGE / WIDTH) + panel;
        prefetch(s, &self.keys, panel, WIDTH * shape.head_dim());
    }

    #[inline(always)]
    fn prefetch_values<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        let panel = head * (PAGE / WIDTH) + panel;
        prefetch(s, &self.values, panel, WIDTH * shape.padded_dim());
    }

    #[inline(always)]
    fn scores<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        queries: Queries,
        rows: Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let (panel, dim) = (self.panel(shape, head, panel), shape.head_dim());
        let rows = &queries.floats[rows.start * dim..rows.end * dim];
        scores_few(s, rows, dim, panel, out, stride);
    }

    #[inline(always)]
    fn accumulate<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        keys: usize,
        weights: &[f32],
        _scratch: &mut WeightScratch,
        acc: &mut [f32],
    ) {
        let (values, width) = (self.rows(shape, head, 0, keys), shape.padded_dim());
        accumulate_few(s, weights, PAGE, keys, values, width, acc);
    }

    #[inline(always)]
    fn widen_panel<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        to: &mut [f32],
    ) {
        widen(s, self.panel(shape, head, panel), to);
    }

    #[inline(always)]
    fn widen_values<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        first: usize,
        count: usize,
        tile: usize,
        to: &mut [f32],
    ) {
        let rows = self.rows(shape, head, first, count);
        widen_rows(s, rows, shape.padded_dim(), tile, to);
    }
}

impl<E: Element> PanelMut for (&mut [E], &mut [E]) {
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]) {
        let (keys, values) = self;
        let slots = keys.iter_mut().skip(lane).step_by(WIDTH);
        // In pieces through the stack: slices convert several numbers at once.
        let mut some = [E::default(); 64];
        let mut slots = slots;
        for key in key.chunks(some.len()) {
            E::from_slice(key, &mut some[..key.len()]);
            some[..key.len()]
                .iter()
                .zip(&mut slots)
                .for_each(|(from, to)| *to = *from);
        }
        let padded = values.len() / WIDTH;
        E::from_slice(value, &mut values[lane * padded..][..value.len()]);
    }
}

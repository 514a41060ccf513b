//! Pages that keep keys and values in four bits with a scale for each 32 components: 0.56 bytes a
//! number, 0.28 of half floats.
//!
//! Heads are transformed before they are rounded ([`crate::simd::kernels::hadamard`]), keys after
//! their rotation. So pages hold transformed keys `HR(p)k`: their scores are those of queries that
//! are transformed too, and keys of other regions are derived from what the transform gives back,
//! `H(HR(p)k) = R(p)k`. Weighted sums of values are transformed back once, when they are complete.

use super::quantized::{blocks, scale_weights, scales};
use super::stored::{PAGE, PanelMut, Stored, WeightScratch, prefetch, read_numbers, write_numbers};
use crate::shape::AttentionShape;
use crate::simd::kernels::{
    EIGHT, Rounded, accumulate_q4, round_head_q4, scores_q4, widen_panel_q4, widen_rows_q4,
};
use crate::simd::linear::BLOCK;
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use half::f16;
use std::cell::RefCell;
use std::ops::Range;

/// Keys and values of up to [`PAGE`] tokens. A panel is 16 tokens of one head, as elsewhere.
#[derive(Debug, Clone)]
pub struct Nibbles {
    /// `[kv_head][panel][component / 8][16][2]`: words of four codes, for products of pairs
    /// ([`crate::simd::kernels::scores_q4`]).
    keys: Vec<i16>,
    /// `[kv_head][panel][block][16]`.
    key_scales: Vec<f16>,
    /// `[kv_head][token / 8][padded component][2]`.
    values: Vec<i16>,
    /// `[kv_head][panel][block][16]`.
    value_scales: Vec<f16>,
}

/// Words of a panel's keys.
fn key_words(shape: AttentionShape) -> usize {
    shape.head_dim().div_ceil(EIGHT) * 2 * WIDTH
}

/// Words of a panel's values.
fn value_words(shape: AttentionShape) -> usize {
    WIDTH / EIGHT * 2 * shape.padded_dim()
}

/// The number of a head's panel among those of all heads.
fn number(head: usize, panel: usize) -> usize {
    head * (PAGE / WIDTH) + panel
}

impl Nibbles {
    fn panel(&self, shape: AttentionShape, head: usize, panel: usize) -> (&[i16], &[f16]) {
        let (size, at) = (key_words(shape), number(head, panel));
        (
            &self.keys[at * size..(at + 1) * size],
            scales(&self.key_scales, shape, head, panel, 1),
        )
    }

    /// Values from the panel of token `first` on.
    fn rows(&self, shape: AttentionShape, head: usize, first: usize, count: usize) -> &[i16] {
        let (size, at) = (value_words(shape), number(head, first / WIDTH));
        &self.values[at * size..(at + count.div_ceil(WIDTH)) * size]
    }
}

impl Stored for Nibbles {
    /// As for bytes: derived keys are not rounded to codes again.
    type Near = f16;
    const INTEGERS: bool = true;
    const TRANSFORMED: bool = true;

    fn new(shape: AttentionShape) -> Self {
        let panels = shape.kv_heads() * (PAGE / WIDTH);
        let scales = vec![f16::ZERO; panels * WIDTH * blocks(shape)];
        Self {
            keys: vec![0; panels * key_words(shape)],
            key_scales: scales.clone(),
            values: vec![0; panels * value_words(shape)],
            value_scales: scales,
        }
    }

    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<i16>()
            + (self.key_scales.len() + self.value_scales.len()) * size_of::<f16>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_numbers(&self.keys, to);
        write_numbers(&self.key_scales, to);
        write_numbers(&self.values, to);
        write_numbers(&self.value_scales, to);
    }

    fn read(&mut self, from: &mut &[u8]) -> Option<()> {
        read_numbers(&mut self.keys, from)?;
        read_numbers(&mut self.key_scales, from)?;
        read_numbers(&mut self.values, from)?;
        read_numbers(&mut self.value_scales, from)
    }

    fn panels_mut(&mut self, shape: AttentionShape) -> impl Iterator<Item: PanelMut> + Send {
        let scales = WIDTH * blocks(shape);
        let keys = self
            .keys
            .chunks_exact_mut(key_words(shape))
            .zip(self.key_scales.chunks_exact_mut(scales));
        let values = self
            .values
            .chunks_exact_mut(value_words(shape))
            .zip(self.value_scales.chunks_exact_mut(scales));
        keys.zip(values)
            .map(|(keys, values)| Panel { keys, values })
    }

    #[inline(always)]
    fn prefetch_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        let panel = number(head, panel);
        prefetch(s, &self.keys, panel, key_words(shape));
        prefetch(s, &self.key_scales, panel, WIDTH * blocks(shape));
    }

    #[inline(always)]
    fn prefetch_values<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        let panel = number(head, panel);
        prefetch(s, &self.values, panel, value_words(shape));
        prefetch(s, &self.value_scales, panel, WIDTH * blocks(shape));
    }

    #[inline(always)]
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
    ) {
        let (codes, scales) = self.panel(shape, head, panel);
        let dim = shape.head_dim();
        scores_q4(s, queries.1, rows, dim, codes, scales, out, stride);
    }

    #[inline(always)]
    fn accumulate<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        keys: usize,
        weights: &[f32],
        scratch: &mut WeightScratch,
        acc: &mut [f32],
    ) {
        let width = shape.padded_dim();
        let values = self.rows(shape, head, 0, keys);
        let panels = keys.div_ceil(WIDTH);
        let scales = scales(&self.value_scales, shape, head, 0, panels);
        for block in 0..blocks(shape) {
            scale_weights(s, shape, scales, block, keys, weights, scratch);
            let columns = block * BLOCK..width.min((block + 1) * BLOCK);
            accumulate_q4(s, &scratch.rounded, keys, values, width, columns, acc);
        }
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
        let (codes, scales) = self.panel(shape, head, panel);
        widen_panel_q4(s, codes, scales, to);
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
        let width = shape.padded_dim();
        let panels = count.div_ceil(WIDTH);
        let scales = scales(&self.value_scales, shape, head, first / WIDTH, panels);
        let rows = self.rows(shape, head, first, count);
        widen_rows_q4(s, count, rows, scales, width, tile, to);
    }
}

/// Sixteen tokens of one head: codes and scales.
struct Panel<'a> {
    keys: (&'a mut [i16], &'a mut [f16]),
    values: (&'a mut [i16], &'a mut [f16]),
}

thread_local! {
    /// A head while it is transformed, and its codes.
    static HEAD: RefCell<(Vec<f32>, Vec<i16>)> = RefCell::default();
}

impl PanelMut for Panel<'_> {
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]) {
        HEAD.with_borrow_mut(|(head, codes)| {
            let (words, scales) = &mut self.keys;
            round(key, head, codes, &mut scales[lane..]);
            for (eight, codes) in codes[..key.len().next_multiple_of(EIGHT)]
                .chunks_exact(EIGHT)
                .enumerate()
            {
                let to = &mut words[(eight * WIDTH + lane) * 2..][..2];
                for (parity, to) in to.iter_mut().enumerate() {
                    let four = codes.iter().skip(parity).step_by(2);
                    *to = four.rev().fold(0, |word, code| word << 4 | code & 0b1111);
                }
            }
            let (words, scales) = &mut self.values;
            round(value, head, codes, &mut scales[lane..]);
            let width = words.len() / (WIDTH / EIGHT * 2);
            let eight = &mut words[lane / EIGHT * 2 * width..][..2 * width];
            let shift = lane % EIGHT / 2 * 4;
            let words = eight.iter_mut().skip(lane % 2).step_by(2);
            for (word, code) in words.zip(&codes[..value.len()]) {
                *word = *word & !(0b1111 << shift) | (code & 0b1111) << shift;
            }
        });
    }
}

/// Transforms and rounds a head; `codes` become as many as its blocks have.
fn round(from: &[f32], head: &mut Vec<f32>, codes: &mut Vec<i16>, scales: &mut [f16]) {
    head.clear();
    head.extend_from_slice(from);
    codes.resize(from.len().next_multiple_of(BLOCK), 0);
    dispatch(Round {
        head,
        codes,
        scales,
    });
}

struct Round<'a> {
    head: &'a mut [f32],
    codes: &'a mut [i16],
    scales: &'a mut [f16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        round_head_q4(s, self.head, self.codes, self.scales);
    }
}

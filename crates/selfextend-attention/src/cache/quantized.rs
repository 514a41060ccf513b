//! Pages that keep keys and values as signed bytes with a scale for each 32 components (ggml's
//! q8_0): 1.06 bytes a number, and half the bytes a decode step reads from half floats.

use super::stored::{PAGE, PanelMut, Stored, WeightScratch, prefetch, read_numbers, write_numbers};
use crate::shape::AttentionShape;
use crate::simd::kernels::{
    Rounded, accumulate_q8, multiply_rows, scores_q8, widen_panel_q8, widen_rows_q8,
};
use crate::simd::linear::BLOCK;
use crate::simd::{Simd, WIDTH};
use half::f16;
use std::ops::Range;

/// Keys and values of up to [`PAGE`] tokens. A panel is 16 tokens of one head, as elsewhere.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// `[kv_head][panel][component / 2][16][2]`: pairs, for products of pairs
    /// ([`crate::simd::kernels::scores_q8`]).
    keys: Vec<i8>,
    /// `[kv_head][panel][block][16]`.
    key_scales: Vec<f16>,
    /// `[kv_head][token / 2][padded component][2]`.
    values: Vec<i8>,
    /// `[kv_head][panel][block][16]`.
    value_scales: Vec<f16>,
}

/// Components of a key, with one more where they are odd.
fn even_dim(shape: AttentionShape) -> usize {
    shape.head_dim().next_multiple_of(2)
}

/// Blocks of a head.
pub(super) fn blocks(shape: AttentionShape) -> usize {
    shape.head_dim().div_ceil(BLOCK)
}

/// The scales of one panel, or of several from `panel` on.
pub(super) fn scales(
    all: &[f16],
    shape: AttentionShape,
    head: usize,
    panel: usize,
    count: usize,
) -> &[f16] {
    let size = blocks(shape) * WIDTH;
    let at = (head * (PAGE / WIDTH) + panel) * size;
    &all[at..at + count * size]
}

/// Rounds the weights of a page's first `keys` tokens for one block of columns. The scale of a key's
/// values goes into its weight, once for all of the block.
#[inline(always)]
pub(super) fn scale_weights<S: Simd>(
    s: S,
    shape: AttentionShape,
    scales: &[f16],
    block: usize,
    keys: usize,
    weights: &[f32],
    scratch: &mut WeightScratch,
) {
    let padded = keys.next_multiple_of(WIDTH);
    let WeightScratch { scaled, rounded } = scratch;
    scaled.reserve(weights.len().saturating_sub(scaled.len()));
    scaled.resize(weights.len() / PAGE * padded, 0.0);
    let (factors, distance) = (&scales[block * WIDTH..], blocks(shape) * WIDTH);
    multiply_rows(s, weights, PAGE, padded, factors, distance, scaled);
    // Scales of tokens that are not there are what an earlier pass left: maybe infinite.
    let rows = scaled.chunks_exact_mut(padded);
    rows.for_each(|row| row[keys..].fill(0.0));
    rounded.weights(s, scaled, padded, PAGE);
}

impl Bytes {
    fn panel(&self, shape: AttentionShape, head: usize, panel: usize) -> (&[i8], &[f16]) {
        let size = even_dim(shape) * WIDTH;
        let at = (head * (PAGE / WIDTH) + panel) * size;
        (
            &self.keys[at..at + size],
            scales(&self.key_scales, shape, head, panel, 1),
        )
    }

    /// Pairs of rows from an even one on.
    fn rows(&self, shape: AttentionShape, head: usize, first: usize, count: usize) -> &[i8] {
        let at = (head * PAGE + first) * shape.padded_dim();
        &self.values[at..at + count.next_multiple_of(2) * shape.padded_dim()]
    }
}

impl Stored for Bytes {
    /// Derived keys are half floats: rounding them to bytes again would add an error of
    /// their own to the neighbours, which matter most.
    type Near = f16;
    const INTEGERS: bool = true;

    fn new(shape: AttentionShape) -> Self {
        let scales = vec![f16::ZERO; PAGE * shape.kv_heads() * blocks(shape)];
        Self {
            keys: vec![0; PAGE * shape.kv_heads() * even_dim(shape)],
            key_scales: scales.clone(),
            values: vec![0; PAGE * shape.kv_heads() * shape.padded_dim()],
            value_scales: scales,
        }
    }

    fn bytes(&self) -> usize {
        self.keys.len()
            + self.values.len()
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
            .chunks_exact_mut(WIDTH * even_dim(shape))
            .zip(self.key_scales.chunks_exact_mut(scales));
        let values = self
            .values
            .chunks_exact_mut(WIDTH * shape.padded_dim())
            .zip(self.value_scales.chunks_exact_mut(scales));
        keys.zip(values)
            .map(|(keys, values)| Panel { keys, values })
    }

    #[inline(always)]
    fn prefetch_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        let panel = head * (PAGE / WIDTH) + panel;
        prefetch(s, &self.keys, panel, WIDTH * even_dim(shape));
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
        queries: (&[f32], &Rounded),
        rows: Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let (codes, scales) = self.panel(shape, head, panel);
        let dim = shape.head_dim();
        scores_q8(s, queries.1, rows, dim, codes, scales, out, stride);
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
            accumulate_q8(s, &scratch.rounded, keys, values, width, columns, acc);
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
        widen_panel_q8(s, codes, scales, to);
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
        widen_rows_q8(s, count, rows, scales, width, tile, to);
    }
}

/// Sixteen tokens of one head: codes and scales.
struct Panel<'a> {
    keys: (&'a mut [i8], &'a mut [f16]),
    values: (&'a mut [i8], &'a mut [f16]),
}

impl PanelMut for Panel<'_> {
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]) {
        let (codes, scales) = &mut self.keys;
        for (block, key) in key.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let slot = |c: usize| ((first + c) / 2 * WIDTH + lane) * 2 + c % 2;
            scales[block * WIDTH + lane] = quantize(key, codes, slot);
        }
        let (codes, scales) = &mut self.values;
        let padded = codes.len() / WIDTH;
        for (block, value) in value.chunks(BLOCK).enumerate() {
            let slot = |c: usize| (lane / 2 * padded + block * BLOCK + c) * 2 + lane % 2;
            scales[block * WIDTH + lane] = quantize(value, codes, slot);
        }
    }
}

/// Writes the codes of a block, each to its slot, and returns its scale: the largest number becomes
/// 127.
fn quantize(from: &[f32], to: &mut [i8], slot: impl Fn(usize) -> usize) -> f16 {
    let largest = from.iter().fold(0f32, |most, x| most.max(x.abs()));
    // Codes belong to the scale that is stored, not to the one before rounding.
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if scale > f16::ZERO {
        scale.to_f32().recip()
    } else {
        0.0
    };
    for (c, x) in from.iter().enumerate() {
        // `as` saturates, so the largest number stays in range when its scale was rounded down.
        to[slot(c)] = ((x * inverse).round_ties_even() as i8).max(-127);
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_within_half_a_scale() {
        let numbers: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let mut codes = [0i8; 32];
        let scale = quantize(&numbers, &mut codes, |c| c).to_f32();
        for (x, code) in numbers.iter().zip(codes) {
            assert!((x - f32::from(code) * scale).abs() <= scale * 0.57);
        }
        assert_eq!(quantize(&[0.0; 32], &mut codes, |c| c), f16::ZERO);
        assert_eq!(codes, [0; 32]);
    }
}

//! Keys and values as signed bytes (ggml's q8_0): 1.06 bytes a number, and half the bytes a decode
//! step reads from half floats.

use super::quantized::{Codes, Panel};
use crate::shape::AttentionShape;
use crate::simd::kernels::{Rounded, accumulate_q8, scores_q8, widen_panel_q8, widen_rows_q8};
use crate::simd::linear::BLOCK;
use crate::simd::{Simd, WIDTH};
use half::f16;
use std::ops::Range;

/// A byte for each number: keys as `[component / 2][16][2]`, pairs for products of pairs
/// ([`scores_q8`]), values as `[token / 2][padded component][2]`.
#[derive(Debug, Clone)]
pub struct Bytes;

impl Codes for Bytes {
    type Code = i8;

    /// With one more component where they are odd.
    fn keys(shape: AttentionShape) -> usize {
        WIDTH * shape.head_dim().next_multiple_of(2)
    }

    fn values(shape: AttentionShape) -> usize {
        WIDTH * shape.padded_dim()
    }

    fn put(panel: &mut Panel<Self>, lane: usize, key: &[f32], value: &[f32]) {
        let (codes, scales) = &mut panel.keys;
        for (block, key) in key.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let slot = |c: usize| ((first + c) / 2 * WIDTH + lane) * 2 + c % 2;
            scales[block * WIDTH + lane] = quantize(key, codes, slot);
        }
        let (codes, scales) = &mut panel.values;
        let padded = codes.len() / WIDTH;
        for (block, value) in value.chunks(BLOCK).enumerate() {
            let slot = |c: usize| (lane / 2 * padded + block * BLOCK + c) * 2 + lane % 2;
            scales[block * WIDTH + lane] = quantize(value, codes, slot);
        }
    }

    #[inline(always)]
    fn scores<S: Simd>(
        s: S,
        queries: &Rounded,
        rows: Range<usize>,
        depth: usize,
        codes: &[i8],
        scales: &[f16],
        _: &[f32],
        out: &mut [f32],
        stride: usize,
    ) {
        scores_q8(s, queries, rows, depth, codes, scales, out, stride);
    }

    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        weights: &Rounded,
        keys: usize,
        codes: &[i8],
        width: usize,
        columns: Range<usize>,
        acc: &mut [f32],
    ) {
        accumulate_q8(s, weights, keys, codes, width, columns, acc);
    }

    #[inline(always)]
    fn widen_panel<S: Simd>(s: S, codes: &[i8], scales: &[f16], to: &mut [f32]) {
        widen_panel_q8(s, codes, scales, to);
    }

    #[inline(always)]
    fn widen_rows<S: Simd>(
        s: S,
        rows: usize,
        codes: &[i8],
        scales: &[f16],
        width: usize,
        tile: usize,
        to: &mut [f32],
    ) {
        widen_rows_q8(s, rows, codes, scales, width, tile, to);
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

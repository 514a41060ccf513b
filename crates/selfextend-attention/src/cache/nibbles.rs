//! Pages that keep keys and values in four bits with a scale for each 32 components: 0.56 bytes a
//! number, 0.28 of half floats.
//!
//! Heads are transformed before they are rounded ([`crate::simd::kernels::hadamard`]), keys after
//! their rotation. So pages hold transformed keys `HR(p)k`: their scores are those of queries that
//! are transformed too, and keys of other regions are derived from what the transform gives back,
//! `H(HR(p)k) = R(p)k`. Weighted sums of values are transformed back once, when they are complete.
//!
//! Most of a model's keys is their mean, before rotation: 65% to 90% of the energy of SmolLM2's. So
//! codes hold what is left of a key without the page's offset, which is what the mean key of the page
//! before has become a page later ([`Quantized::follow`]): with it, four bits lose less than half of
//! the likelihood that they lose without (LOG.md). It is stored, so that a page needs no other.

use super::quantized::{Codes, Panel};
use crate::shape::AttentionShape;
use crate::simd::kernels::{
    EIGHT, Rounded, accumulate_q4, round_head_q4, scores_q4, widen_panel_q4, widen_rows_q4,
};
use crate::simd::linear::BLOCK;
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use half::f16;
use std::cell::RefCell;
use std::ops::Range;

/// Words of four codes: keys as `[component / 8][16][2]`, for products of pairs ([`scores_q4`]),
/// values as `[token / 8][padded component][2]`.
#[derive(Debug, Clone)]
pub struct Nibbles;

thread_local! {
    /// A head while it is transformed, and its codes.
    static HEAD: RefCell<(Vec<f32>, Vec<i16>)> = RefCell::default();
}

impl Codes for Nibbles {
    type Code = i16;
    const TRANSFORMED: bool = true;

    fn keys(shape: AttentionShape) -> usize {
        shape.head_dim().div_ceil(EIGHT) * 2 * WIDTH
    }

    fn values(shape: AttentionShape) -> usize {
        WIDTH / EIGHT * 2 * shape.padded_dim()
    }

    fn put(panel: &mut Panel<Self>, lane: usize, key: &[f32], value: &[f32]) {
        HEAD.with_borrow_mut(|(head, codes)| {
            let (words, scales) = &mut panel.keys;
            round(key, panel.offset, head, codes, &mut scales[lane..]);
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
            let (words, scales) = &mut panel.values;
            round(value, &[], head, codes, &mut scales[lane..]);
            let width = words.len() / (WIDTH / EIGHT * 2);
            let eight = &mut words[lane / EIGHT * 2 * width..][..2 * width];
            let shift = lane % EIGHT / 2 * 4;
            let words = eight.iter_mut().skip(lane % 2).step_by(2);
            for (word, code) in words.zip(&codes[..value.len()]) {
                *word = *word & !(0b1111 << shift) | (code & 0b1111) << shift;
            }
        });
    }

    #[inline(always)]
    fn scores<S: Simd>(
        s: S,
        queries: &Rounded,
        rows: Range<usize>,
        depth: usize,
        codes: &[i16],
        scales: &[f16],
        bases: &[f32],
        out: &mut [f32],
        stride: usize,
    ) {
        scores_q4(s, queries, rows, depth, codes, scales, bases, out, stride);
    }

    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        weights: &Rounded,
        keys: usize,
        codes: &[i16],
        width: usize,
        columns: Range<usize>,
        acc: &mut [f32],
    ) {
        accumulate_q4(s, weights, keys, codes, width, columns, acc);
    }

    #[inline(always)]
    fn widen_panel<S: Simd>(s: S, codes: &[i16], scales: &[f16], to: &mut [f32]) {
        widen_panel_q4(s, codes, scales, to);
    }

    #[inline(always)]
    fn widen_rows<S: Simd>(
        s: S,
        rows: usize,
        codes: &[i16],
        scales: &[f16],
        width: usize,
        tile: usize,
        to: &mut [f32],
    ) {
        widen_rows_q4(s, rows, codes, scales, width, tile, to);
    }
}

/// Transforms and rounds a head without its offset; `codes` become as many as its blocks have.
fn round(
    from: &[f32],
    offset: &[f32],
    head: &mut Vec<f32>,
    codes: &mut Vec<i16>,
    scales: &mut [f16],
) {
    head.clear();
    head.extend_from_slice(from);
    codes.resize(from.len().next_multiple_of(BLOCK), 0);
    dispatch(Round {
        head,
        offset,
        codes,
        scales,
    });
}

struct Round<'a> {
    head: &'a mut [f32],
    offset: &'a [f32],
    codes: &'a mut [i16],
    scales: &'a mut [f16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        round_head_q4(s, self.head, self.offset, self.codes, self.scales);
    }
}

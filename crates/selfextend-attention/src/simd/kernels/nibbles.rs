//! Decode from four bits (q4), in integers, as from bytes ([`super::pairs`]).
//!
//! Codes are -8 to 7. A word of 16 bits holds four of them, and the two words of a lane hold four
//! pairs: the lowest four bits of both are the first pair. So one read gives four times sixteen
//! pairs, each after two shifts, which also extend the sign. A pair is two components of a key, or
//! two tokens of a column of values: keys are `[component / 8][16][2]`, values `[token / 8][column]
//! [2]`.

use super::few::{KEYS_AT_ONCE, MAX_FEW, in_few_steps};
use super::hadamard::hadamard_row;
use super::pairs::{Rounded, pair};
use crate::simd::linear::BLOCK;
use crate::simd::vector::{Simd, WIDTH};
use half::f16;
use std::ops::Range;

/// Numbers whose codes the two words of a lane hold.
pub const EIGHT: usize = 8;

// Sums fit 32 bits, and are exact as floats.
const _: () = assert!(KEYS_AT_ONCE * 8 * (i16::MAX as usize) < 1 << 24 && BLOCK <= KEYS_AT_ONCE);

/// Sums of the pairs in `groups` groups of words, `distance` words apart, times those of `R` rows of
/// numbers, `stride` apart. `U` sums of each row are kept apart, so that few rows do not wait for
/// their own additions.
///
/// # Safety
/// Readable: 32 words at each of `groups` places of `words`, `R` rows of `8 * groups` numbers.
#[inline(always)]
unsafe fn sum_nibbles<S: Simd, const R: usize, const U: usize>(
    s: S,
    words: *const i16,
    distance: usize,
    groups: usize,
    numbers: *const i16,
    stride: usize,
) -> [S::V; R] {
    let mut sums = [[s.no_sums(); R]; U];
    for g in 0..groups {
        // SAFETY: g < groups, n < 4 and r < R; the caller promises those.
        unsafe {
            let words = s.load_words(words.add(g * distance));
            for n in 0..4 {
                let codes = s.nibbles(words, n as i32);
                for r in 0..R {
                    let by = pair(numbers.add(r * stride + EIGHT * g + 2 * n));
                    sums[n % U][r] = s.add_products(sums[n % U][r], codes, by);
                }
            }
        }
    }
    let mut out = [s.splat(0.0); R];
    for u in 0..U {
        for r in 0..R {
            out[r] = s.add(out[r], s.sums(sums[u][r]));
        }
    }
    out
}

/// [`super::scores_few`] of the rounded queries `rows` against a panel of codes: `codes` is
/// `[depth / 8][16][2]` (zeros after the last component) and `scales` `[block][16]`, one for each
/// 32 of the depth. All scores of a row begin with its base.
///
/// # Panics
/// When a slice is too short or there are more than 12 rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn scores_q4<S: Simd>(
    s: S,
    queries: &Rounded,
    rows: Range<usize>,
    depth: usize,
    codes: &[i16],
    scales: &[f16],
    bases: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    let bases = &bases[rows.clone()];
    let (count, blocks, groups) = (rows.len(), depth.div_ceil(BLOCK), depth.div_ceil(EIGHT));
    assert!(count <= MAX_FEW && codes.len() >= groups * 2 * WIDTH);
    assert!(scales.len() >= blocks * WIDTH && queries.scales.len() >= rows.end * blocks);
    assert!(queries.numbers.len() >= rows.end * blocks * BLOCK);
    assert!(count == 0 || out.len() >= (count - 1) * out_stride + WIDTH);
    in_few_steps!(count, |r, R, U| {
        // SAFETY: rows r..r+R are below `count`; a block holds no more than is left of the depth;
        // the assertions cover all of both.
        unsafe {
            let row = rows.start + r;
            let mut total: [S::V; R] = std::array::from_fn(|i| s.splat(bases[r + i]));
            for block in 0..blocks {
                let first = block * (BLOCK / EIGHT);
                let some = (BLOCK / EIGHT).min(groups - first);
                let numbers = queries.numbers.as_ptr().add((row * blocks + block) * BLOCK);
                let codes = codes.as_ptr().add(first * 2 * WIDTH);
                let stride = blocks * BLOCK;
                let sums = sum_nibbles::<S, R, U>(s, codes, 2 * WIDTH, some, numbers, stride);
                let scale = s.load_f16(scales.as_ptr().add(block * WIDTH));
                for i in 0..R {
                    let of_row = *queries.scales.as_ptr().add((row + i) * blocks + block);
                    total[i] = s.fma(s.mul(scale, s.splat(of_row)), sums[i], total[i]);
                }
            }
            for i in 0..R {
                s.store(out.as_mut_ptr().add((r + i) * out_stride), total[i]);
            }
        }
    });
}

/// [`super::accumulate_few`] of rounded weights and codes, in the given columns: `codes` is
/// `[keys / 8][width][2]`. Weights past the last key must be zero.
///
/// # Panics
/// When a slice is too short, a width is not a multiple of 16, or there are more than 12 rows.
#[inline(always)]
pub fn accumulate_q4<S: Simd>(
    s: S,
    weights: &Rounded,
    keys: usize,
    codes: &[i16],
    width: usize,
    columns: Range<usize>,
    acc: &mut [f32],
) {
    const AT_ONCE: usize = KEYS_AT_ONCE / EIGHT;
    let count = acc.len() / width;
    let (groups, blocks) = (keys.div_ceil(EIGHT), keys.div_ceil(KEYS_AT_ONCE));
    assert!(width.is_multiple_of(WIDTH) && codes.len() >= groups * 2 * width && count <= MAX_FEW);
    assert!(columns.end <= width && columns.len().is_multiple_of(WIDTH));
    assert!(weights.scales.len() >= count * blocks);
    assert!(weights.numbers.len() >= count * blocks * KEYS_AT_ONCE);
    for block in 0..blocks {
        let first = block * AT_ONCE;
        let some = (groups - first).min(AT_ONCE);
        for column in columns.clone().step_by(WIDTH) {
            in_few_steps!(count, |r, R, U| {
                // SAFETY: rows r..r+R are below `count`, first + some <= groups and column + 16 <=
                // width; the assertions cover `count` rows of weights and of acc and all codes.
                unsafe {
                    let at = (r * blocks + block) * KEYS_AT_ONCE;
                    let numbers = weights.numbers.as_ptr().add(at);
                    let codes = codes.as_ptr().add(2 * (first * width + column));
                    let stride = blocks * KEYS_AT_ONCE;
                    let sums = sum_nibbles::<S, R, U>(s, codes, 2 * width, some, numbers, stride);
                    for i in 0..R {
                        let scale = *weights.scales.as_ptr().add((r + i) * blocks + block);
                        let to = acc.as_mut_ptr().add((r + i) * width + column);
                        s.store(to, s.fma(s.splat(scale), sums[i], s.load(to)));
                    }
                }
            });
        }
    }
}

/// A panel of codes as floats: `codes` and `scales` are as for [`scores_q4`], `to` is `[depth][16]`.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn widen_panel_q4<S: Simd>(s: S, codes: &[i16], scales: &[f16], to: &mut [f32]) {
    let depth = to.len() / WIDTH;
    assert!(codes.len() >= depth.div_ceil(EIGHT) * 2 * WIDTH);
    assert!(scales.len() >= depth.div_ceil(BLOCK) * WIDTH);
    for first in (0..depth).step_by(EIGHT) {
        // SAFETY: first < depth, which the assertions cover; rows are written where they exist.
        unsafe {
            let words = s.load_words(codes.as_ptr().add(first * WIDTH / 4));
            let scale = s.load_f16(scales.as_ptr().add(first / BLOCK * WIDTH));
            for n in 0..4 {
                let (a, b) = s.unpair(s.nibbles(words, n as i32));
                let c = first + 2 * n;
                if c < depth {
                    s.store(to.as_mut_ptr().add(c * WIDTH), s.mul(a, scale));
                }
                if c + 1 < depth {
                    s.store(to.as_mut_ptr().add((c + 1) * WIDTH), s.mul(b, scale));
                }
            }
        }
    }
}

/// [`super::widen_rows`] of `rows` rows of codes: `codes` is `[row / 8][width][2]`, `scales` is
/// `[row / 16][block][row % 16]` with a block for each 32 columns.
///
/// # Panics
/// When a slice is too short, the width is not a multiple of 16, or the tile is smaller than the rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn widen_rows_q4<S: Simd>(
    s: S,
    rows: usize,
    codes: &[i16],
    scales: &[f16],
    width: usize,
    tile: usize,
    to: &mut [f32],
) {
    let blocks = width.div_ceil(BLOCK);
    assert!(width.is_multiple_of(WIDTH) && codes.len() >= rows.div_ceil(EIGHT) * 2 * width);
    assert!(rows <= tile && to.len() >= tile * width);
    for first in (0..rows).step_by(EIGHT) {
        let scales = &scales[first / WIDTH * blocks * WIDTH + first % WIDTH..];
        for column in (0..width).step_by(WIDTH) {
            let scales = &scales[column / BLOCK * WIDTH..][..EIGHT];
            // SAFETY: first < rows <= tile and column + 16 <= width; rows are written where they
            // exist.
            unsafe {
                let words = s.load_words(codes.as_ptr().add(first * width / 4 + 2 * column));
                let to = to.as_mut_ptr().add(column * tile + first * WIDTH);
                for n in 0..4 {
                    let (a, b) = s.unpair(s.nibbles(words, n as i32));
                    for (row, x) in [(2 * n, a), (2 * n + 1, b)] {
                        if first + row < rows {
                            let scale = s.splat(scales[row].to_f32());
                            s.store(to.add(row * WIDTH), s.mul(x, scale));
                        }
                    }
                }
            }
        }
    }
}

/// What the number that is largest by magnitude is divided by for the scales that are tried: -8 makes
/// it the lowest code, the others leave it a little inside or outside of the codes. The best of these
/// has 9% less squared error of normal numbers than -8 alone (0.0067 of their variance, 0.0074; a
/// minimum for each block would give 0.0061 with a ninth more memory).
const QUOTIENTS: [f32; 6] = [-8.0, -7.25, -7.75, -8.5, -9.0, -9.5];

/// Transforms a head (see [`super::hadamard`]), subtracts `offset` (nothing where it is empty) and
/// rounds each block of 32 of its components to `codes`; the scale of block `b` goes to `scales[b * 16]`. Of some scales the one with the least
/// squared error is taken. Numbers that are not finite make a block's scale not a number, so that
/// what reads it is refused and not wrong.
///
/// # Panics
/// When codes or scales are too few.
#[inline(always)]
pub fn round_head_q4<S: Simd>(
    s: S,
    head: &mut [f32],
    offset: &[f32],
    codes: &mut [i16],
    scales: &mut [f16],
) {
    assert!(codes.len() >= head.len().next_multiple_of(BLOCK));
    hadamard_row(s, head);
    head.iter_mut().zip(offset).for_each(|(x, off)| *x -= off);
    for (b, (block, codes)) in head
        .chunks(BLOCK)
        .zip(codes.chunks_exact_mut(BLOCK))
        .enumerate()
    {
        let mut padded = [0.0; BLOCK];
        padded[..block.len()].copy_from_slice(block);
        scales[b * WIDTH] = round_block_q4(s, &padded, codes);
    }
}

/// Rounds a block; see [`round_head_q4`].
#[inline(always)]
fn round_block_q4<S: Simd>(s: S, block: &[f32; BLOCK], codes: &mut [i16]) -> f16 {
    const HALVES: usize = BLOCK / WIDTH;
    assert!(codes.len() == BLOCK);
    let zero = s.splat(0.0);
    let mut x = [zero; HALVES];
    let (mut high, mut low, mut sum) = (zero, zero, zero);
    for h in 0..HALVES {
        // SAFETY: h * 16 + 16 <= 32.
        x[h] = unsafe { s.load(block.as_ptr().add(h * WIDTH)) };
        high = s.max(high, x[h]);
        low = s.max(low, s.sub(zero, x[h]));
        sum = s.add(sum, x[h]);
    }
    let (high, low) = (s.max_lane(high), s.max_lane(low));
    let largest = if high > low { high } else { -low };
    let mut best = (f32::INFINITY, f16::ZERO, [zero; HALVES]);
    for quotient in QUOTIENTS {
        // Codes belong to the scale that is stored, not to the one before rounding.
        let scale = f16::from_f32(largest / quotient);
        let step = scale.to_f32();
        if step == 0.0 {
            break;
        }
        let (mut error, mut rounded) = (zero, [zero; HALVES]);
        for h in 0..HALVES {
            let nearest = s.round(s.mul(x[h], s.splat(step.recip())));
            // At least -8; at most 7, as minus at least -7.
            let within = s.max(nearest, s.splat(-8.0));
            rounded[h] = s.sub(zero, s.max(s.sub(zero, within), s.splat(-7.0)));
            let off = s.sub(x[h], s.mul(rounded[h], s.splat(step)));
            error = s.fma(off, off, error);
        }
        let error = s.sum(error);
        if error < best.0 {
            best = (error, scale, rounded);
        }
    }
    let (_, scale, rounded) = best;
    for h in 0..HALVES {
        // SAFETY: h * 16 + 16 <= 32.
        unsafe { s.store_i16(codes.as_mut_ptr().add(h * WIDTH), rounded[h]) };
    }
    let lost = scale == f16::ZERO && largest.abs() > 1.0;
    if s.sum(sum).is_finite() && !lost {
        scale
    } else {
        f16::NAN
    }
}

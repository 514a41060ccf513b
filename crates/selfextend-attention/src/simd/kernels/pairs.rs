//! Decode from bytes (q8_0): products of pairs, in integers.
//!
//! Widening bytes to floats costs as much as widening half floats, so reading half the bytes would
//! be no faster. Instead the *other* factor, the query or the softmax weights, is rounded to
//! 16 bits (2^-16 of a block's largest, 256 times finer than the bytes themselves) and two
//! products are added at once in 32-bit integers, which is exact. Bytes lie in pairs for this:
//! keys `[component / 2][16][2]`, values `[token / 2][column][2]`.

use super::few::{KEYS_AT_ONCE, MAX_FEW, in_few_steps};
use crate::simd::linear::BLOCK;
use crate::simd::vector::{Simd, WIDTH};
use half::f16;
use std::ops::Range;

/// Rows rounded to 16 bits, with a scale for each block.
#[derive(Debug, Default)]
pub struct Rounded {
    /// `[row][block][block length]`, zeros at the end.
    pub(super) numbers: Vec<i16>,
    /// `[row][block]`.
    pub(super) scales: Vec<f32>,
}

/// Numbers of 16 bits that the largest of a block becomes.
const LARGEST: f32 = i16::MAX as f32;
/// Below this a block counts as zero, so that no scale's inverse overflows.
const SMALLEST: f32 = 1e-30;

// The sums of a block fit 32 bits.
const _: () = assert!(BLOCK * 127 * (i16::MAX as usize) < i32::MAX as usize);
const _: () = assert!(KEYS_AT_ONCE * 127 * (i16::MAX as usize) < i32::MAX as usize);

impl Rounded {
    /// Rounds `rows`, each of `len` floats, in blocks of `B` (a multiple of 16).
    #[inline(always)]
    fn fill<S: Simd, const B: usize>(&mut self, s: S, rows: &[f32], len: usize) {
        let blocks = len.div_ceil(B);
        let count = rows.len() / len;
        self.numbers.resize(count * blocks * B, 0);
        self.scales.resize(count * blocks, 0.0);
        let mut to = self.numbers.chunks_exact_mut(B).zip(&mut self.scales);
        for row in rows.chunks_exact(len) {
            for block in row.chunks(B) {
                let Some((numbers, scale)) = to.next() else {
                    return;
                };
                *scale = round_block::<S, B>(s, block, numbers);
            }
        }
    }

    /// Queries for [`scores_q8`] and [`super::scores_q4`]: `rows` is `[row][depth]`.
    #[inline(always)]
    pub fn queries<S: Simd>(&mut self, s: S, rows: &[f32], depth: usize) {
        self.fill::<S, BLOCK>(s, rows, depth);
    }

    /// Softmax weights for [`accumulate_q8`] and [`super::accumulate_q4`]: `rows` is `[row][keys]`.
    /// Room is made for `most` keys at once, so that a page that fills up allocates nothing.
    #[inline(always)]
    pub fn weights<S: Simd>(&mut self, s: S, rows: &[f32], keys: usize, most: usize) {
        let (count, blocks) = (rows.len() / keys, most.div_ceil(KEYS_AT_ONCE));
        let (numbers, scales) = (count * blocks * KEYS_AT_ONCE, count * blocks);
        self.numbers
            .reserve(numbers.saturating_sub(self.numbers.len()));
        self.scales
            .reserve(scales.saturating_sub(self.scales.len()));
        self.fill::<S, KEYS_AT_ONCE>(s, rows, keys);
    }
}

/// Rounds one block and returns its scale.
#[inline(always)]
fn round_block<S: Simd, const B: usize>(s: S, from: &[f32], to: &mut [i16]) -> f32 {
    assert!(from.len() <= B && to.len() == B && B.is_multiple_of(WIDTH));
    // A whole block is read from its source: reading back what was just written in another width
    // stalls.
    let mut padded = [0.0f32; B];
    let whole = from.len() == B;
    if !whole {
        padded[..from.len()].copy_from_slice(from);
    }
    let from = if whole { from } else { &padded };
    let (zero, mut top) = (s.splat(0.0), s.splat(0.0));
    for k in (0..B).step_by(WIDTH) {
        // SAFETY: k + 16 <= B.
        let x = unsafe { s.load(from.as_ptr().add(k)) };
        top = s.max(top, s.max(x, s.sub(zero, x)));
    }
    let largest = s.max_lane(top);
    let (scale, inverse) = if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / LARGEST, LARGEST / largest)
    };
    let inverse = s.splat(inverse);
    for k in (0..B).step_by(WIDTH) {
        // SAFETY: k + 16 <= B, the length of both.
        unsafe {
            let x = s.load(from.as_ptr().add(k));
            s.store_i16(to.as_mut_ptr().add(k), s.mul(x, inverse));
        }
    }
    scale
}

/// Two neighbouring numbers, the first in the lower half.
///
/// # Safety
/// `p` must be readable for both.
#[inline(always)]
pub(super) unsafe fn pair(p: *const i16) -> i32 {
    // SAFETY: the caller's promise; the read needs no alignment.
    let both = unsafe { p.cast::<i32>().read_unaligned() };
    if cfg!(target_endian = "big") {
        both.rotate_left(16)
    } else {
        both
    }
}

/// Sums of `pairs` pairs of bytes, `distance` bytes apart, times those of `R` rows of numbers,
/// `stride` apart.
///
/// # Safety
/// Readable: 32 bytes at each of `pairs` places of `codes`, `R` rows of `2 * pairs` numbers.
#[inline(always)]
unsafe fn sum_pairs<S: Simd, const R: usize>(
    s: S,
    codes: *const i8,
    distance: usize,
    pairs: usize,
    numbers: *const i16,
    stride: usize,
) -> [S::V; R] {
    let mut sums = [s.no_sums(); R];
    for p in 0..pairs {
        // SAFETY: p < pairs and r < R; the caller promises those.
        unsafe {
            let codes = s.load_pairs(codes.add(p * distance));
            for r in 0..R {
                let by = pair(numbers.add(r * stride + 2 * p));
                sums[r] = s.add_products(sums[r], codes, by);
            }
        }
    }
    let mut out = [s.splat(0.0); R];
    for r in 0..R {
        out[r] = s.sums(sums[r]);
    }
    out
}

/// [`super::scores_few`] of the rounded queries `rows` against a panel of bytes: `codes` is
/// `[depth / 2][16][2]` (an odd depth has a zero at the end) and `scales` `[block][16]`, one for
/// each 32 of the depth.
///
/// # Panics
/// When a slice is too short or there are more than 12 rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn scores_q8<S: Simd>(
    s: S,
    queries: &Rounded,
    rows: Range<usize>,
    depth: usize,
    codes: &[i8],
    scales: &[f16],
    out: &mut [f32],
    out_stride: usize,
) {
    let (count, blocks) = (rows.len(), depth.div_ceil(BLOCK));
    let even = depth.next_multiple_of(2);
    assert!(count <= MAX_FEW && codes.len() >= even * WIDTH && scales.len() >= blocks * WIDTH);
    assert!(queries.scales.len() >= rows.end * blocks);
    assert!(queries.numbers.len() >= rows.end * blocks * BLOCK);
    assert!(count == 0 || out.len() >= (count - 1) * out_stride + WIDTH);
    in_few_steps!(count, |r, R, _U| {
        // SAFETY: rows r..r+R are below `count`; a block holds no more than is left of the depth;
        // the assertions cover all of both.
        unsafe {
            let row = rows.start + r;
            let mut total = [s.splat(0.0); R];
            for block in 0..blocks {
                let pairs = BLOCK.min(even - block * BLOCK) / 2;
                let numbers = queries.numbers.as_ptr().add((row * blocks + block) * BLOCK);
                let codes = codes.as_ptr().add(block * BLOCK * WIDTH);
                let stride = blocks * BLOCK;
                let sums = sum_pairs::<S, R>(s, codes, 2 * WIDTH, pairs, numbers, stride);
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

/// [`super::accumulate_few`] of rounded weights and bytes, in the given columns: `codes` is
/// `[keys / 2][width][2]`. Weights past the last key must be zero.
///
/// # Panics
/// When a slice is too short, a width is not a multiple of 16, or there are more than 12 rows.
#[inline(always)]
pub fn accumulate_q8<S: Simd>(
    s: S,
    weights: &Rounded,
    keys: usize,
    codes: &[i8],
    width: usize,
    columns: Range<usize>,
    acc: &mut [f32],
) {
    let count = acc.len() / width;
    let (pairs, blocks) = (keys.div_ceil(2), keys.div_ceil(KEYS_AT_ONCE));
    assert!(width.is_multiple_of(WIDTH) && codes.len() >= 2 * pairs * width && count <= MAX_FEW);
    assert!(columns.end <= width && columns.len().is_multiple_of(WIDTH));
    assert!(weights.scales.len() >= count * blocks);
    assert!(weights.numbers.len() >= count * blocks * KEYS_AT_ONCE);
    for block in 0..blocks {
        let first = block * KEYS_AT_ONCE / 2;
        let some = (pairs - first).min(KEYS_AT_ONCE / 2);
        for column in columns.clone().step_by(WIDTH) {
            in_few_steps!(count, |r, R, _U| {
                // SAFETY: rows r..r+R are below `count`, first + some <= pairs and column + 16 <=
                // width; the assertions cover `count` rows of weights and of acc and all codes.
                unsafe {
                    let at = (r * blocks + block) * KEYS_AT_ONCE;
                    let numbers = weights.numbers.as_ptr().add(at);
                    let codes = codes.as_ptr().add(2 * (first * width + column));
                    let stride = blocks * KEYS_AT_ONCE;
                    let sums = sum_pairs::<S, R>(s, codes, 2 * width, some, numbers, stride);
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

/// `to[row][k] = from[row][k] * factors[k / 16][k % 16]`: `from` has rows of `stride`, of which the
/// first `keys` (a multiple of 16) are used; the factors of each 16 keys are `distance` apart.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn multiply_rows<S: Simd>(
    s: S,
    from: &[f32],
    stride: usize,
    keys: usize,
    factors: &[f16],
    distance: usize,
    to: &mut [f32],
) {
    let rows = from.len() / stride;
    assert!(keys.is_multiple_of(WIDTH) && keys <= stride && to.len() >= rows * keys);
    assert!(keys == 0 || factors.len() >= (keys / WIDTH - 1) * distance + WIDTH);
    for row in 0..rows {
        for panel in 0..keys / WIDTH {
            // SAFETY: row < rows and panel < keys / 16, which the assertions cover.
            unsafe {
                let x = s.load(from.as_ptr().add(row * stride + panel * WIDTH));
                let factor = s.load_f16(factors.as_ptr().add(panel * distance));
                let to = to.as_mut_ptr().add(row * keys + panel * WIDTH);
                s.store(to, s.mul(x, factor));
            }
        }
    }
}

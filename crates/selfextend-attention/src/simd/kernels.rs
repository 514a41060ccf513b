//! The inner loops of attention, on slices, generic over the instructions.
//!
//! Keys are read in *panels*: 16 keys side by side, `[component][16]`, so that a row of a query
//! against a panel needs no transposition and no horizontal sum. The arithmetic of one output
//! element never depends on how many rows are computed together.

use super::linear::BLOCK;
use super::{Element, Load, Simd, WIDTH};
use half::f16;
use std::ops::Range;

/// Calls a const-generic micro-kernel on `count` rows, in the largest steps the level allows.
macro_rules! in_row_steps {
    ($s:ty, $count:expr, |$row:ident, $rows:ident| $call:expr) => {{
        let (mut $row, count) = (0, $count);
        while $row < count {
            macro_rules! step {
                ($n:literal) => {{
                    const $rows: usize = $n;
                    $call;
                    $row += $n;
                }};
            }
            match count - $row {
                left if left >= 12 && <$s as Simd>::ROWS >= 12 => step!(12),
                left if left >= 6 => step!(6),
                5 => step!(5),
                4 => step!(4),
                3 => step!(3),
                2 => step!(2),
                _ => step!(1),
            }
        }
    }};
}

/// Calls a const-generic decode kernel on `count` rows, `R` at a time with `U` sums of each: at
/// least eight chains of additions wherever there are two rows or more.
macro_rules! in_few_steps {
    ($count:expr, |$row:ident, $rows:ident, $sums:ident| $call:expr) => {{
        let (mut $row, count) = (0, $count);
        while $row < count {
            macro_rules! step {
                ($n:literal, $u:literal) => {{
                    const $rows: usize = $n;
                    const $sums: usize = $u;
                    $call;
                    $row += $n;
                }};
            }
            match count - $row {
                1 => step!(1, 4),
                2 => step!(2, 2),
                4 => step!(4, 1),
                5 => step!(5, 1),
                _ => step!(3, 2),
            }
        }
    }};
}

/// Scores of `count` rows against one panel: `out[r][lane] = rows[r] · panel[.][lane]`.
///
/// `rows` is `[count][depth]`, `panel` `[depth][16]`; row `r` of the result starts at
/// `out[r * out_stride]`.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn scores<S: Simd, E: Load>(
    s: S,
    rows: &[f32],
    count: usize,
    depth: usize,
    panel: &[E],
    out: &mut [f32],
    out_stride: usize,
) {
    assert!(rows.len() >= count * depth && panel.len() >= depth * WIDTH);
    assert!(count == 0 || out.len() >= (count - 1) * out_stride + WIDTH);
    in_row_steps!(S, count, |r, R| {
        // SAFETY: rows r..r+R are below `count`, and the assertions cover all `count` rows.
        unsafe {
            let acc = dots::<S, E, R, 1>(
                s,
                rows.as_ptr().add(r * depth),
                depth,
                depth,
                panel.as_ptr(),
            );
            for (i, acc) in acc.into_iter().enumerate() {
                s.store(out.as_mut_ptr().add((r + i) * out_stride), acc);
            }
        }
    });
}

/// `U` sums of each row are kept apart, so that few rows do not wait for their own additions.
///
/// # Safety
/// `rows` must be readable for `R` rows of `depth` floats, `stride` apart, and `panel` for `depth *
/// 16` elements.
#[inline(always)]
unsafe fn dots<S: Simd, E: Load, const R: usize, const U: usize>(
    s: S,
    rows: *const f32,
    stride: usize,
    depth: usize,
    panel: *const E,
) -> [S::V; R] {
    let mut acc = [[s.splat(0.0); R]; U];
    let whole = depth - depth % U;
    // SAFETY: d + u < depth, r < R.
    unsafe {
        for d in (0..whole).step_by(U) {
            for u in 0..U {
                let keys = E::load(s, panel.add((d + u) * WIDTH));
                for r in 0..R {
                    let x = s.splat(*rows.add(r * stride + d + u));
                    acc[u][r] = s.fma(x, keys, acc[u][r]);
                }
            }
        }
        for d in whole..depth {
            let keys = E::load(s, panel.add(d * WIDTH));
            for r in 0..R {
                acc[0][r] = s.fma(s.splat(*rows.add(r * stride + d)), keys, acc[0][r]);
            }
        }
    }
    for u in 1..U {
        for r in 0..R {
            acc[0][r] = s.add(acc[0][r], acc[u][r]);
        }
    }
    acc[0]
}

/// [`scores`] for the few rows of a decode step, which are the same number at every step: their
/// sums may be ordered by it. At most 12 rows.
///
/// # Panics
/// When a slice is too short or there are more rows.
#[inline(always)]
pub fn scores_few<S: Simd, E: Load>(
    s: S,
    rows: &[f32],
    depth: usize,
    panel: &[E],
    out: &mut [f32],
    out_stride: usize,
) {
    let count = rows.len() / depth;
    assert!(count <= MAX_FEW && panel.len() >= depth * WIDTH);
    assert!(count == 0 || out.len() >= (count - 1) * out_stride + WIDTH);
    in_few_steps!(count, |r, R, U| {
        // SAFETY: rows r..r+R are below `count`, and the assertions cover all `count` rows.
        unsafe {
            let rows = rows.as_ptr().add(r * depth);
            let acc = dots::<S, E, R, U>(s, rows, depth, depth, panel.as_ptr());
            for i in 0..R {
                s.store(out.as_mut_ptr().add((r + i) * out_stride), acc[i]);
            }
        }
    });
}

/// Rows a decode kernel takes at once.
pub const MAX_FEW: usize = 12;

/// Adds weighted values: `acc[r] = acc[r] * correction[r] + sum over k of weights[r][k] * values[k]`.
///
/// `weights` has rows of `stride`, of which the first `keys` are used; `values` is `[width / 16]
/// [stride][16]`, so that 16 columns of all keys lie together, and `acc` is `[count][width]`.
///
/// # Panics
/// When a slice is too short or a width no multiple of 16.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn accumulate<S: Simd>(
    s: S,
    weights: &[f32],
    stride: usize,
    keys: usize,
    values: &[f32],
    width: usize,
    correction: &[f32],
    acc: &mut [f32],
) {
    let count = correction.len();
    assert!(width.is_multiple_of(WIDTH) && values.len() >= stride * width);
    assert!(acc.len() >= count * width && stride >= keys);
    assert!(count == 0 || weights.len() >= (count - 1) * stride + keys);
    for column in (0..width).step_by(WIDTH) {
        in_row_steps!(S, count, |r, R| {
            // SAFETY: rows r..r+R are below `count`, column + 16 <= width, and the assertions
            // cover `count` rows of weights and of acc and `stride` keys in each column panel.
            unsafe {
                weigh::<S, R>(
                    s,
                    weights.as_ptr().add(r * stride),
                    stride,
                    keys,
                    values.as_ptr().add(column * stride),
                    width,
                    correction.as_ptr().add(r),
                    acc.as_mut_ptr().add(r * width + column),
                );
            }
        });
    }
}

/// # Safety
/// Readable: `R` rows of `keys` weights, `keys` times 16 values, `R` corrections. Readable and writable: `R` rows of 16 floats in `acc` (row distance `width`).
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weigh<S: Simd, const R: usize>(
    s: S,
    weights: *const f32,
    stride: usize,
    keys: usize,
    values: *const f32,
    width: usize,
    correction: *const f32,
    out: *mut f32,
) {
    // SAFETY: r < R and k < keys throughout; the caller promises those rows.
    unsafe {
        let mut acc = [s.splat(0.0); R];
        for (r, acc) in acc.iter_mut().enumerate() {
            *acc = s.mul(s.load(out.add(r * width)), s.splat(*correction.add(r)));
        }
        for k in 0..keys {
            let value = s.load(values.add(k * WIDTH));
            for r in 0..R {
                acc[r] = s.fma(s.splat(*weights.add(r * stride + k)), value, acc[r]);
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            s.store(out.add(r * width), acc);
        }
    }
}

/// [`accumulate`] for the few rows of a decode step, without corrections: `acc[r] += sum over k of
/// weights[r][k] * values[k]`, in the given columns. At most 12 rows of `width` in `acc`.
///
/// # Panics
/// When a slice is too short, a width no multiple of 16 or there are more rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn accumulate_few<S: Simd, E: Load>(
    s: S,
    weights: &[f32],
    stride: usize,
    keys: usize,
    values: &[E],
    width: usize,
    columns: Range<usize>,
    acc: &mut [f32],
) {
    let count = acc.len() / width;
    assert!(width.is_multiple_of(WIDTH) && values.len() >= keys * width && count <= MAX_FEW);
    assert!(columns.end <= width && columns.len().is_multiple_of(WIDTH));
    assert!(count == 0 || weights.len() >= (count - 1) * stride + keys);
    // Few keys at a time, so that their values come from memory in order, line after line.
    for first in (0..keys).step_by(KEYS_AT_ONCE) {
        let some = KEYS_AT_ONCE.min(keys - first);
        for column in columns.clone().step_by(WIDTH) {
            in_few_steps!(count, |r, R, U| {
                // SAFETY: rows r..r+R are below `count`, first + some <= keys and column + 16 <=
                // width; the assertions cover `count` rows of weights and of acc and all values.
                unsafe {
                    let weights = weights.as_ptr().add(r * stride + first);
                    let values = values.as_ptr().add(first * width + column);
                    let out = acc.as_mut_ptr().add(r * width + column);
                    weigh_few::<S, E, R, U>(s, weights, stride, some, values, width, out);
                }
            });
        }
    }
}

/// Keys whose values a decode step weighs before it turns to other columns.
const KEYS_AT_ONCE: usize = 64;

/// `U` sums of each row are kept apart, as in [`dots`].
///
/// # Safety
/// Readable: `R` rows of `keys` weights, `keys` rows of 16 values (row distance `width`).
/// Readable and writable: `R` rows of 16 floats in `out` (row distance `width`).
#[inline(always)]
unsafe fn weigh_few<S: Simd, E: Load, const R: usize, const U: usize>(
    s: S,
    weights: *const f32,
    stride: usize,
    keys: usize,
    values: *const E,
    width: usize,
    out: *mut f32,
) {
    let whole = keys - keys % U;
    // SAFETY: r < R and k + u < keys throughout; the caller promises those rows.
    unsafe {
        let mut acc = [[s.splat(0.0); R]; U];
        for k in (0..whole).step_by(U) {
            for u in 0..U {
                let value = E::load(s, values.add((k + u) * width));
                for r in 0..R {
                    let weight = s.splat(*weights.add(r * stride + k + u));
                    acc[u][r] = s.fma(weight, value, acc[u][r]);
                }
            }
        }
        for k in whole..keys {
            let value = E::load(s, values.add(k * width));
            for r in 0..R {
                acc[0][r] = s.fma(s.splat(*weights.add(r * stride + k)), value, acc[0][r]);
            }
        }
        for r in 0..R {
            for u in 1..U {
                acc[0][r] = s.add(acc[0][r], acc[u][r]);
            }
            let out = out.add(r * width);
            s.store(out, s.add(s.load(out), acc[0][r]));
        }
    }
}

/// The running state of an online softmax in base 2 (FlashAttention-2, section 3.1).
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// The largest score so far.
    pub max: f32,
    /// Sum of `2^(score - max)` so far.
    pub sum: f32,
}

impl Running {
    /// Nothing seen yet.
    pub const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };
}

/// Turns a row of base-2 scores into weights `2^(score - max)`, updates the running maximum and
/// sum, and returns what earlier accumulators must be multiplied by. Masked scores are -infinity.
///
/// # Panics
/// When the row's length is no multiple of 16.
#[inline(always)]
pub fn softmax_row<S: Simd>(s: S, row: &mut [f32], state: &mut Running) -> f32 {
    assert!(row.len().is_multiple_of(WIDTH));
    let p = row.as_mut_ptr();
    let mut top = s.splat(state.max);
    for k in (0..row.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= len.
        top = s.max(top, unsafe { s.load(p.add(k)) });
    }
    let max = s.max_lane(top);
    if max == f32::NEG_INFINITY {
        row.fill(0.0);
        return 1.0;
    }
    let shift = s.splat(max);
    let mut total = s.splat(0.0);
    for k in (0..row.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= len.
        unsafe {
            let weight = s.exp2(s.sub(s.load(p.add(k)), shift));
            s.store(p.add(k), weight);
            total = s.add(total, weight);
        }
    }
    let correction = if state.max == max {
        1.0
    } else {
        (state.max - max).exp2()
    };
    state.sum = state.sum * correction + s.sum(total);
    state.max = max;
    correction
}

/// Widens elements to floats; both slices have the same length, a multiple of 16.
///
/// # Panics
/// When the lengths differ or are no multiple of 16.
#[inline(always)]
pub fn widen<S: Simd, E: Load>(s: S, from: &[E], to: &mut [f32]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(WIDTH));
    for k in (0..from.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= the common length.
        unsafe { s.store(to.as_mut_ptr().add(k), E::load(s, from.as_ptr().add(k))) };
    }
}

/// `to[panel][lane] = from[panel][lane] * factors[panel][lane]`, where `to` and `from` are whole
/// panels and factors are `stride` apart.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn multiply_rows<S: Simd>(s: S, from: &[f32], factors: &[f16], stride: usize, to: &mut [f32]) {
    let panels = from.len() / WIDTH;
    assert!(to.len() >= panels * WIDTH);
    assert!(panels == 0 || factors.len() >= (panels - 1) * stride + WIDTH);
    for panel in 0..panels {
        // SAFETY: panel < panels, which the assertions cover.
        unsafe {
            let x = s.load(from.as_ptr().add(panel * WIDTH));
            let factor = s.load_f16(factors.as_ptr().add(panel * stride));
            s.store(to.as_mut_ptr().add(panel * WIDTH), s.mul(x, factor));
        }
    }
}

/// [`scores_few`] against a panel of bytes: `codes` is `[depth][16]` and `scales` `[block][16]`,
/// one for each 32 of the depth.
///
/// # Panics
/// When a slice is too short or there are more than 12 rows.
#[inline(always)]
pub fn scores_q8<S: Simd>(
    s: S,
    rows: &[f32],
    depth: usize,
    codes: &[i8],
    scales: &[f16],
    out: &mut [f32],
    out_stride: usize,
) {
    let count = rows.len() / depth;
    assert!(count <= MAX_FEW && codes.len() >= depth * WIDTH);
    assert!(scales.len() >= depth.div_ceil(BLOCK) * WIDTH);
    assert!(count == 0 || out.len() >= (count - 1) * out_stride + WIDTH);
    in_few_steps!(count, |r, R, U| {
        // SAFETY: rows r..r+R are below `count`; a block starts below `depth` and holds no more
        // than is left of it; the assertions cover all of both.
        unsafe {
            let rows = rows.as_ptr().add(r * depth);
            let mut total = [s.splat(0.0); R];
            for first in (0..depth).step_by(BLOCK) {
                let codes = codes.as_ptr().add(first * WIDTH);
                let some = BLOCK.min(depth - first);
                let sums = dots::<S, i8, R, U>(s, rows.add(first), depth, some, codes);
                let scale = s.load_f16(scales.as_ptr().add(first / BLOCK * WIDTH));
                for i in 0..R {
                    total[i] = s.fma(scale, sums[i], total[i]);
                }
            }
            for i in 0..R {
                s.store(out.as_mut_ptr().add((r + i) * out_stride), total[i]);
            }
        }
    });
}

/// A panel of bytes as floats: `codes` and `to` are `[depth][16]`, `scales` as for [`scores_q8`].
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn widen_panel_q8<S: Simd>(s: S, codes: &[i8], scales: &[f16], to: &mut [f32]) {
    let depth = codes.len() / WIDTH;
    assert!(to.len() >= depth * WIDTH && scales.len() >= depth.div_ceil(BLOCK) * WIDTH);
    for c in 0..depth {
        // SAFETY: c < depth, which the assertion covers.
        unsafe {
            let scale = s.load_f16(scales.as_ptr().add(c / BLOCK * WIDTH));
            let code = s.load_i8(codes.as_ptr().add(c * WIDTH));
            s.store(to.as_mut_ptr().add(c * WIDTH), s.mul(code, scale));
        }
    }
}

/// Rows of values as floats in the order of [`accumulate`]: `from` is `[row][width]`, `to` `[width /
/// 16][tile][16]`.
///
/// # Panics
/// When a slice is too short, the width no multiple of 16 or the tile less than the rows.
#[inline(always)]
pub fn widen_rows<S: Simd, E: Load>(s: S, from: &[E], width: usize, tile: usize, to: &mut [f32]) {
    let rows = from.len() / width;
    assert!(width.is_multiple_of(WIDTH) && rows <= tile && to.len() >= tile * width);
    for row in 0..rows {
        for column in (0..width).step_by(WIDTH) {
            // SAFETY: row < rows <= tile and column + 16 <= width.
            unsafe {
                let values = E::load(s, from.as_ptr().add(row * width + column));
                let at = column * tile + row * WIDTH;
                s.store(to.as_mut_ptr().add(at), values);
            }
        }
    }
}

/// [`widen_rows`] of bytes: `scales` is `[row / 16][block][row % 16]` with a block for each 32
/// columns.
///
/// # Panics
/// When a slice is too short, the width no multiple of 16 or the tile less than the rows.
#[inline(always)]
pub fn widen_rows_q8<S: Simd>(
    s: S,
    codes: &[i8],
    scales: &[f16],
    width: usize,
    tile: usize,
    to: &mut [f32],
) {
    let (rows, blocks) = (codes.len() / width, width.div_ceil(BLOCK));
    assert!(width.is_multiple_of(WIDTH) && rows <= tile && to.len() >= tile * width);
    for row in 0..rows {
        let scales = &scales[row / WIDTH * blocks * WIDTH + row % WIDTH..];
        for column in (0..width).step_by(WIDTH) {
            let scale = s.splat(scales[column / BLOCK * WIDTH].to_f32());
            // SAFETY: row < rows <= tile and column + 16 <= width.
            unsafe {
                let code = s.load_i8(codes.as_ptr().add(row * width + column));
                let at = column * tile + row * WIDTH;
                s.store(to.as_mut_ptr().add(at), s.mul(code, scale));
            }
        }
    }
}

/// Rotates a panel `[component][16]` in place, key by key: the two components of `pair(t)` by the
/// angle whose cosine and sine are `cos[t]` and `sin[t]` (`[pair][16]`).
///
/// # Panics
/// When a pair is outside the panel or a table too short.
#[inline(always)]
pub fn rotate_panel<S: Simd>(
    s: S,
    panel: &mut [f32],
    pairs: usize,
    pair: impl Fn(usize) -> (usize, usize),
    cos: &[f32],
    sin: &[f32],
) {
    let depth = panel.len() / WIDTH;
    assert!(cos.len() >= pairs * WIDTH && sin.len() >= pairs * WIDTH);
    for t in 0..pairs {
        let (a, b) = pair(t);
        assert!(a < depth && b < depth);
        // SAFETY: a and b are below the depth, t below the pairs.
        unsafe {
            let (to_a, to_b) = (
                panel.as_mut_ptr().add(a * WIDTH),
                panel.as_mut_ptr().add(b * WIDTH),
            );
            let (x, y) = (s.load(to_a), s.load(to_b));
            let cos = s.load(cos.as_ptr().add(t * WIDTH));
            let sin = s.load(sin.as_ptr().add(t * WIDTH));
            s.store(to_a, s.sub(s.mul(x, cos), s.mul(y, sin)));
            s.store(to_b, s.fma(x, sin, s.mul(y, cos)));
        }
    }
}

/// Rounds floats to what `E` can hold.
///
/// # Panics
/// When the length is no multiple of 16.
#[inline(always)]
pub fn round_to<S: Simd, E: Element>(s: S, x: &mut [f32]) {
    assert!(x.len().is_multiple_of(WIDTH));
    for x in x.chunks_exact_mut(WIDTH) {
        let mut rounded = [E::default(); WIDTH];
        // SAFETY: both hold 16.
        unsafe {
            E::store(s, rounded.as_mut_ptr(), s.load(x.as_ptr()));
            s.store(x.as_mut_ptr(), E::load(s, rounded.as_ptr()));
        }
    }
}

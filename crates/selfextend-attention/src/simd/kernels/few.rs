//! The few rows of a decode step. Their number is the same at every step, so the order of a sum may
//! depend on it. Keys and values are read in their storage type.

use super::rows::dots;
use crate::simd::vector::{Load, Simd, WIDTH};

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
                3 => step!(3, 2),
                4 | 7 | 8 => step!(4, 1),
                5 | 9 | 10 => step!(5, 1),
                _ => step!(6, 1),
            }
        }
    }};
}
pub(super) use in_few_steps;

/// [`scores`](super::scores) for the few rows of a decode step, at most 12. Their number is the same
/// at every step, so the order of a sum may depend on it.
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

/// [`accumulate`](super::accumulate) for the few rows of a decode step, without corrections:
/// `acc[r] += sum over k of weights[r][k] * values[k]`. At most 12 rows of `width` in `acc`.
///
/// # Panics
/// When a slice is too short, a width is not a multiple of 16, or there are more rows.
#[inline(always)]
pub fn accumulate_few<S: Simd, E: Load>(
    s: S,
    weights: &[f32],
    stride: usize,
    keys: usize,
    values: &[E],
    width: usize,
    acc: &mut [f32],
) {
    let count = acc.len() / width;
    assert!(width.is_multiple_of(WIDTH) && values.len() >= keys * width && count <= MAX_FEW);
    assert!(count == 0 || weights.len() >= (count - 1) * stride + keys);
    // Few keys at a time, so that their values come from memory in order, line after line.
    for first in (0..keys).step_by(KEYS_AT_ONCE) {
        let some = KEYS_AT_ONCE.min(keys - first);
        for column in (0..width).step_by(WIDTH) {
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

/// Keys whose values a decode step weighs before it goes on to other columns.
pub(super) const KEYS_AT_ONCE: usize = 64;

/// `U` sums of each row are kept apart, as in `dots`.
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

//! Products of rows of queries or weights with panels of keys or values.

use crate::simd::vector::{Load, Simd, WIDTH};

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
pub(super) unsafe fn dots<S: Simd, E: Load, const R: usize, const U: usize>(
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

/// Adds weighted values: `acc[r] = acc[r] * correction[r] + sum over k of weights[r][k] * values[k]`.
///
/// `weights` has rows of `stride`, of which the first `keys` are used; `values` is `[width / 16]
/// [stride][16]`, so that 16 columns of all keys lie together, and `acc` is `[count][width]`.
///
/// # Panics
/// When a slice is too short or a width is not a multiple of 16.
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
/// Readable: `R` rows of `keys` weights, `keys` times 16 values, `R` corrections. Readable and
/// writable: `R` rows of 16 floats in `acc` (row distance `width`).
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

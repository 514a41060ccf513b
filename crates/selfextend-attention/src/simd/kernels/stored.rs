//! Between storage types and floats: widening tiles, rotating and rounding panels.

use crate::simd::linear::BLOCK;
use crate::simd::vector::{Element, Load, Simd, WIDTH};
use half::f16;

/// Widens elements to floats; both slices have the same length, a multiple of 16.
///
/// # Panics
/// When the lengths differ or are not a multiple of 16.
#[inline(always)]
pub fn widen<S: Simd, E: Load>(s: S, from: &[E], to: &mut [f32]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(WIDTH));
    for k in (0..from.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= the common length.
        unsafe { s.store(to.as_mut_ptr().add(k), E::load(s, from.as_ptr().add(k))) };
    }
}

/// A panel of bytes as floats: `codes` is `[depth / 2][16][2]`, `to` `[depth][16]`, `scales` as for
/// [`super::scores_q8`].
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub fn widen_panel_q8<S: Simd>(s: S, codes: &[i8], scales: &[f16], to: &mut [f32]) {
    let depth = to.len() / WIDTH;
    assert!(codes.len() >= depth.next_multiple_of(2) * WIDTH);
    assert!(scales.len() >= depth.div_ceil(BLOCK) * WIDTH);
    for c in (0..depth).step_by(2) {
        // SAFETY: c < depth, which the assertions cover; a second row is written where it exists.
        unsafe {
            let scale = s.load_f16(scales.as_ptr().add(c / BLOCK * WIDTH));
            let (first, second) = s.unpair(s.load_pairs(codes.as_ptr().add(c * WIDTH)));
            s.store(to.as_mut_ptr().add(c * WIDTH), s.mul(first, scale));
            if c + 1 < depth {
                s.store(to.as_mut_ptr().add((c + 1) * WIDTH), s.mul(second, scale));
            }
        }
    }
}

/// Rows of values as floats in the order of [`accumulate`](super::accumulate): `from` is `[row][width]`, `to` `[width /
/// 16][tile][16]`.
///
/// # Panics
/// When a slice is too short, the width is not a multiple of 16, or the tile is smaller than the rows.
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

/// [`widen_rows`] of `rows` rows of bytes: `codes` is `[row / 2][width][2]`, `scales` is `[row / 16]
/// [block][row % 16]` with a block for each 32 columns.
///
/// # Panics
/// When a slice is too short, the width is not a multiple of 16, or the tile is smaller than the rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn widen_rows_q8<S: Simd>(
    s: S,
    rows: usize,
    codes: &[i8],
    scales: &[f16],
    width: usize,
    tile: usize,
    to: &mut [f32],
) {
    let blocks = width.div_ceil(BLOCK);
    assert!(width.is_multiple_of(WIDTH) && codes.len() >= rows.next_multiple_of(2) * width);
    assert!(rows <= tile && to.len() >= tile * width);
    for row in (0..rows).step_by(2) {
        let scales = &scales[row / WIDTH * blocks * WIDTH + row % WIDTH..];
        for column in (0..width).step_by(WIDTH) {
            let scales = &scales[column / BLOCK * WIDTH..][..2];
            // SAFETY: row < rows <= tile and column + 16 <= width; a second row is written where
            // it exists.
            unsafe {
                let codes = codes.as_ptr().add(row * width + 2 * column);
                let (first, second) = s.unpair(s.load_pairs(codes));
                let to = to.as_mut_ptr().add(column * tile + row * WIDTH);
                s.store(to, s.mul(first, s.splat(scales[0].to_f32())));
                if row + 1 < rows {
                    s.store(to.add(WIDTH), s.mul(second, s.splat(scales[1].to_f32())));
                }
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
/// When the length is not a multiple of 16.
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

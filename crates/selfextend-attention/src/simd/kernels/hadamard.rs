//! Hadamard transforms of heads, which spread what stands out in a few components over all of them,
//! so that four bits hold each well (QuaRot, arXiv 2404.00456, section 4; it also shows why a score
//! does not change: the transform is orthogonal, `(Hq)·(Hk) = q·k`).
//!
//! Such a transform has a power of two of components. A head of any size is cut into powers of two,
//! the largest first (80 = 64 + 16), and each part is transformed by itself. All are symmetric, so
//! doing it twice does nothing.

use crate::simd::level::dispatch;
use crate::simd::vector::{Kernel, Simd, WIDTH};
use std::ops::Range;

/// Signs of the transform of 16: `SIGNS[i][j]` is -1 to the number of bits that `i` and `j` share.
const SIGNS: [[f32; WIDTH]; WIDTH] = {
    let mut signs = [[1.0; WIDTH]; WIDTH];
    let mut at = 0;
    while at < WIDTH * WIDTH {
        let (i, j) = (at / WIDTH, at % WIDTH);
        if (i & j).count_ones() % 2 == 1 {
            signs[i][j] = -1.0;
        }
        at += 1;
    }
    signs
};

/// The parts of a head of `dim` components.
fn parts(dim: usize) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        next += 1 << (dim - first).checked_ilog2()?;
        Some(first..next)
    })
}

/// Transforms a head.
pub fn hadamard(head: &mut [f32]) {
    dispatch(Head(head));
}

struct Head<'a>(&'a mut [f32]);

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        hadamard_row(s, self.0);
    }
}

/// [`hadamard`] in a kernel.
#[inline(always)]
pub fn hadamard_row<S: Simd>(s: S, row: &mut [f32]) {
    for part in parts(row.len()) {
        let part = &mut row[part];
        let scale = (part.len() as f32).sqrt().recip();
        if part.len() < WIDTH {
            short(part, scale);
            continue;
        }
        for some in part.chunks_exact_mut(WIDTH) {
            sixteen(s, some, scale);
        }
        butterflies(s, part, WIDTH);
    }
}

/// Sixteen components, in products with the signs: vectors have no exchange of lanes.
#[inline(always)]
fn sixteen<S: Simd>(s: S, x: &mut [f32], scale: f32) {
    assert!(x.len() == WIDTH);
    let mut sums = [s.splat(0.0); 4];
    for j in 0..WIDTH {
        // SAFETY: a row of the signs is 16.
        let signs = unsafe { s.load(SIGNS[j].as_ptr()) };
        sums[j % 4] = s.fma(s.splat(x[j]), signs, sums[j % 4]);
    }
    let all = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
    // SAFETY: x is 16.
    unsafe { s.store(x.as_mut_ptr(), s.mul(all, s.splat(scale))) };
}

/// Sums and differences of numbers `first`, `2 * first`, ... apart, which is a multiple of 16; the
/// length is it times a power of two.
#[inline(always)]
fn butterflies<S: Simd>(s: S, x: &mut [f32], first: usize) {
    assert!(first.is_multiple_of(WIDTH));
    let mut apart = first;
    while apart < x.len() {
        for both in x.chunks_exact_mut(2 * apart) {
            let (low, high) = both.split_at_mut(apart);
            for at in (0..apart).step_by(WIDTH) {
                // SAFETY: at + 16 <= the length of both.
                unsafe {
                    let (to_low, to_high) = (low.as_mut_ptr().add(at), high.as_mut_ptr().add(at));
                    let (a, b) = (s.load(to_low), s.load(to_high));
                    s.store(to_low, s.add(a, b));
                    s.store(to_high, s.sub(a, b));
                }
            }
        }
        apart *= 2;
    }
}

/// Fewer than sixteen components.
fn short(x: &mut [f32], scale: f32) {
    let mut apart = 1;
    while apart < x.len() {
        for both in x.chunks_exact_mut(2 * apart) {
            let (low, high) = both.split_at_mut(apart);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        apart *= 2;
    }
    x.iter_mut().for_each(|x| *x *= scale);
}

/// Transforms sixteen heads side by side, `[component][16]`.
///
/// # Panics
/// When the length is not a multiple of 16.
#[inline(always)]
pub fn hadamard_panel<S: Simd>(s: S, panel: &mut [f32]) {
    assert!(panel.len().is_multiple_of(WIDTH));
    for part in parts(panel.len() / WIDTH) {
        let scale = s.splat((part.len() as f32).sqrt().recip());
        let part = &mut panel[part.start * WIDTH..part.end * WIDTH];
        butterflies(s, part, WIDTH);
        for x in part.chunks_exact_mut(WIDTH) {
            // SAFETY: x is 16.
            unsafe { s.store(x.as_mut_ptr(), s.mul(s.load(x.as_ptr()), scale)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, dispatch_at};
    use proptest::prelude::*;

    struct Panel<'a>(&'a mut [f32]);

    impl Kernel for Panel<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            hadamard_panel(s, self.0);
        }
    }

    /// The definition, in f64: parts by the binary digits of the size.
    fn definition(x: &[f32]) -> Vec<f64> {
        let mut out = Vec::new();
        for bit in (0..usize::BITS).rev().map(|bit| 1usize << bit) {
            if x.len() & bit == 0 {
                continue;
            }
            let part = &x[out.len()..out.len() + bit];
            out.extend((0..bit).map(|i| {
                let sign = |j: usize| {
                    if (i & j).count_ones().is_multiple_of(2) {
                        1.0
                    } else {
                        -1.0
                    }
                };
                let terms = part.iter().enumerate();
                let sum: f64 = terms.map(|(j, x)| sign(j) * f64::from(*x)).sum();
                sum / (bit as f64).sqrt()
            }));
        }
        out
    }

    proptest! {
        #[test]
        fn rows_and_panels_are_the_definition(x in prop::collection::vec(-3f32..3.0, 1..300)) {
            let exact = definition(&x);
            let size: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-6 * size;
            for level in Level::available() {
                let mut row = x.clone();
                dispatch_at(level, Head(&mut row));
                prop_assert!(row.iter().zip(&exact).all(|(a, b)| close(*a, *b)), "{:?}", level);
                // Each lane by itself, with a factor of its own.
                let lanes = |x: &f32| (0..WIDTH).map(|l| x * l as f32).collect::<Vec<_>>();
                let mut panel: Vec<f32> = x.iter().flat_map(lanes).collect();
                dispatch_at(level, Panel(&mut panel));
                for (at, a) in panel.iter().enumerate() {
                    let b = exact[at / WIDTH] * (at % WIDTH) as f64;
                    prop_assert!((f64::from(*a) - b).abs() <= 2e-5 * size, "{:?}", level);
                }
                // Twice is nothing.
                dispatch_at(level, Head(&mut row));
                prop_assert!(row.iter().zip(&x).all(|(a, b)| close(*a, f64::from(*b))));
            }
        }
    }

    #[test]
    fn one_component_that_stands_out_is_spread_over_its_part() {
        let mut head = [0.0; 80];
        (head[5], head[70]) = (8.0, 4.0);
        hadamard(&mut head);
        assert!(head[..64].iter().all(|x| x.abs() == 1.0));
        assert!(head[64..].iter().all(|x| x.abs() == 1.0));
    }
}

//! Heads and panels of heads in plain floats: what pages with an offset need.

use crate::simd::vector::{Simd, WIDTH};

/// The dot product of two heads.
#[inline(always)]
pub fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let (some, rest) = a.as_chunks::<WIDTH>();
    let (with, last) = b.as_chunks::<WIDTH>();
    let mut sum = s.splat(0.0);
    for (a, b) in some.iter().zip(with) {
        // SAFETY: both are 16.
        sum = unsafe { s.fma(s.load(a.as_ptr()), s.load(b.as_ptr()), sum) };
    }
    let rest = rest.iter().zip(last).map(|(a, b)| a * b);
    s.sum(sum) + rest.sum::<f32>()
}

/// Adds to each component of a head `factor` times its sum over sixteen heads, `[component][16]`.
#[inline(always)]
pub fn add_lanes<S: Simd>(s: S, panel: &[f32], factor: f32, to: &mut [f32]) {
    for (to, lanes) in to.iter_mut().zip(panel.as_chunks::<WIDTH>().0) {
        // SAFETY: `lanes` is 16.
        *to += s.sum(unsafe { s.load(lanes.as_ptr()) }) * factor;
    }
}

/// Adds a head to each of sixteen, `[component][16]`; nothing where it is empty.
#[inline(always)]
pub fn add_to_lanes<S: Simd>(s: S, head: &[f32], panel: &mut [f32]) {
    for (lanes, x) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(head) {
        // SAFETY: `lanes` is 16.
        unsafe {
            s.store(
                lanes.as_mut_ptr(),
                s.add(s.load(lanes.as_ptr()), s.splat(*x)),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, Level, dispatch_at};

    struct All<'a>(&'a [f32], &'a [f32], &'a mut [f32], &'a mut [f32]);
    impl Kernel for All<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            let Self(a, b, panel, sums) = self;
            add_to_lanes(s, a, panel);
            add_lanes(s, panel, 0.5, sums);
            dot(s, a, b)
        }
    }

    /// Whole numbers, so that no sum is rounded.
    #[test]
    fn heads_and_panels_are_added() {
        for dim in [1, 15, 16, 33, 80] {
            let a: Vec<f32> = (0..dim).map(|c| (c % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..dim).map(|c| (c % 5) as f32 - 1.0).collect();
            for level in Level::available() {
                let mut panel: Vec<f32> = (0..dim * WIDTH).map(|n| n as f32).collect();
                let mut sums = vec![8.0; dim];
                let dot = dispatch_at(level, All(&a, &b, &mut panel, &mut sums));
                let exact: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
                assert_eq!(dot, exact, "{level:?} {dim}");
                for (c, lanes) in panel.chunks_exact(WIDTH).enumerate() {
                    let expected = |lane| (c * WIDTH + lane) as f32 + a[c];
                    assert!((0..WIDTH).all(|lane| lanes[lane] == expected(lane)));
                    assert_eq!(sums[c], 8.0 + lanes.iter().sum::<f32>() * 0.5);
                }
            }
        }
    }
}

//! Every level against plain f64 arithmetic, by an error rule.

mod nibbles;

use super::kernels::{
    Rounded, Running, accumulate, accumulate_q8, scores, scores_q8, softmax_row, widen, widen_rows,
};
use super::linear::BLOCK;
use super::*;
use half::f16;
use proptest::prelude::*;

/// `|a - b|` allowed for a sum of `n` products whose magnitudes add up to `size`.
fn bound(n: usize, size: f64) -> f64 {
    (n as f64 + 4.0) * f64::from(f32::EPSILON) * size + 1e-30
}

struct Scores<'a>(&'a [f32], usize, usize, &'a [f16], &'a mut [f32]);
impl Kernel for Scores<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        scores(s, self.0, self.1, self.2, self.3, self.4, WIDTH);
    }
}

struct Accumulate<'a>(&'a [f32], usize, &'a [f32], usize, &'a [f32], &'a mut [f32]);
impl Kernel for Accumulate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(weights, keys, values, width, correction, acc) = self;
        let mut panels = vec![f32::NAN; keys * width];
        widen_rows(s, values, width, keys, &mut panels);
        accumulate(s, weights, keys, keys, &panels, width, correction, acc);
    }
}

struct Softmax<'a>(&'a mut [f32], &'a mut Running);
impl Kernel for Softmax<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        softmax_row(s, self.0, self.1)
    }
}

struct Exp2<'a>(&'a [f32; WIDTH], &'a mut [f32; WIDTH]);
impl Kernel for Exp2<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: both are arrays of 16.
        unsafe { s.store(self.1.as_mut_ptr(), s.exp2(s.load(self.0.as_ptr()))) };
    }
}

struct Bytes<'a>(&'a [i8; WIDTH], &'a mut [f32; WIDTH]);
impl Kernel for Bytes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: both are arrays of 16.
        unsafe { s.store(self.1.as_mut_ptr(), s.load_i8(self.0.as_ptr())) };
    }
}

struct Powers<'a>(&'a [u8; WIDTH], &'a mut [f32; WIDTH]);
impl Kernel for Powers<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: both are arrays of 16.
        unsafe { s.store(self.1.as_mut_ptr(), s.load_powers(self.0.as_ptr())) };
    }
}

/// Quads of bytes times a quad of signed ones, added to sums.
struct ByteProducts<'a>(&'a [[u8; 4]; WIDTH], [i8; 4], &'a mut [f32; WIDTH]);
impl Kernel for ByteProducts<'_> {
    type Output = ();
    const INTEGERS: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(quads, by, sums) = self;
        let by = i32::from_le_bytes(by.map(|x| x as u8));
        // SAFETY: both are arrays of 16.
        unsafe {
            let quads = s.load_quads(quads.as_ptr().cast());
            let products = s.add_byte_products(s.splat_sum(-1000), quads, by);
            s.store(sums.as_mut_ptr(), s.sums(products));
        }
    }
}

/// Words, a table, and what the four codes of each word stand for.
struct LookUp<'a>(
    &'a [i16; 2 * WIDTH],
    &'a [i8; 16],
    &'a mut [[i16; 2 * WIDTH]; 4],
);
impl Kernel for LookUp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(words, table, out) = self;
        // SAFETY: all are arrays of 32 numbers.
        unsafe {
            let words = s.load_words(words.as_ptr());
            for (n, out) in out.iter_mut().enumerate() {
                s.store_words(out.as_mut_ptr(), s.look_up(words, 4 * n as i32, table));
            }
        }
    }
}

struct Widen<'a>(&'a [f16], &'a mut [f32]);
impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        widen(s, self.0, self.1);
    }
}

/// Queries, their depth, codes of a panel, its scales.
struct ScoresQ8<'a>(&'a [f32], usize, &'a [i8], &'a [f16], &'a mut [f32]);
impl Kernel for ScoresQ8<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(rows, depth, codes, scales, out) = self;
        let mut queries = Rounded::default();
        queries.queries(s, rows, depth);
        let rows = 0..rows.len() / depth;
        scores_q8(s, &queries, rows, depth, codes, scales, out, WIDTH);
    }
}

/// Weights, keys, codes of values, their width.
struct AccumulateQ8<'a>(&'a [f32], usize, &'a [i8], usize, &'a mut [f32]);
impl Kernel for AccumulateQ8<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(rows, keys, codes, width, acc) = self;
        let mut weights = Rounded::default();
        weights.weights(s, rows, keys, keys);
        accumulate_q8(s, &weights, keys, codes, width, 0..width, acc);
    }
}

/// Half a step of 16 bits for each of `n` numbers, the largest of which is `largest`, beside
/// factors whose magnitudes add up to `size`.
fn rounding(largest: f32, size: f64) -> f64 {
    f64::from(largest) / 65534.0 * 1.0001 * size
}

fn codes(n: usize) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(-127i8..=127, n)
}

fn floats(n: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-3.0f32..3.0, n)
}

proptest! {
    #[test]
    fn scores_are_dot_products(
        (count, depth, rows, panel) in (1usize..20, 1usize..70).prop_flat_map(|(c, d)| {
            (Just(c), Just(d), floats(c * d), floats(d * WIDTH))
        })
    ) {
        let panel: Vec<f16> = panel.into_iter().map(f16::from_f32).collect();
        for level in Level::available() {
            let mut out = vec![f32::NAN; count * WIDTH];
            dispatch_at(level, Scores(&rows, count, depth, &panel, &mut out));
            for r in 0..count {
                for lane in 0..WIDTH {
                    let terms = (0..depth).map(|d| {
                        f64::from(rows[r * depth + d]) * f64::from(panel[d * WIDTH + lane].to_f32())
                    });
                    let (exact, size) = terms.fold((0.0, 0.0), |(e, s), t| (e + t, s + t.abs()));
                    let error = (f64::from(out[r * WIDTH + lane]) - exact).abs();
                    prop_assert!(error <= bound(depth, size), "{level:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn scores_from_bytes_are_dot_products(
        (count, depth, rows, codes, scales) in (1usize..13, 1usize..140).prop_flat_map(|(c, d)| {
            let even = d.next_multiple_of(2);
            let scales = floats(d.div_ceil(BLOCK) * WIDTH);
            (Just(c), Just(d), floats(c * d), codes(even * WIDTH), scales)
        })
    ) {
        let scales: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
        for level in Level::available() {
            let mut out = vec![f32::NAN; count * WIDTH];
            dispatch_at(level, ScoresQ8(&rows, depth, &codes, &scales, &mut out));
            for r in 0..count {
                for lane in 0..WIDTH {
                    let (mut exact, mut allowed) = (0.0, 0.0);
                    for (b, block) in rows[r * depth..(r + 1) * depth].chunks(BLOCK).enumerate() {
                        let scale = scales[b * WIDTH + lane].to_f64();
                        let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                        for (c, &x) in block.iter().enumerate() {
                            let c = b * BLOCK + c;
                            let code = codes[(c / 2 * WIDTH + lane) * 2 + c % 2];
                            let y = f64::from(code) * scale;
                            exact += f64::from(x) * y;
                            allowed += rounding(largest, y.abs()) + bound(depth, (f64::from(x) * y).abs());
                        }
                    }
                    let error = (f64::from(out[r * WIDTH + lane]) - exact).abs();
                    prop_assert!(error <= allowed + 1e-30, "{level:?}: {error} > {allowed}");
                }
            }
        }
    }

    #[test]
    fn accumulating_bytes_is_a_weighted_sum(
        (count, keys, width, weights, codes, start) in
            (1usize..13, 1usize..200, 1usize..4).prop_flat_map(|(c, k, w)| {
                let w = w * WIDTH;
                let even = k.next_multiple_of(2);
                (Just(c), Just(k), Just(w), floats(c * k), codes(even * w), floats(c * w))
            })
    ) {
        for level in Level::available() {
            let mut acc = start.clone();
            dispatch_at(level, AccumulateQ8(&weights, keys, &codes, width, &mut acc));
            for r in 0..count {
                let row = &weights[r * keys..(r + 1) * keys];
                let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
                for c in 0..width {
                    let mut exact = f64::from(start[r * width + c]);
                    let mut allowed = bound(keys, exact.abs());
                    for (k, &x) in row.iter().enumerate() {
                        let y = f64::from(codes[(k / 2 * width + c) * 2 + k % 2]);
                        exact += f64::from(x) * y;
                        allowed += rounding(largest, y.abs()) + bound(keys, (f64::from(x) * y).abs());
                    }
                    let error = (f64::from(acc[r * width + c]) - exact).abs();
                    prop_assert!(error <= allowed, "{level:?}: {error} > {allowed}");
                }
            }
        }
    }

    #[test]
    fn accumulate_is_a_weighted_sum(
        (count, keys, width, weights, values, correction, start) in
            (1usize..20, 0usize..40, 1usize..4).prop_flat_map(|(c, k, w)| {
                let w = w * WIDTH;
                (Just(c), Just(k), Just(w), floats(c * k), floats(k * w), floats(c), floats(c * w))
            })
    ) {
        for level in Level::available() {
            let mut acc = start.clone();
            dispatch_at(level, Accumulate(&weights, keys, &values, width, &correction, &mut acc));
            for r in 0..count {
                for c in 0..width {
                    let first = f64::from(start[r * width + c]) * f64::from(correction[r]);
                    let terms = (0..keys).map(|k| {
                        f64::from(weights[r * keys + k]) * f64::from(values[k * width + c])
                    });
                    let (exact, size) =
                        terms.fold((first, first.abs()), |(e, s), t| (e + t, s + t.abs()));
                    let error = (f64::from(acc[r * width + c]) - exact).abs();
                    prop_assert!(error <= bound(keys, size), "{level:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn exp2_is_within_two_units(x in prop::array::uniform16(-130.0f32..20.0)) {
        for level in Level::available() {
            let mut out = [f32::NAN; WIDTH];
            dispatch_at(level, Exp2(&x, &mut out));
            for (x, y) in x.iter().zip(out) {
                let exact = if *x < -125.0 { 0.0 } else { f64::from(*x).exp2() };
                prop_assert!((f64::from(y) - exact).abs() <= 2.4e-7 * exact, "{level:?} 2^{x} = {y}");
            }
        }
    }

    #[test]
    fn widening_is_exact(x in prop::array::uniform32(-7e4f32..7e4), bytes in prop::array::uniform16(any::<i8>())) {
        let halves = x.map(f16::from_f32);
        for level in Level::available() {
            let mut out = [0.0; 32];
            dispatch_at(level, Widen(&halves, &mut out));
            prop_assert_eq!(out, halves.map(f16::to_f32), "{:?}", level);
            let mut out = [0.0; WIDTH];
            dispatch_at(level, Bytes(&bytes, &mut out));
            prop_assert_eq!(out, bytes.map(f32::from), "{:?}", level);
        }
    }

    #[test]
    fn products_of_bytes_are_exact(
        quads in prop::array::uniform16(prop::array::uniform4(any::<u8>())),
        by in prop::array::uniform4(any::<i8>())
    ) {
        for (quads, by) in [(quads, by), ([[255; 4]; WIDTH], [-128; 4]), (quads, [127; 4])] {
            let expected = quads.map(|quad| {
                let products = quad.iter().zip(by).map(|(a, b)| i32::from(*a) * i32::from(b));
                (products.sum::<i32>() - 1000) as f32
            });
            for level in Level::available() {
                let mut sums = [f32::NAN; WIDTH];
                dispatch_at(level, ByteProducts(&quads, by, &mut sums));
                prop_assert_eq!(sums, expected, "{:?}", level);
            }
        }
    }

    #[test]
    fn looked_up_values_are_those_of_the_table(
        words in prop::array::uniform32(any::<i16>()), table in prop::array::uniform16(any::<i8>())
    ) {
        for level in Level::available() {
            let mut out = [[0; 32]; 4];
            dispatch_at(level, LookUp(&words, &table, &mut out));
            for (n, out) in out.iter().enumerate() {
                let expected = words.map(|word| i16::from(table[(word >> (4 * n)) as usize & 15]));
                prop_assert_eq!(*out, expected, "{:?}, code {}", level, n);
            }
        }
    }

    #[test]
    fn softmax_continues_over_rows(row in prop::collection::vec(-200.0f32..200.0, 48)) {
        for level in Level::available() {
            let mut state = Running::EMPTY;
            let mut weights = row.clone();
            let mut acc = 0.0; // sum of weights, kept the way accumulators are
            for part in weights.chunks_mut(WIDTH) {
                let correction = dispatch_at(level, Softmax(part, &mut state));
                acc = acc * correction + part.iter().sum::<f32>();
            }
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp2()).sum();
            prop_assert_eq!(state.max, max);
            prop_assert!((f64::from(state.sum) / sum - 1.0).abs() < 1e-5);
            prop_assert!((f64::from(acc) / sum - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn bytes_are_powers_of_two() {
    for level in Level::available() {
        for first in (0..=255u8).step_by(WIDTH) {
            let bytes: [u8; WIDTH] = std::array::from_fn(|n| first + n as u8);
            let mut out = [f32::NAN; WIDTH];
            dispatch_at(level, Powers(&bytes, &mut out));
            for (e, actual) in bytes.iter().zip(out) {
                let exact = 2f64.powi(i32::from(*e) - 128);
                assert_eq!(f64::from(actual), exact, "{level:?}: {e}");
            }
        }
    }
}

#[test]
fn masked_scores_weigh_exactly_nothing() {
    for level in Level::available() {
        let mut row = [f32::NEG_INFINITY; WIDTH];
        let mut state = Running::EMPTY;
        assert_eq!(dispatch_at(level, Softmax(&mut row, &mut state)), 1.0);
        assert_eq!((row, state.sum), ([0.0; WIDTH], 0.0));
        let mut row = [f32::NEG_INFINITY; WIDTH];
        row[3] = 5.0;
        dispatch_at(level, Softmax(&mut row, &mut state));
        assert_eq!(
            (row.iter().sum::<f32>(), row[3], state.sum),
            (1.0, 1.0, 1.0)
        );
    }
}

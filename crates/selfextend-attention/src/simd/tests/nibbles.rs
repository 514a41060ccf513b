//! Four bits: products with them, and rounding to them.

use super::super::kernels::{
    EIGHT, Rounded, accumulate_q4, hadamard, round_head_q4, scores_q4, widen_panel_q4,
    widen_rows_q4,
};
use super::*;

/// Words of the codes `code(lane, number)` of `lanes` lanes: `[number / 8][lane][2]`.
fn words(lanes: usize, numbers: usize, code: impl Fn(usize, usize) -> i8) -> Vec<i16> {
    let mut words = vec![0i16; numbers.div_ceil(EIGHT) * lanes * 2];
    for number in 0..numbers {
        for lane in 0..lanes {
            let at = (number / EIGHT * lanes + lane) * 2 + number % 2;
            words[at] |= (i16::from(code(lane, number)) & 15) << (number % EIGHT / 2 * 4);
        }
    }
    words
}

/// Queries, their depth, codes of a panel, its scales, bases of the queries.
struct Scores<'a>(
    &'a [f32],
    usize,
    &'a [i16],
    &'a [f16],
    &'a [f32],
    &'a mut [f32],
);
impl Kernel for Scores<'_> {
    type Output = ();
    const INTEGERS: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(rows, depth, codes, scales, bases, out) = self;
        let mut queries = Rounded::default();
        queries.queries(s, rows, depth);
        let rows = 0..rows.len() / depth;
        scores_q4(s, &queries, rows, depth, codes, scales, bases, out, WIDTH);
    }
}

/// Weights, keys, codes of values, their width.
struct Accumulate<'a>(&'a [f32], usize, &'a [i16], usize, &'a mut [f32]);
impl Kernel for Accumulate<'_> {
    type Output = ();
    const INTEGERS: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(rows, keys, codes, width, acc) = self;
        let mut weights = Rounded::default();
        weights.weights(s, rows, keys, keys);
        accumulate_q4(s, &weights, keys, codes, width, 0..width, acc);
    }
}

/// Codes and scales of a panel.
struct WidenPanel<'a>(&'a [i16], &'a [f16], &'a mut [f32]);
impl Kernel for WidenPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        widen_panel_q4(s, self.0, self.1, self.2);
    }
}

/// Rows, their codes and scales, their width, a tile of 64.
struct WidenRows<'a>(usize, &'a [i16], &'a [f16], usize, &'a mut [f32]);
impl Kernel for WidenRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(rows, codes, scales, width, to) = self;
        widen_rows_q4(s, rows, codes, scales, width, 64, to);
    }
}

/// A head, its offset, its codes and scales.
struct Round<'a>(&'a mut [f32], &'a [f32], &'a mut [i16], &'a mut [f16]);
impl Kernel for Round<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        round_head_q4(s, self.0, self.1, self.2, self.3);
    }
}

/// A head's codes, and the scale of each block.
fn round(level: Level, head: &[f32]) -> (Vec<i16>, Vec<f16>) {
    round_from(level, head, &[])
}

/// The same of what is left without an offset of the transformed head.
fn round_from(level: Level, head: &[f32], offset: &[f32]) -> (Vec<i16>, Vec<f16>) {
    let blocks = head.len().div_ceil(BLOCK);
    let (mut codes, mut scales) = (vec![99; blocks * BLOCK], vec![f16::ONE; blocks * WIDTH]);
    let mut transformed = head.to_vec();
    dispatch_at(
        level,
        Round(&mut transformed, offset, &mut codes, &mut scales),
    );
    assert!(codes[head.len()..].iter().all(|code| *code == 0));
    (codes, scales.into_iter().step_by(WIDTH).collect())
}

fn codes(n: usize) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(-8i8..=7, n)
}

proptest! {
    #[test]
    fn scores_from_four_bits_are_dot_products(
        (count, depth, rows, codes, scales) in (1usize..13, 1usize..140).prop_flat_map(|(c, d)| {
            let scales = floats(d.div_ceil(BLOCK) * WIDTH);
            (Just(c), Just(d), floats(c * d), codes(d * WIDTH), scales)
        })
    ) {
        let scales: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
        let words = words(WIDTH, depth, |lane, c| codes[c * WIDTH + lane]);
        for level in Level::available() {
            let mut out = vec![f32::NAN; count * WIDTH];
            let bases: Vec<f32> = (0..count).map(|r| r as f32 - 3.5).collect();
            dispatch_at(level, Scores(&rows, depth, &words, &scales, &bases, &mut out));
            for r in 0..count {
                for lane in 0..WIDTH {
                    let base = f64::from(bases[r]);
                    let (mut exact, mut allowed) = (base, bound(depth, base.abs()));
                    for (b, block) in rows[r * depth..(r + 1) * depth].chunks(BLOCK).enumerate() {
                        let scale = scales[b * WIDTH + lane].to_f64();
                        let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                        for (c, &x) in block.iter().enumerate() {
                            let y = f64::from(codes[(b * BLOCK + c) * WIDTH + lane]) * scale;
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
    fn accumulating_four_bits_is_a_weighted_sum(
        (count, keys, width, weights, codes, start) in
            (1usize..13, 1usize..200, 1usize..4).prop_flat_map(|(c, k, w)| {
                let w = w * WIDTH;
                (Just(c), Just(k), Just(w), floats(c * k), codes(k * w), floats(c * w))
            })
    ) {
        let words = words(width, keys, |column, k| codes[k * width + column]);
        for level in Level::available() {
            let mut acc = start.clone();
            dispatch_at(level, Accumulate(&weights, keys, &words, width, &mut acc));
            for r in 0..count {
                let row = &weights[r * keys..(r + 1) * keys];
                let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
                for c in 0..width {
                    let mut exact = f64::from(start[r * width + c]);
                    let mut allowed = bound(keys, exact.abs());
                    for (k, &x) in row.iter().enumerate() {
                        let y = f64::from(codes[k * width + c]);
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
    fn widening_four_bits_is_exact(
        (numbers, depth, rows, width, scales) in (1usize..140, 1usize..65, 1usize..6).prop_flat_map(|(d, r, w)| {
            let (w, n) = (w * WIDTH, (d * WIDTH).max(r * w * WIDTH));
            (codes(n), Just(d), Just(r), Just(w), floats(WIDTH * 64))
        })
    ) {
        let scales: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
        let panel = words(WIDTH, depth, |lane, c| numbers[c * WIDTH + lane]);
        let values = words(width, rows, |column, row| numbers[row * width + column]);
        let blocks = width.div_ceil(BLOCK);
        for level in Level::available() {
            let mut out = vec![f32::NAN; depth * WIDTH];
            dispatch_at(level, WidenPanel(&panel, &scales, &mut out));
            for (at, x) in out.iter().enumerate() {
                let scale = scales[at / WIDTH / BLOCK * WIDTH + at % WIDTH].to_f32();
                prop_assert_eq!(*x, f32::from(numbers[at]) * scale, "{:?}", level);
            }
            let mut out = vec![f32::NAN; 64 * width];
            dispatch_at(level, WidenRows(rows, &values, &scales, width, &mut out));
            for row in 0..64 {
                for column in 0..width {
                    let x = out[(column / WIDTH * 64 + row) * WIDTH + column % WIDTH];
                    if row >= rows {
                        prop_assert!(x.is_nan(), "what is not there is not written");
                        continue;
                    }
                    let scale = (row / WIDTH * blocks + column / BLOCK) * WIDTH + row % WIDTH;
                    let exact = f32::from(numbers[row * width + column]) * scales[scale].to_f32();
                    prop_assert_eq!(x, exact, "{:?}", level);
                }
            }
        }
    }

    /// No worse than ggml's q4_0 rounds the transformed head (the number of largest magnitude becomes
    /// -8), by squared error; and no code could be better for its scale.
    #[test]
    fn rounding_to_four_bits_is_near(head in prop::collection::vec(-3f32..3.0, 1..300)) {
        let mut transformed = head.clone();
        hadamard(&mut transformed);
        for level in Level::available() {
            let (codes, scales) = round(level, &head);
            for (b, block) in transformed.chunks(BLOCK).enumerate() {
                let error = |codes: &[f32], scale: f32| -> f64 {
                    let terms = block.iter().zip(codes);
                    terms.map(|(x, code)| f64::from(x - code * scale).powi(2)).sum()
                };
                let at = |scale: f32| -> Vec<f32> {
                    block.iter().map(|x| (x / scale).round().clamp(-8.0, 7.0)).collect()
                };
                let mine: Vec<f32> = codes[b * BLOCK..].iter().map(|code| f32::from(*code)).collect();
                let scale = scales[b].to_f32();
                let mine = error(&mine[..block.len()], scale);
                let size: f64 = block.iter().map(|x| f64::from(*x).powi(2)).sum();
                prop_assert!(mine <= error(&at(scale), scale) + 1e-5 * size, "{level:?}");
                let largest = block.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
                let theirs = f16::from_f32(largest / -8.0).to_f32();
                prop_assert!(mine <= error(&at(theirs), theirs) + 1e-5 * size, "{level:?}");
            }
        }
    }
}

/// With an offset, codes are those of what is left of the transformed head.
#[test]
fn an_offset_is_taken_from_the_transformed_head() {
    let head: Vec<f32> = (0..64).map(|c| (c as f32 * 0.7).sin() + 2.0).collect();
    let mut offset = head.clone();
    hadamard(&mut offset);
    offset.iter_mut().for_each(|x| *x *= 0.75);
    let mut rest = head.clone();
    rest.iter_mut().for_each(|x| *x *= 0.25);
    for level in Level::available() {
        let (codes, scales) = round_from(level, &head, &offset);
        let (expected, its) = round(level, &rest);
        let same = codes.iter().zip(&expected).filter(|(a, b)| a == b).count();
        // But for roundings of halves.
        assert!(same >= 62, "{level:?}: {codes:?}");
        for (a, b) in scales.iter().zip(its) {
            assert!((a.to_f32() / b.to_f32() - 1.0).abs() < 2e-3);
        }
    }
}

/// The reason for the transform: with one component 30 times the others, four bits keep the others.
#[test]
fn components_beside_one_that_stands_out_are_kept() {
    let head: Vec<f32> = (0..64)
        .map(|c| if c == 9 { 30.0 } else { (c as f32 * 0.7).sin() })
        .collect();
    for level in Level::available() {
        let (codes, scales) = round(level, &head);
        let mut back: Vec<f32> = (codes.iter().enumerate())
            .map(|(c, code)| f32::from(*code) * scales[c / BLOCK].to_f32())
            .collect();
        hadamard(&mut back);
        let error = |c: usize| (back[c] - head[c]).powi(2);
        let mean = (0..64).filter(|c| *c != 9).map(error).sum::<f32>() / 63.0;
        // Rounded as they are, all but one become zero: the mean of their squares is a half.
        assert!(mean < 0.05, "{level:?}: {mean}");
    }
}

#[test]
fn what_is_no_number_is_not_hidden() {
    for level in Level::available() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let mut head = [1.0; 40];
            head[3] = bad;
            let (_, scales) = round(level, &head);
            assert!(scales[0].is_nan() && scales[1].is_finite(), "{bad}");
        }
        let (codes, scales) = round(level, &[0.0; 40]);
        assert_eq!((codes, scales), (vec![0; 64], vec![f16::ZERO; 2]));
        let (codes, scales) = round(level, &[-1e-9; 40]);
        assert_eq!((codes, scales), (vec![0; 64], vec![f16::ZERO; 2]));
    }
}

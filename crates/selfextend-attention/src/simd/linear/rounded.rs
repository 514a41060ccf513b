//! Activations as integers.

use super::integers::CHUNK;
use crate::parallel;
use crate::simd::level::dispatch;
use crate::simd::vector::{Kernel, Simd, WIDTH};

/// Rows of activations rounded to 15 bits: a number is `scale * code`, with a scale for each
/// 64 columns. The error is at most 2^-15 of the largest number beside it.
///
/// A block that holds a number that is not finite has a scale that is not a number: every product
/// with it shows that.
#[derive(Debug, Default)]
pub struct Rounded {
    columns: usize,
    /// `[row][column]`, at most [`MOST`].
    codes: Vec<i16>,
    /// `[row][chunk]`
    scales: Vec<f32>,
    /// Sums of the codes of each 32 columns: the first half, the second, both. Centred weights
    /// need them.
    code_sums: Vec<[i32; 3]>,
    /// The same as numbers, which minima are multiplied by.
    sums: Vec<[f32; 3]>,
}

/// The largest code. With it, no sum of a chunk overflows 32 bits (see [`super::Integers`]).
pub const MOST: f32 = 16383.0;

/// Rows that a task rounds.
const TASK_ROWS: usize = 16;

/// Columns whose sums are kept together.
const PAIR: usize = 2 * WIDTH;

/// Some rows from some column on, as kernels read them.
#[derive(Debug, Clone, Copy)]
pub(in crate::simd) struct Rows {
    pub codes: *const i16,
    pub scales: *const f32,
    pub code_sums: *const i32,
    pub sums: *const f32,
    /// From a row to the next in `codes`, `scales` and the sums.
    pub columns: usize,
    pub chunks: usize,
    pub stride: usize,
}

/// Where the sum of block `n` of `columns` columns is among a row's sums.
#[inline(always)]
pub(in crate::simd) fn sum_at(n: usize, columns: usize) -> usize {
    if columns == PAIR {
        3 * n + 2
    } else {
        n / 2 * 3 + n % 2
    }
}

impl Rounded {
    /// Rounds rows of `columns` numbers, a multiple of 32.
    ///
    /// # Panics
    /// When `x` is not whole rows of whole blocks.
    pub fn round(&mut self, x: &[f32], columns: usize) {
        assert!(columns.is_multiple_of(PAIR) && x.len().is_multiple_of(columns.max(1)));
        let chunks = columns.div_ceil(CHUNK);
        let rows = x.len().checked_div(columns).unwrap_or(0);
        self.columns = columns;
        self.codes.resize(x.len(), 0);
        self.scales.resize(rows * chunks, 0.0);
        self.code_sums.resize(x.len() / PAIR, [0; 3]);
        self.sums.resize(x.len() / PAIR, [0.0; 3]);
        if rows == 0 {
            return;
        }
        let tasks = x
            .chunks(TASK_ROWS * columns)
            .zip(self.codes.chunks_mut(TASK_ROWS * columns))
            .zip(self.scales.chunks_mut(TASK_ROWS * chunks))
            .zip(self.code_sums.chunks_mut(TASK_ROWS * columns / PAIR))
            .zip(self.sums.chunks_mut(TASK_ROWS * columns / PAIR));
        let work = |((((x, codes), scales), code_sums), sums): (_, _)| {
            dispatch(Round {
                x,
                columns,
                codes,
                scales,
                code_sums,
                sums,
            });
        };
        if rows <= TASK_ROWS {
            tasks.for_each(work);
        } else {
            parallel::for_each(tasks, work);
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.codes.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `count` rows from `row` on, from column `first` (a multiple of [`CHUNK`]).
    ///
    /// # Panics
    /// When there are fewer rows or columns.
    #[inline(always)]
    pub(in crate::simd) fn part(&self, row: usize, count: usize, first: usize) -> Rows {
        assert!(row + count <= self.rows() && first < self.columns && first.is_multiple_of(CHUNK));
        let (chunks, pairs) = (self.columns.div_ceil(CHUNK), self.columns / PAIR);
        let sum = row * pairs + first / PAIR;
        Rows {
            codes: self.codes[row * self.columns + first..].as_ptr(),
            scales: self.scales[row * chunks + first / CHUNK..].as_ptr(),
            code_sums: self.code_sums[sum..].as_ptr().cast(),
            sums: self.sums[sum..].as_ptr().cast(),
            columns: self.columns,
            chunks,
            stride: 3 * pairs,
        }
    }
}

struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    codes: &'a mut [i16],
    scales: &'a mut [f32],
    code_sums: &'a mut [[i32; 3]],
    sums: &'a mut [[f32; 3]],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { columns, .. } = self;
        let mut scales = self.scales.iter_mut();
        let mut sums = self.code_sums.iter_mut().zip(self.sums);
        let rows = self.x.chunks_exact(columns);
        for (x, codes) in rows.zip(self.codes.chunks_exact_mut(columns)) {
            for (x, codes) in x.chunks(CHUNK).zip(codes.chunks_mut(CHUNK)) {
                let (scale, inverse) = scale(s, x);
                if let Some(to) = scales.next() {
                    *to = scale;
                }
                let pairs = x.chunks_exact(PAIR).zip(codes.chunks_exact_mut(PAIR));
                for ((x, codes), (code_sums, sums)) in pairs.zip(&mut sums) {
                    let first = round(s, &x[..WIDTH], inverse, &mut codes[..WIDTH]);
                    let second = round(s, &x[WIDTH..], inverse, &mut codes[WIDTH..]);
                    *code_sums = [first, second, first + second];
                    *sums = code_sums.map(|sum| sum as f32 * scale);
                }
            }
        }
    }
}

/// Rounds 16 numbers and returns the sum of their codes.
#[inline(always)]
fn round<S: Simd>(s: S, x: &[f32], inverse: f32, codes: &mut [i16]) -> i32 {
    assert!(x.len() == WIDTH && codes.len() == WIDTH);
    // SAFETY: both hold 16 numbers.
    let code = unsafe {
        let code = s.round(s.mul(s.load(x.as_ptr()), s.splat(inverse)));
        s.store_i16(codes.as_mut_ptr(), code);
        code
    };
    // Integers below 2^24: the sum is exact.
    s.sum(code) as i32
}

/// The scale of some numbers, and what they are multiplied by to become codes.
#[inline(always)]
fn scale<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let (mut most, mut all) = (s.splat(0.0), s.splat(0.0));
    for x in x.chunks_exact(WIDTH) {
        // SAFETY: 16 floats.
        let x = unsafe { s.load(x.as_ptr()) };
        most = s.max(most, s.max(x, s.sub(s.splat(0.0), x)));
        all = s.add(all, x);
    }
    let most = s.max_lane(most);
    // The largest ignores what is not a number; the sum does not.
    if !s.sum(all).is_finite() {
        return (f32::NAN, 0.0);
    }
    // Below this, the scale would lose bits. No product of such numbers matters.
    if most < 1e-30 {
        return (0.0, 0.0);
    }
    (most / MOST, MOST / most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn the_error_is_below_its_bound_and_sums_are_those_of_the_codes() {
        let mut rng = StdRng::seed_from_u64(3);
        let (rows, columns) = (35, 224);
        let x: Vec<f32> = (0..rows * columns)
            .map(|_| rng.random_range(-1f32..1.0) * 10f32.powi(rng.random_range(-3..3)))
            .collect();
        let mut rounded = Rounded::default();
        rounded.round(&x, columns);
        let chunks = columns.div_ceil(CHUNK);
        for (row, x) in x.chunks_exact(columns).enumerate() {
            for (n, x) in x.chunks(CHUNK).enumerate() {
                let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                let scale = rounded.scales[row * chunks + n];
                let codes = &rounded.codes[row * columns + n * CHUNK..][..x.len()];
                for (x, code) in x.iter().zip(codes) {
                    let error = (x - f32::from(*code) * scale).abs();
                    assert!(error <= most * 2f32.powi(-15) * 1.01, "{error} of {most}");
                }
                for (pair, codes) in codes.chunks(PAIR).enumerate() {
                    let at = (row * columns + n * CHUNK) / PAIR + pair;
                    let sum = |codes: &[i16]| codes.iter().map(|code| i32::from(*code)).sum();
                    let (first, second) = codes.split_at(WIDTH);
                    let sums = [sum(first), sum(second), sum(codes)];
                    assert_eq!(rounded.code_sums[at], sums);
                    assert_eq!(rounded.sums[at], sums.map(|sum: i32| sum as f32 * scale));
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 128];
            x[70] = bad;
            let mut rounded = Rounded::default();
            rounded.round(&x, 128);
            assert!(
                rounded.scales[0].is_finite() && rounded.scales[1].is_nan(),
                "{bad}"
            );
        }
    }
}

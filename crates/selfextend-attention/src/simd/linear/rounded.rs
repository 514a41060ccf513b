//! Activations as integers.

use super::integers::CHUNK;
use crate::parallel;
use crate::simd::level::dispatch;
use crate::simd::vector::{Kernel, Simd, WIDTH};
use std::ptr::NonNull;

/// Rows of activations rounded to 15 bits, or to 8: a number is `scale * code`, with a scale for
/// each 64 columns. The error is at most 2^-15, or 1 in 254, of the largest number beside it.
///
/// A block that holds a number that is not finite has a scale that is not a number: every product
/// with it shows that.
///
/// Rows are cut into tiles, which a kernel multiplies at once. What it reads for the rows of a tile
/// stands together, so that it needs one pointer.
#[derive(Debug, Default)]
pub struct Rounded {
    rows: usize,
    columns: usize,
    tiles: Tiles,
    precision: Precision,
    /// `[tile][pair of columns][row of the tile]`, at most [`Precision::most`].
    codes: Vec<[i16; 2]>,
    /// The same as bytes, if they are and there are many: of four columns the first, the third, the
    /// second, the fourth. `[tile][4 columns][row of the tile]`
    quads: Vec<[i8; 4]>,
    /// `[tile][chunk][row of the tile]`
    scales: Vec<f32>,
    /// Sums of the codes of each 32 columns: the first half, the second, both. Centred weights
    /// need them. `[tile][32 columns][3][row of the tile]`
    code_sums: Vec<i32>,
    /// The same as numbers, which minima are multiplied by.
    sums: Vec<f32>,
}

/// What numbers are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Integers of 15 bits.
    #[default]
    Words,
    /// Integers of 8 bits, of which some processors multiply twice as many at once.
    Bytes,
}

impl Precision {
    /// The largest code. With that of words, no sum of a chunk overflows 32 bits (see
    /// [`super::Integers`]).
    const fn most(self) -> f32 {
        match self {
            Self::Words => 16383.0,
            Self::Bytes => 127.0,
        }
    }
}

/// How rows are cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tiles {
    /// Of four rows, two and one, for [`multiply_few`](crate::simd::matmul::multiply_few).
    #[default]
    Few,
    /// Of 12 rows, and 6, 3 and one, for [`multiply_many`](crate::simd::matmul::multiply_many).
    Many,
}

impl Tiles {
    /// The tile that begins at row `row` of `rows`.
    #[inline(always)]
    pub(in crate::simd) fn at(self, row: usize, rows: usize) -> Tile {
        let rows = match (self, rows - row) {
            (Self::Few, 4..) => 4,
            (Self::Few, 2..) => 2,
            (Self::Many, 12..) => 12,
            (Self::Many, 6..) => 6,
            (Self::Many, 3..) => 3,
            _ => 1,
        };
        Tile { row, rows }
    }
}

/// Rows that are stored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simd) struct Tile {
    pub row: usize,
    pub rows: usize,
}

/// Rows that a task rounds, a multiple of those of every tile but the last ones.
const TASK_ROWS: usize = 24;

/// Columns whose sums are kept together.
const PAIR: usize = 2 * WIDTH;

/// Some rows of a tile from some column on, as kernels read them.
#[derive(Debug, Clone, Copy)]
pub(in crate::simd) struct Rows {
    pub codes: *const i32,
    /// Dangling where the activations are not bytes.
    pub quads: *const i32,
    pub scales: *const f32,
    pub code_sums: *const i32,
    pub sums: *const f32,
    /// From a number of a row to its next one: rows of the tile.
    pub stride: usize,
}

/// Where the sums of block `n` of `columns` columns are among a tile's sums.
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
    pub fn round(&mut self, x: &[f32], columns: usize, tiles: Tiles, precision: Precision) {
        assert!(columns.is_multiple_of(PAIR) && x.len().is_multiple_of(columns.max(1)));
        let chunks = columns.div_ceil(CHUNK);
        let rows = x.len().checked_div(columns).unwrap_or(0);
        (self.rows, self.columns) = (rows, columns);
        (self.tiles, self.precision) = (tiles, precision);
        self.codes.resize(x.len() / 2, [0; 2]);
        let quads = if self.has_bytes() { x.len() / 4 } else { 0 };
        self.quads.resize(quads, [0; 4]);
        self.scales.resize(rows * chunks, 0.0);
        self.code_sums.resize(3 * x.len() / PAIR, 0);
        self.sums.resize(3 * x.len() / PAIR, 0.0);
        if rows == 0 {
            return;
        }
        // Where there are none, each task gets none.
        let quads = self.quads.chunks_mut(TASK_ROWS * columns / 4);
        let quads = quads.chain(std::iter::repeat_with(Default::default));
        let codes = self.codes.chunks_mut(TASK_ROWS * columns / 2);
        let tasks = x
            .chunks(TASK_ROWS * columns)
            .zip(codes.zip(quads))
            .zip(self.scales.chunks_mut(TASK_ROWS * chunks))
            .zip(self.code_sums.chunks_mut(TASK_ROWS * 3 * columns / PAIR))
            .zip(self.sums.chunks_mut(TASK_ROWS * 3 * columns / PAIR));
        let work = |((((x, (codes, quads)), scales), code_sums), sums): (_, _)| {
            dispatch(Round {
                x,
                columns,
                tiles,
                most: precision.most(),
                codes,
                quads,
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
        self.rows
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the rows are cut.
    pub(in crate::simd) fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// Whether the codes are there as bytes, too.
    pub(in crate::simd) fn has_bytes(&self) -> bool {
        self.precision == Precision::Bytes && self.tiles == Tiles::Many
    }

    /// `count` rows of a tile from its row `skip` on, from column `first` (a multiple of [`CHUNK`]).
    ///
    /// # Panics
    /// When there are fewer rows or columns.
    #[inline(always)]
    pub(in crate::simd) fn part(
        &self,
        tile: Tile,
        (skip, count): (usize, usize),
        first: usize,
    ) -> Rows {
        let Tile { row, rows: stride } = tile;
        assert!(row + stride <= self.rows && skip + count <= stride);
        assert!(first < self.columns && first.is_multiple_of(CHUNK));
        let (chunks, pairs) = (self.columns.div_ceil(CHUNK), self.columns / PAIR);
        let code = row * self.columns + first * stride;
        let quads = if self.has_bytes() {
            self.quads[code / 4 + skip..].as_ptr()
        } else {
            NonNull::dangling().as_ptr()
        };
        let sum = 3 * (row * pairs + first / PAIR * stride) + skip;
        Rows {
            codes: self.codes[code / 2 + skip..].as_ptr().cast(),
            quads: quads.cast(),
            scales: self.scales[row * chunks + first / CHUNK * stride + skip..].as_ptr(),
            code_sums: self.code_sums[sum..].as_ptr(),
            sums: self.sums[sum..].as_ptr(),
            stride,
        }
    }
}

struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    tiles: Tiles,
    most: f32,
    codes: &'a mut [[i16; 2]],
    quads: &'a mut [[i8; 4]],
    scales: &'a mut [f32],
    code_sums: &'a mut [i32],
    sums: &'a mut [f32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let columns = self.columns;
        let (rows, chunks) = (self.x.len() / columns, columns.div_ceil(CHUNK));
        let mut row = 0;
        while row < rows {
            let tile = self.tiles.at(row, rows).rows;
            let sums_at = 3 * row * columns / PAIR;
            for r in 0..tile {
                let x = &self.x[(row + r) * columns..][..columns];
                for (n, x) in x.chunks(CHUNK).enumerate() {
                    let (scale, inverse) = scale(s, x, self.most);
                    self.scales[row * chunks + n * tile + r] = scale;
                    for (m, x) in x.as_chunks::<PAIR>().0.iter().enumerate() {
                        let pair = n * CHUNK / PAIR + m;
                        let (codes, sums) = round(s, x, inverse);
                        let at = row * columns + pair * PAIR * tile;
                        self.put_codes(&codes, at, tile, r);
                        for (k, sum) in sums.into_iter().enumerate() {
                            let at = sums_at + (3 * pair + k) * tile + r;
                            self.code_sums[at] = sum;
                            self.sums[at] = sum as f32 * scale;
                        }
                    }
                }
            }
            row += tile;
        }
    }
}

impl Round<'_> {
    /// Writes 32 codes of row `r` of a tile whose numbers begin at `at`.
    #[inline(always)]
    fn put_codes(&mut self, codes: &[[i16; 2]; WIDTH], at: usize, tile: usize, r: usize) {
        let to = self.codes[at / 2 + r..].iter_mut().step_by(tile);
        for (to, codes) in to.zip(codes) {
            *to = *codes;
        }
        if !self.quads.is_empty() {
            let to = self.quads[at / 4 + r..].iter_mut().step_by(tile);
            for (to, four) in to.zip(codes.as_chunks().0) {
                *to = in_order(four).map(|code| code as i8);
            }
        }
    }
}

/// Four codes as the weights of four columns stand.
#[inline(always)]
fn in_order([[a, b], [c, d]]: &[[i16; 2]; 2]) -> [i16; 4] {
    [*a, *c, *b, *d]
}

/// Rounds 32 numbers: pairs of codes, and the sums of the first half's, the second's and all.
#[inline(always)]
fn round<S: Simd>(s: S, x: &[f32; PAIR], inverse: f32) -> ([[i16; 2]; WIDTH], [i32; 3]) {
    let mut codes = [[0; 2]; WIDTH];
    let mut sums = [0; 2];
    for (half, sum) in sums.iter_mut().enumerate() {
        // SAFETY: `x` and `codes` hold 32 numbers.
        let code = unsafe {
            let code = s.load(x.as_ptr().add(half * WIDTH));
            let code = s.round(s.mul(code, s.splat(inverse)));
            s.store_i16(codes.as_mut_ptr().cast::<i16>().add(half * WIDTH), code);
            code
        };
        // Integers below 2^24: the sum is exact.
        *sum = s.sum(code) as i32;
    }
    (codes, [sums[0], sums[1], sums[0] + sums[1]])
}

/// The scale of some numbers, and what they are multiplied by to become codes of at most `code`.
#[inline(always)]
fn scale<S: Simd>(s: S, x: &[f32], code: f32) -> (f32, f32) {
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
    (most / code, code / most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn the_error_is_below_its_bound_and_sums_are_those_of_the_codes() {
        let precisions = [Precision::Words, Precision::Bytes];
        let cases = precisions.map(|precision| [Tiles::Few, Tiles::Many].map(|t| (t, precision)));
        for (tiles, precision) in cases.into_iter().flatten() {
            let error_of = match precision {
                Precision::Words => 2f32.powi(-15) * 1.01,
                Precision::Bytes => 1.001 / 254.0,
            };
            let mut rng = StdRng::seed_from_u64(3);
            let (rows, columns) = (35, 224);
            let x: Vec<f32> = (0..rows * columns)
                .map(|_| rng.random_range(-1f32..1.0) * 10f32.powi(rng.random_range(-3..3)))
                .collect();
            let mut rounded = Rounded::default();
            rounded.round(&x, columns, tiles, precision);
            let rows = tiled(&rounded);
            assert_eq!(rows.len(), 35);
            assert_eq!(
                rows.iter().any(|row| !row.quads.is_empty()),
                rounded.has_bytes()
            );
            for (row, x) in rows.iter().zip(x.chunks_exact(columns)) {
                for (n, x) in x.chunks(CHUNK).enumerate() {
                    let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                    let scale = row.scales[n];
                    let codes = &row.codes[n * CHUNK..][..x.len()];
                    for (x, code) in x.iter().zip(codes) {
                        let error = (x - f32::from(*code) * scale).abs();
                        assert!(error <= most * error_of, "{error} of {most}");
                    }
                    if !row.quads.is_empty() {
                        let quads = &row.quads[n * CHUNK / 4..];
                        for (quad, four) in quads.iter().zip(codes.chunks(4)) {
                            let order = [0, 2, 1, 3].map(|at| four[at]);
                            assert_eq!(quad.map(i16::from), order);
                        }
                    }
                    for (pair, codes) in codes.chunks(PAIR).enumerate() {
                        let at = 3 * (n * CHUNK / PAIR + pair);
                        let sum = |codes: &[i16]| codes.iter().map(|code| i32::from(*code)).sum();
                        let (first, second) = codes.split_at(WIDTH);
                        let sums: [i32; 3] = [sum(first), sum(second), sum(codes)];
                        assert_eq!(row.code_sums[at..at + 3], sums);
                        assert_eq!(row.sums[at..at + 3], sums.map(|sum| sum as f32 * scale));
                    }
                }
            }
        }
    }

    #[derive(Default)]
    struct Row {
        codes: Vec<i16>,
        quads: Vec<[i8; 4]>,
        scales: Vec<f32>,
        code_sums: Vec<i32>,
        sums: Vec<f32>,
    }

    /// The rows, taken out of their tiles.
    fn tiled(rounded: &Rounded) -> Vec<Row> {
        fn column<T: Copy>(all: &[T], rows: usize, row: usize, tile: usize, r: usize) -> Vec<T> {
            let each = all.len() / rows;
            let tiles = &all[row * each..][..tile * each];
            tiles.iter().skip(r).step_by(tile).copied().collect()
        }
        let (rows, mut found, mut row) = (rounded.rows(), Vec::new(), 0);
        while row < rows {
            let tile = rounded.tiles().at(row, rows).rows;
            found.extend((0..tile).map(|r| Row {
                codes: column(&rounded.codes, rows, row, tile, r).concat(),
                quads: column(&rounded.quads, rows, row, tile, r),
                scales: column(&rounded.scales, rows, row, tile, r),
                code_sums: column(&rounded.code_sums, rows, row, tile, r),
                sums: column(&rounded.sums, rows, row, tile, r),
            }));
            row += tile;
        }
        found
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 128];
            x[70] = bad;
            let mut rounded = Rounded::default();
            for precision in [Precision::Words, Precision::Bytes] {
                rounded.round(&x, 128, Tiles::Few, precision);
                assert!(
                    rounded.scales[0].is_finite() && rounded.scales[1].is_nan(),
                    "{bad}"
                );
            }
        }
    }
}

//! Some columns of a panel, unpacked once for many rows of [`Rounded`](super::Rounded) activations.

use super::blocks::{Block, BlockReader};
use super::integers::{CHUNK, WIDENED};
use super::products::{Layout, minima, pair, scales, unrolled};
use super::rounded::{Rows, sum_at};
use crate::simd::vector::{Simd, WIDTH};

/// Columns of a panel, ready for many rows.
pub(in crate::simd) trait Wide: Default {
    /// Whether a level multiplies them.
    fn is_for<S: Simd>() -> bool;

    /// Unpacks columns `first..first + columns` of a panel, which begin and end with units.
    ///
    /// # Panics
    /// When there are fewer bytes, or more than [`WIDENED`] columns.
    fn widen<S: Simd, L: Layout>(&mut self, s: S, panel: &[u8], first: usize, columns: usize);

    /// As [`Wide::widen`], for a panel of a file's blocks.
    ///
    /// # Panics
    /// As [`Wide::widen`], and where numbers of blocks do not fit.
    fn widen_blocks(
        &mut self,
        reader: &dyn BlockReader,
        panel: &[u8],
        first: usize,
        columns: usize,
    );

    /// `total` and the products of the first `columns` widened columns with `R` rows of activations.
    ///
    /// # Panics
    /// When there is no room for so many columns.
    ///
    /// # Safety
    /// `x` must be readable for `R` rows of as many columns.
    unsafe fn multiply<S: Simd, const R: usize>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        total: [S::V; R],
    ) -> [S::V; R];
}

/// What sums of integers are multiplied by.
#[derive(Debug, Default)]
pub(super) struct Outer {
    /// `[chunk][16]`
    scales: Vec<f32>,
    /// `[block][16]`, empty where there are none.
    minima: Vec<f32>,
    /// Columns of a chunk and of a block with a minimum.
    pub(super) chunk: usize,
    pub(super) block: usize,
}

impl Outer {
    /// Reads the scales and minima of `columns` columns of a panel, which begins with them.
    ///
    /// # Panics
    /// When there are fewer bytes, or more than [`WIDENED`] columns.
    #[inline(always)]
    pub(super) fn read<S: Simd, L: Layout>(&mut self, s: S, panel: &[u8], columns: usize) {
        let of = L::INTEGERS;
        let units = columns / of.unit();
        assert!(panel.len() >= units * of.unit_bytes() && columns <= WIDENED);
        self.resize(of.chunk(), of.block, of.minimum);
        for chunk in 0..units * of.unit() / of.chunk() {
            let unit = chunk * of.chunk() / of.unit();
            // SAFETY: the assertion covers all units in the panel, `resize` all chunks.
            unsafe {
                let scale = scales::<S, L>(s, panel.as_ptr().add(unit * of.unit_bytes()));
                s.store(self.scales.as_mut_ptr().add(chunk * WIDTH), scale);
            }
        }
        if !of.minimum {
            return;
        }
        let blocks = of.unit() / of.block;
        for b in 0..units * blocks {
            // SAFETY: as above, for blocks.
            unsafe {
                let unit = panel.as_ptr().add(b / blocks * of.unit_bytes());
                let minima = minima::<S, L>(s, unit, b % blocks);
                s.store(self.minima.as_mut_ptr().add(b * WIDTH), minima);
            }
        }
    }

    fn resize(&mut self, chunk: usize, block: usize, minimum: bool) {
        (self.chunk, self.block) = (chunk, block);
        self.scales.resize(WIDENED / chunk * WIDTH, 0.0);
        let minima = if minimum { WIDENED / block } else { 0 };
        self.minima.resize(minima * WIDTH, 0.0);
    }

    /// Adds chunk `n`, of which `sums` are the sums of products.
    ///
    /// # Safety
    /// The chunk must be among those read; `x` must be readable for `R` rows of its columns.
    #[inline(always)]
    pub(super) unsafe fn add_chunk<S: Simd, const R: usize>(
        &self,
        s: S,
        n: usize,
        x: Rows,
        sums: [S::V; R],
        total: &mut [S::V; R],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = s.load(self.scales.as_ptr().add(n * WIDTH));
            let x_scales = x.scales.add(n * self.chunk / CHUNK * x.stride);
            unrolled!(S, R, r => {
                let scale = s.mul(scale, s.splat(*x_scales.add(r)));
                total[r] = s.fma(scale, sums[r], total[r]);
            });
        }
    }

    /// Adds what the minima of the first `columns` columns make of the sums of `x`.
    ///
    /// # Safety
    /// The columns must be among those read; `x` must be readable for `R` rows of them.
    #[inline(always)]
    pub(super) unsafe fn add_minima<S: Simd, const R: usize>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        total: &mut [S::V; R],
    ) {
        let blocks = if self.minima.is_empty() {
            0
        } else {
            columns / self.block
        };
        for b in 0..blocks {
            // SAFETY: the caller's promise.
            unsafe {
                let minimum = s.load(self.minima.as_ptr().add(b * WIDTH));
                let x_sums = x.sums.add(sum_at(b, self.block) * x.stride);
                unrolled!(S, R, r => {
                    total[r] = s.fma(minimum, s.splat(*x_sums.add(r)), total[r]);
                });
            }
        }
    }
}

/// Columns as 16-bit integers, factors included.
#[derive(Debug, Default)]
pub(in crate::simd) struct Widened {
    /// `[pair of columns][16][2]`
    codes: Vec<i16>,
    outer: Outer,
}

impl Wide for Widened {
    #[inline(always)]
    fn is_for<S: Simd>() -> bool {
        true
    }

    #[inline(always)]
    fn widen<S: Simd, L: Layout>(&mut self, s: S, panel: &[u8], first: usize, columns: usize) {
        let of = L::INTEGERS;
        let panel = &panel[first / of.unit() * of.unit_bytes()..];
        let units = columns / of.unit();
        assert!(panel.len() >= units * of.unit_bytes() && columns <= WIDENED);
        self.codes.resize(WIDENED * WIDTH, 0);
        let blocks = of.unit() / of.block;
        for b in 0..units * blocks {
            // SAFETY: the assertion covers all units in the panel and in the buffer.
            unsafe {
                let unit = panel.as_ptr().add(b / blocks * of.unit_bytes());
                self.widen_block::<S, L>(s, unit, b % blocks, b);
            }
        }
        self.outer.read::<S, L>(s, panel, columns);
    }

    fn widen_blocks(
        &mut self,
        reader: &dyn BlockReader,
        panel: &[u8],
        first: usize,
        columns: usize,
    ) {
        let (unit, chunk) = (reader.columns(), reader.chunk());
        let unit_bytes = WIDTH * reader.bytes();
        assert!(columns <= WIDENED && WIDENED.is_multiple_of(chunk));
        self.codes.resize(WIDENED * WIDTH, 0);
        self.outer.resize(chunk, chunk, false);
        let panel = &panel[first / unit * unit_bytes..][..columns / unit * unit_bytes];
        let integers = self.codes.chunks_exact_mut(unit * WIDTH);
        let scales = &mut self.outer.scales;
        let scales = scales.chunks_exact_mut(unit / chunk * WIDTH);
        let mut block = Block::EMPTY;
        for ((bytes, integers), scales) in panel.chunks_exact(unit_bytes).zip(integers).zip(scales)
        {
            for lane in 0..WIDTH {
                block.read(reader, bytes, lane);
                block.scatter(reader, lane, integers, scales);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const R: usize>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        mut total: [S::V; R],
    ) -> [S::V; R] {
        let chunk = self.outer.chunk;
        assert!(columns <= WIDENED && self.codes.len() == WIDENED * WIDTH && chunk > 0);
        assert!(columns.is_multiple_of(chunk));
        // SAFETY: the assertions cover the columns of the panel; the activations are the caller's
        // promise.
        unsafe {
            let (mut weights, mut x_codes) = (self.codes.as_ptr(), x.codes);
            for n in 0..columns / chunk {
                let mut sums = [s.no_sums(); R];
                for _ in 0..chunk / 2 {
                    let pairs = s.load_words(weights);
                    weights = weights.add(2 * WIDTH);
                    unrolled!(S, R, r => {
                        let by = x_codes.add(r).read_unaligned();
                        sums[r] = s.add_products(sums[r], pairs, by);
                    });
                    x_codes = x_codes.add(x.stride);
                }
                let mut floats = [s.splat(0.0); R];
                unrolled!(S, R, r => { floats[r] = s.sums(sums[r]); });
                self.outer.add_chunk(s, n, x, floats, &mut total);
            }
            self.outer.add_minima(s, columns, x, &mut total);
        }
        total
    }
}

impl Widened {
    /// Widens block `block` of a unit, which is block `n` of all.
    ///
    /// # Safety
    /// `unit` must be readable for a unit; the buffer must have room for `n + 1` blocks.
    #[inline(always)]
    unsafe fn widen_block<S: Simd, L: Layout>(
        &mut self,
        s: S,
        unit: *const u8,
        block: usize,
        n: usize,
    ) {
        let of = const { L::INTEGERS };
        let ones = [1i8; WIDTH];
        // SAFETY: the caller's promise.
        unsafe {
            let factors = if of.shared() {
                s.load_twice(unit.add(of.factors_at(block)).cast())
            } else {
                s.load_twice(ones.as_ptr())
            };
            let to = self.codes.as_mut_ptr().add(n * of.block * WIDTH);
            unrolled!(S, of.block / 2, n => {
                let pairs = pair::<S, L>(s, unit.add(of.codes_at(block)), n, false);
                s.store_words(to.add(2 * n * WIDTH), s.weigh(pairs, of.centre, factors));
            });
        }
    }
}

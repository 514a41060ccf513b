//! The same columns as 16-bit integers in two halves, for machines that multiply tiles of bytes.
//!
//! A weight with its factor is `256 * high + low` with a signed and an unsigned byte, and so is an
//! activation of 15 bits. Products of halves are summed apart and put together afterwards: `(high *
//! high * 256 + high * low + low * high) * 256 + low * low`. So the sums are those of [`Widened`], bit
//! for bit, which multiplies the rows that fill no tile.

use super::blocks::BlockReader;
use super::integers::WIDENED;
use super::products::{Layout, unrolled};
use super::rounded::Rows;
use super::widened::{Wide, Widened};
use crate::simd::vector::{Halves, Simd, TILE, WIDTH};

/// Columns of a panel in halves.
#[derive(Debug, Default)]
pub(in crate::simd) struct Halved {
    widened: Widened,
    /// `[4 columns][16][4]`: of four columns the first, the third, the second, the fourth.
    high: Vec<u8>,
    low: Vec<u8>,
}

/// Sums of a tile: of high halves, of a high with a low one, of low halves.
#[repr(align(64))]
struct Sums([[i32; TILE * WIDTH]; 3]);

impl Wide for Halved {
    const TILES: bool = true;

    #[inline(always)]
    fn is_for<S: Simd>() -> bool {
        S::TILES
    }

    #[inline(always)]
    fn widen<S: Simd, L: Layout>(&mut self, s: S, panel: &[u8], first: usize, columns: usize) {
        self.widened.widen::<S, L>(s, panel, first, columns);
        self.halve(s, columns);
    }

    #[inline(always)]
    fn widen_blocks<S: Simd>(
        &mut self,
        s: S,
        reader: &dyn BlockReader,
        panel: &[u8],
        first: usize,
        columns: usize,
    ) {
        self.widened.widen_blocks(s, reader, panel, first, columns);
        self.halve(s, columns);
    }

    fn chunk(&self) -> usize {
        self.widened.chunk()
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const R: usize>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        mut total: [S::V; R],
    ) -> [S::V; R] {
        // SAFETY: the caller's promise.
        unsafe {
            if R != TILE {
                return self.widened.multiply(s, columns, x, total);
            }
            let (chunk, outer) = (self.widened.chunk(), self.widened.outer());
            assert!(columns <= WIDENED && self.high.len() == WIDENED * WIDTH);
            assert!(self.low.len() == WIDENED * WIDTH && columns.is_multiple_of(chunk));
            let mut sums = Sums([[0; TILE * WIDTH]; 3]);
            for n in 0..columns / chunk {
                let at = n * chunk;
                let weights = Halves {
                    high: self.high.as_ptr().add(at * WIDTH),
                    low: self.low.as_ptr().add(at * WIDTH),
                };
                s.multiply_halves(x.halves.at(at), weights, chunk, sums.0.as_mut_ptr().cast());
                let [high, middle, low] = sums.0.each_ref().map(|sums| sums.as_ptr());
                let (scale, x_scales) = outer.scale(s, n, x);
                unrolled!(S, R, r => {
                    let upper = s.load_sums(high.add(r * WIDTH));
                    let mut sum = s.raise_sums(upper, s.load_sums(middle.add(r * WIDTH)));
                    if x.halves.are_two() {
                        sum = s.raise_sums(sum, s.load_sums(low.add(r * WIDTH)));
                    }
                    let scale = s.mul(scale, s.splat(*x_scales.add(r)));
                    total[r] = s.fma(scale, s.sums(sum), total[r]);
                });
            }
            outer.add_minima(s, columns, x, &mut total);
        }
        total
    }
}

impl Halved {
    /// Cuts the first `columns` columns in halves.
    #[inline(always)]
    fn halve<S: Simd>(&mut self, s: S, columns: usize) {
        let from = self.widened.codes();
        assert!(columns.is_multiple_of(4) && from.len() >= columns * WIDTH && columns <= WIDENED);
        self.high.resize(WIDENED * WIDTH, 0);
        self.low.resize(WIDENED * WIDTH, 0);
        for n in 0..columns / 4 {
            // SAFETY: the assertion and the sizes cover the columns.
            unsafe {
                let from = from.as_ptr().add(n * 4 * WIDTH);
                let (first, second) = (s.load_words(from), s.load_words(from.add(2 * WIDTH)));
                let low = s.join(s.bits(first, 0, 0xff), s.bits(second, -8, -1));
                let high = s.join(s.bits(first, 8, 0xff), s.bits(second, 0, -256));
                s.store_words(self.low.as_mut_ptr().add(n * 4 * WIDTH).cast(), low);
                s.store_words(self.high.as_mut_ptr().add(n * 4 * WIDTH).cast(), high);
            }
        }
    }
}

//! The same columns as bytes, for activations rounded to bytes and instructions that multiply those.
//!
//! A weight is its code, an unsigned byte, less a centre (values behind codes are raised by 128), times
//! the factor of its block. Activations of a byte leave room: a chunk's sum, factors included, is below
//! 2^24 (32 columns of 127 times 32 * 128 in Q6_K, 127 * 32 in IQ4_XS; 64 of 31 * 63 in Q5_K). Floats
//! hold such integers, so factors are multiplied in as floats and the sums are those of
//! [`Widened`](super::widened::Widened), bit for bit.

use super::blocks::BlockReader;
use super::integers::WIDENED;
use super::products::{Layout, pair, unrolled};
use super::rounded::{Rows, sum_at};
use super::widened::{Outer, Wide};
use crate::simd::vector::{Simd, WIDTH};

/// Columns of a panel in bytes.
#[derive(Debug, Default)]
pub(in crate::simd) struct Quads {
    /// `[4 columns][16][4]`, of four columns the first, the third, the second, the fourth. Activations
    /// are in the same order.
    codes: Vec<u8>,
    /// `[block][16]`, empty where there are none.
    factors: Vec<f32>,
    /// What codes stand for less than.
    centre: i16,
    outer: Outer,
}

impl Wide for Quads {
    #[inline(always)]
    fn is_for<S: Simd>() -> bool {
        S::BYTES
    }

    #[inline(always)]
    fn widen<S: Simd, L: Layout>(&mut self, s: S, panel: &[u8], first: usize, columns: usize) {
        let of = L::INTEGERS;
        let panel = &panel[first / of.unit() * of.unit_bytes()..];
        let units = columns / of.unit();
        assert!(panel.len() >= units * of.unit_bytes() && columns <= WIDENED);
        self.centre = if of.table.is_some() { 128 } else { of.centre };
        self.codes.resize(WIDENED * WIDTH, 0);
        let factors = if of.shared() { WIDENED / of.block } else { 0 };
        self.factors.resize(factors * WIDTH, 0.0);
        let blocks = of.unit() / of.block;
        for b in 0..units * blocks {
            // SAFETY: the assertion covers all units in the panel and in the buffers.
            unsafe {
                let unit = panel.as_ptr().add(b / blocks * of.unit_bytes());
                self.widen_block::<S, L>(s, unit, b % blocks, b);
            }
        }
        self.outer.read::<S, L>(s, panel, columns);
    }

    fn widen_blocks(&mut self, _: &dyn BlockReader, _: &[u8], _: usize, _: usize) {
        unreachable!("integers of a file's blocks may need more than a byte");
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const R: usize>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        total: [S::V; R],
    ) -> [S::V; R] {
        // SAFETY: the caller's promise.
        unsafe {
            if self.factors.is_empty() {
                self.products::<S, R, false>(s, columns, x, total)
            } else {
                self.products::<S, R, true>(s, columns, x, total)
            }
        }
    }
}

impl Quads {
    /// Unpacks block `block` of a unit, which is block `n` of all.
    ///
    /// # Safety
    /// `unit` must be readable for a unit; the buffers must have room for `n + 1` blocks.
    #[inline(always)]
    unsafe fn widen_block<S: Simd, L: Layout>(
        &mut self,
        s: S,
        unit: *const u8,
        block: usize,
        n: usize,
    ) {
        let of = const { L::INTEGERS };
        // SAFETY: the caller's promise.
        unsafe {
            let codes = unit.add(of.codes_at(block));
            let to = self.codes.as_mut_ptr().add(n * of.block * WIDTH);
            unrolled!(S, of.block / 4, n => {
                let lower = pair::<S, L>(s, codes, 2 * n, true);
                let upper = pair::<S, L>(s, codes, 2 * n + 1, true);
                // What is looked up has the sign of its byte.
                let lower = if of.table.is_some() { s.bits(lower, 0, 0xff) } else { lower };
                let quads = s.join(lower, s.bits(upper, -8, -1));
                s.store_words(to.add(4 * n * WIDTH).cast(), quads);
            });
            if of.shared() {
                let factors = s.load_i8(unit.add(of.factors_at(block)).cast());
                s.store(self.factors.as_mut_ptr().add(n * WIDTH), factors);
            }
        }
    }

    /// See [`Wide::multiply`]; with `FACTORS` or without.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn products<S: Simd, const R: usize, const FACTORS: bool>(
        &self,
        s: S,
        columns: usize,
        x: Rows,
        mut total: [S::V; R],
    ) -> [S::V; R] {
        let Outer { chunk, block, .. } = self.outer;
        assert!(columns <= WIDENED && self.codes.len() == WIDENED * WIDTH && chunk > 0);
        assert!(columns.is_multiple_of(chunk) && chunk.is_multiple_of(block));
        assert!(!FACTORS || self.factors.len() == WIDENED / block * WIDTH);
        let centre: [[i16; 2]; WIDTH] = [[-self.centre, 0]; WIDTH];
        let blocks = chunk / block;
        // SAFETY: the assertions cover the columns of the panel; the activations are the caller's
        // promise.
        unsafe {
            let centre = s.load_words(centre.as_ptr().cast());
            let (mut codes, mut x_codes) = (self.codes.as_ptr(), x.quads);
            for n in 0..columns / chunk {
                let mut all = [s.splat(0.0); R];
                for b in n * blocks..(n + 1) * blocks {
                    let mut sums = [s.no_sums(); R];
                    if self.centre != 0 {
                        let x_sums = x.code_sums.add(sum_at(b, block) * x.stride);
                        // A sum of 32 bytes fits the lower half of what a pair is multiplied by.
                        unrolled!(S, R, r => {
                            sums[r] = s.add_products(sums[r], centre, *x_sums.add(r));
                        });
                    }
                    for _ in 0..block / 4 {
                        let quads = s.load_quads(codes);
                        codes = codes.add(4 * WIDTH);
                        unrolled!(S, R, r => {
                            let by = x_codes.add(r).read_unaligned();
                            sums[r] = s.add_byte_products(sums[r], quads, by);
                        });
                        x_codes = x_codes.add(x.stride);
                    }
                    if FACTORS {
                        let factors = s.load(self.factors.as_ptr().add(b * WIDTH));
                        unrolled!(S, R, r => {
                            all[r] = s.fma(factors, s.sums(sums[r]), all[r]);
                        });
                    } else {
                        // A block is a chunk.
                        unrolled!(S, R, r => { all[r] = s.sums(sums[r]); });
                    }
                }
                self.outer.add_chunk(s, n, x, all, &mut total);
            }
            self.outer.add_minima(s, columns, x, &mut total);
        }
        total
    }
}

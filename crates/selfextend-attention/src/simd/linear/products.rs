//! Panels of integers against [`Rounded`] activations.
//!
//! A weight is `scale * (code - centre) + minimum`, with non-negative codes, or `scale *
//! table[code]`. Its scale is the block's own half float or power of two, or a half float for 256
//! columns times the block's small integer, its factor. Sums of products stay integers for a chunk
//! of 32 or 64 columns, factors included, and are exact; then `total += scale * x_scale * sum`, and
//! after 256 columns `minimum * (sum of x)` for each of their blocks. Few rows and many take the
//! same steps in the same order, so they agree bit for bit.

use super::format::PanelFormat;
use super::integers::{CHUNK, Integers, VECTOR, WIDENED};
use super::rounded::{Rounded, Rows, Tile, sum_at};
use crate::simd::vector::{Load, Simd, WIDTH};
use half::f16;

/// A format known to the compiler.
pub(in crate::simd) trait Layout {
    const INTEGERS: Integers;
}

/// Work that is compiled for each format.
pub(in crate::simd) trait ForLayout {
    type Output;
    fn run<L: Layout>(self) -> Self::Output;
}

macro_rules! layouts {
    ($($name:ident)*) => {
        $(struct $name;
        impl Layout for $name {
            const INTEGERS: Integers = match PanelFormat::$name.integers() {
                Some(integers) => integers,
                None => panic!("quantised"),
            };
        })*

        /// Runs some work for a format.
        ///
        /// # Panics
        /// When it is not quantised.
        #[inline(always)]
        pub(in crate::simd) fn for_layout<W: ForLayout>(format: PanelFormat, work: W) -> W::Output {
            match format {
                $(PanelFormat::$name => work.run::<$name>(),)*
                _ => panic!("{format:?} is not quantised"),
            }
        }
    };
}
layouts!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ4NL IQ4XS MXFP4);

/// Runs `$code` with `$n` from 0 to below `$count`, at most 16. Written out for instruction sets, so
/// that shifts, vectors and registers are known to the compiler, which does not unroll such a loop
/// by itself. Without one it stays a loop: written out, it was two thirds of the crate's code.
macro_rules! unrolled {
    ($S:ty, $count:expr, $n:ident => $code:block) => {
        if <$S>::UNROLLED {
            unrolled!(@ $count, $n, $code, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
        } else {
            for $n in 0..$count {
                $code
            }
        }
    };
    (@ $count:expr, $n:ident, $code:block, $($at:literal)*) => {
        {
            $(if $at < $count {
                let $n = $at;
                $code
            })*
        }
    };
}

pub(super) use unrolled;

/// The 16 rows' codes of columns `2 * n` and `2 * n + 1` of a block, or what they stand for: if
/// `raised`, the bits of that plus 128 as an unsigned byte.
///
/// # Safety
/// `p` must be readable for the codes of a block; `n` is below half its columns.
#[inline(always)]
pub(super) unsafe fn pair<S: Simd, L: Layout>(s: S, p: *const u8, n: usize, raised: bool) -> S::P {
    let Integers {
        low,
        high,
        block,
        table,
        ..
    } = L::INTEGERS;
    let in_vector = 16 / low;
    let mask = |bits: usize| ((1 << bits) - 1) as i16;
    // SAFETY: the caller's promise: both vectors are among the block's codes.
    unsafe {
        let vector = s.load_words(p.add(n / in_vector * VECTOR).cast());
        let shift = (n % in_vector * low) as i32;
        if let Some(table) = table {
            let values = if raised {
                table.raised()
            } else {
                table.values()
            };
            return s.look_up(vector, shift, values);
        }
        let lower = s.bits(vector, shift, mask(low));
        if high == 0 {
            return lower;
        }
        let vector = s.load_words(p.add(block / 2 / in_vector * VECTOR).cast());
        let shift = (n * high) as i32 - low as i32;
        s.join(lower, s.bits(vector, shift, mask(high) << low))
    }
}

/// The scales of the 16 rows of a unit, without factors.
///
/// # Safety
/// `unit` must be readable for a unit.
#[inline(always)]
pub(super) unsafe fn scales<S: Simd, L: Layout>(s: S, unit: *const u8) -> S::V {
    // SAFETY: the caller's promise; loads need no alignment.
    unsafe {
        if const { L::INTEGERS.has_powers() } {
            s.load_powers(unit)
        } else {
            f16::load(s, unit.cast())
        }
    }
}

/// The minima of the 16 rows of block `block` of a unit.
///
/// # Safety
/// `unit` must be readable for a unit.
#[inline(always)]
pub(super) unsafe fn minima<S: Simd, L: Layout>(s: S, unit: *const u8, block: usize) -> S::V {
    let of = const { L::INTEGERS };
    // SAFETY: the caller's promise; loads need no alignment.
    unsafe {
        let half = f16::load(s, unit.add(WIDTH * size_of::<f16>()).cast());
        if of.shared() {
            s.mul(half, s.load_i8(unit.add(of.minima_at(block)).cast()))
        } else {
            half
        }
    }
}

/// How many bytes the prefetch runs ahead of what is being read: the processor's own prefetching
/// stops at the end of each page of 4096 bytes. From 2048 on it gets in its way on Zen 4; Sapphire
/// Rapids is a fifth faster with 2048 than with this.
const AHEAD: usize = 1024;

/// Products of 16 weight rows with `R` rows of activations from `row` on.
///
/// # Panics
/// When there are fewer bytes or rows than that.
#[inline(always)]
pub(in crate::simd) fn multiply_panel<S: Simd, L: Layout, const R: usize>(
    s: S,
    panel: &[u8],
    x: &Rounded,
    row: usize,
) -> [S::V; R] {
    let of = const { L::INTEGERS };
    let units = x.columns() / of.unit();
    assert!(panel.len() >= units * of.unit_bytes() && x.columns() == units * of.unit());
    let mut total = [s.splat(0.0); R];
    if units == 0 {
        return total;
    }
    let x = x.part(Tile { row, rows: R }, (0, R), 0);
    for first in (0..units * of.unit()).step_by(WIDENED) {
        let columns = WIDENED.min(units * of.unit() - first);
        // SAFETY: the assertion covers all units; `part` covers R rows of all columns.
        unsafe {
            let group = panel.as_ptr().add(first / of.unit() * of.unit_bytes());
            // One loop over all chunks, which the compiler does not unroll.
            for chunk in 0..columns / of.chunk() {
                multiply_chunk::<S, L, R>(s, group, chunk, x, first, &mut total);
            }
            if of.minimum {
                add_minima::<S, L, R>(s, group, columns / of.block, x, first, &mut total);
            }
        }
    }
    total
}

/// The most [`chains_of`] a row.
const MOST_CHAINS: usize = 4;

/// How many sums a row's products are added to in turn. They are added up after a block: integers,
/// so their order does not matter. An instruction waits some five cycles for the sum before it, so
/// few rows need several, where there are registers for them.
const fn chains_of<S: Simd>(rows: usize) -> usize {
    match rows {
        1 | 2 if S::ROWS >= 12 => 4,
        4 if S::ROWS >= 12 => 2,
        _ => 1,
    }
}

/// Adds the products of chunk `chunk` of a group of units, whose first column is `first`.
///
/// # Safety
/// `group` must be readable for the chunk's unit, `x` for a tile of `R` rows of the chunk's columns.
#[inline(always)]
unsafe fn multiply_chunk<S: Simd, L: Layout, const R: usize>(
    s: S,
    group: *const u8,
    chunk: usize,
    x: Rows,
    first: usize,
    total: &mut [S::V; R],
) {
    let of = const { L::INTEGERS };
    let (blocks, block_bytes) = (of.chunk() / of.block, of.codes_at(1) - of.codes_at(0));
    let in_unit = of.unit() / of.chunk();
    let first = first + chunk * of.chunk();
    let mut sums = [s.no_sums(); R];
    // SAFETY: the caller's promise; every block is within the unit.
    unsafe {
        let unit = group.add(chunk / in_unit * of.unit_bytes());
        for n in 0..blocks {
            let (b, column) = (chunk % in_unit * blocks + n, first + n * of.block);
            let codes = unit.add(of.codes_at(b));
            for line in (0..block_bytes).step_by(64) {
                s.prefetch(codes.wrapping_add(AHEAD + line));
            }
            let mut chains = [[s.no_sums(); R]; MOST_CHAINS];
            if of.centre != 0 {
                let at = sum_at(column / of.block, of.block);
                for r in 0..R {
                    let sum = *x.code_sums.add(at * R + r);
                    chains[0][r] = s.splat_sum(-i32::from(of.centre) * sum);
                }
            }
            let x_codes = x.codes.add(column / 2 * R);
            unrolled!(S, of.block / 2, n => {
                let weights = pair::<S, L>(s, codes, n, false);
                let products = &mut chains[n % chains_of::<S>(R)];
                for r in 0..R {
                    products[r] = s.add_products_at(products[r], weights, x_codes.add(n * R + r));
                }
            });
            let [mut products, others @ ..] = chains;
            for chain in others.into_iter().take(chains_of::<S>(R) - 1) {
                for r in 0..R {
                    products[r] = s.add_sums(products[r], chain[r]);
                }
            }
            if of.shared() {
                let factors = s.load_i8_sums(unit.add(of.factors_at(b)).cast());
                for r in 0..R {
                    sums[r] = s.multiply_sums(products[r], factors, sums[r]);
                }
            } else {
                sums = products;
            }
        }
        let scale = scales::<S, L>(s, unit);
        for r in 0..R {
            let x_scale = *x.scales.add(first / CHUNK * R + r);
            let scale = s.mul(scale, s.splat(x_scale));
            total[r] = s.fma(scale, s.sums(sums[r]), total[r]);
        }
    }
}

/// Adds what the minima of the first `blocks` blocks of a group of units make of the sums of `x`
/// from column `first` on.
///
/// # Safety
/// `group` must be readable for the blocks' units, `x` for a tile of `R` rows of the blocks' columns.
#[inline(always)]
unsafe fn add_minima<S: Simd, L: Layout, const R: usize>(
    s: S,
    group: *const u8,
    blocks: usize,
    x: Rows,
    first: usize,
    total: &mut [S::V; R],
) {
    let of = const { L::INTEGERS };
    let in_unit = of.unit() / of.block;
    for n in 0..blocks {
        // SAFETY: the caller's promise; the block is within its unit.
        unsafe {
            let unit = group.add(n / in_unit * of.unit_bytes());
            let minima = minima::<S, L>(s, unit, n % in_unit);
            let at = sum_at(first / of.block + n, of.block);
            for r in 0..R {
                let sum = *x.sums.add(at * R + r);
                total[r] = s.fma(minima, s.splat(sum), total[r]);
            }
        }
    }
}

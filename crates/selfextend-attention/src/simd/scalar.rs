//! Sixteen floats in plain Rust: the fallback of machines without a level of their own, and the
//! oracle of the others.

use super::vector::{Simd, WIDTH};
use half::f16;

/// Plain Rust.
#[derive(Clone, Copy)]
pub struct Scalar;

#[inline(always)]
fn zip(a: [f32; WIDTH], b: [f32; WIDTH], f: impl Fn(f32, f32) -> f32) -> [f32; WIDTH] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    type V = [f32; WIDTH];
    type I = [i32; WIDTH];
    type P = [[i16; 2]; WIDTH];
    const ROWS: usize = 6;
    const UNROLLED: bool = false;
    // What the others' instructions are compared with.
    const BYTES: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; WIDTH]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller promises 16 readable floats.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller promises 16 writable floats.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::V {
        // SAFETY: the caller promises 16 readable half floats.
        let halves = unsafe { p.cast::<[f16; WIDTH]>().read_unaligned() };
        halves.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::V) {
        // SAFETY: the caller promises 16 writable half floats.
        unsafe {
            p.cast::<[f16; WIDTH]>()
                .write_unaligned(v.map(f16::from_f32))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::V {
        // SAFETY: the caller promises 16 readable bytes.
        let bytes = unsafe { p.cast::<[i8; WIDTH]>().read_unaligned() };
        bytes.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const i8) -> Self::P {
        // SAFETY: the caller promises 32 readable bytes.
        let bytes = unsafe { p.cast::<[[i8; 2]; WIDTH]>().read_unaligned() };
        bytes.map(|pair| pair.map(i16::from))
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const i16) -> Self::P {
        // SAFETY: the caller promises 32 readable numbers.
        unsafe { p.cast::<Self::P>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut i16, pairs: Self::P) {
        // SAFETY: the caller promises 32 writable numbers.
        unsafe { p.cast::<Self::P>().write_unaligned(pairs) }
    }
    #[inline(never)]
    fn bits(self, pairs: Self::P, shift: i32, mask: i16) -> Self::P {
        let shifted = |x: i16| match shift {
            0.. => (x as u16 >> shift) as i16,
            _ => x << -shift,
        };
        pairs.map(|pair| pair.map(|x| shifted(x) & mask))
    }
    #[inline(never)]
    fn nibbles(self, pairs: Self::P, n: i32) -> Self::P {
        pairs.map(|pair| pair.map(|x| x << (12 - 4 * n) >> 12))
    }
    #[inline(never)]
    fn join(self, a: Self::P, b: Self::P) -> Self::P {
        std::array::from_fn(|i| [a[i][0] | b[i][0], a[i][1] | b[i][1]])
    }
    #[inline(never)]
    fn look_up(self, pairs: Self::P, shift: i32, table: &[i8; 16]) -> Self::P {
        pairs.map(|pair| pair.map(|x| i16::from(table[usize::from(x as u16 >> shift & 15)])))
    }
    #[inline(always)]
    unsafe fn load_powers(self, p: *const u8) -> Self::V {
        // SAFETY: the caller promises 16 readable bytes.
        let bytes = unsafe { p.cast::<[u8; WIDTH]>().read_unaligned() };
        bytes.map(|e| match e {
            // Below the smallest normal number.
            0..2 => f32::from_bits(0x0020_0000 << e),
            _ => f32::from_bits(u32::from(e - 1) << 23),
        })
    }
    #[inline(never)]
    fn weigh(self, pairs: Self::P, offset: i16, factors: Self::P) -> Self::P {
        let product = |x: i16, factor: i16| (x - offset).wrapping_mul(factor);
        std::array::from_fn(|i| {
            let ([x, y], [first, second]) = (pairs[i], factors[i]);
            [product(x, first), product(y, second)]
        })
    }
    #[inline(always)]
    unsafe fn load_twice(self, p: *const i8) -> Self::P {
        // SAFETY: the caller promises 16 readable bytes.
        let bytes = unsafe { p.cast::<[i8; WIDTH]>().read_unaligned() };
        bytes.map(|x| [i16::from(x); 2])
    }
    #[inline(always)]
    unsafe fn load_i8_sums(self, p: *const i8) -> Self::I {
        // SAFETY: the caller promises 16 readable bytes.
        let bytes = unsafe { p.cast::<[i8; WIDTH]>().read_unaligned() };
        bytes.map(i32::from)
    }
    #[inline(always)]
    fn splat_sum(self, x: i32) -> Self::I {
        [x; WIDTH]
    }
    #[inline(never)]
    fn add_sums(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] + b[i])
    }
    fn multiply_sums(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn unpair(self, pairs: Self::P) -> (Self::V, Self::V) {
        (
            pairs.map(|pair| f32::from(pair[0])),
            pairs.map(|pair| f32::from(pair[1])),
        )
    }
    #[inline(always)]
    fn no_sums(self) -> Self::I {
        [0; WIDTH]
    }
    #[inline(never)]
    fn add_products(self, sums: Self::I, pairs: Self::P, by: i32) -> Self::I {
        let (first, second) = (i32::from(by as i16), by >> 16);
        std::array::from_fn(|i| {
            sums[i] + i32::from(pairs[i][0]) * first + i32::from(pairs[i][1]) * second
        })
    }
    #[inline(always)]
    fn sums(self, sums: Self::I) -> Self::V {
        sums.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, v: Self::V) {
        let rounded = v.map(|x| x.round_ties_even() as i16);
        // SAFETY: the caller promises 16 writable numbers.
        unsafe { p.cast::<[i16; WIDTH]>().write_unaligned(rounded) }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Two roundings: a fused multiply-add in software would be a hundred times slower.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V {
        zip(a, n, |x, n| {
            f32::from_bits(x.to_bits().wrapping_add((n as i32 as u32) << 23))
        })
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::V, x: Self::V, limit: f32) -> Self::V {
        zip(a, x, |a, x| if x >= limit { a } else { 0.0 })
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        a.iter().sum()
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        a.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

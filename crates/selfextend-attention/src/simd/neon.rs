//! Sixteen floats in four NEON registers.

use super::vector::{Simd, WIDTH};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::arch::aarch64::*;

/// NEON, which every aarch64 machine has.
#[derive(Clone, Copy)]
pub struct Neon;

// SAFETY of every block below: NEON belongs to aarch64's base; loads and stores are unaligned
// ones, and the caller promises the memory.
impl Simd for Neon {
    type V = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    /// First numbers of the pairs, then second ones.
    type P = [[int16x8_t; 2]; 2];
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            [
                vld1q_f32(p),
                vld1q_f32(p.add(4)),
                vld1q_f32(p.add(8)),
                vld1q_f32(p.add(12)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::V {
        // `half` knows the conversion instructions; Rust's own intrinsics are not stable.
        let mut floats = [0f32; WIDTH];
        // SAFETY: see the impl; the array holds 16 floats.
        unsafe {
            p.cast::<[f16; WIDTH]>()
                .read_unaligned()
                .convert_to_f32_slice(&mut floats);
            self.load(floats.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::V) {
        let mut floats = [0f32; WIDTH];
        let mut halves = [f16::ZERO; WIDTH];
        // SAFETY: see the impl; the arrays hold 16.
        unsafe {
            self.store(floats.as_mut_ptr(), v);
            halves.convert_from_f32_slice(&floats);
            p.cast::<[f16; WIDTH]>().write_unaligned(halves);
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let bytes = vld1q_s8(p);
            let low = vmovl_s8(vget_low_s8(bytes));
            let high = vmovl_s8(vget_high_s8(bytes));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let int8x16x2_t(first, second) = vld2q_s8(p);
            let widen = |x| [vmovl_s8(vget_low_s8(x)), vmovl_s8(vget_high_s8(x))];
            [widen(first), widen(second)]
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const i16) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let (low, high) = (vld2q_s16(p), vld2q_s16(p.add(WIDTH)));
            [[low.0, high.0], [low.1, high.1]]
        }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut i16, pairs: Self::P) {
        let [first, second] = pairs;
        // SAFETY: see the impl.
        unsafe {
            vst2q_s16(p, int16x8x2_t(first[0], second[0]));
            vst2q_s16(p.add(WIDTH), int16x8x2_t(first[1], second[1]));
        }
    }
    #[inline(always)]
    fn bits(self, pairs: Self::P, shift: i32, mask: i16) -> Self::P {
        // SAFETY: see the impl. A count known when the loop is unrolled becomes an immediate.
        pairs.map(|numbers| {
            numbers.map(|x| unsafe {
                let shifted = vshlq_u16(vreinterpretq_u16_s16(x), vdupq_n_s16(-shift as i16));
                vandq_s16(vreinterpretq_s16_u16(shifted), vdupq_n_s16(mask))
            })
        })
    }
    #[inline(always)]
    fn nibbles(self, pairs: Self::P, n: i32) -> Self::P {
        // SAFETY: see the impl. As for `bits`; shifting back extends the sign.
        pairs.map(|numbers| {
            numbers
                .map(|x| unsafe { vshrq_n_s16::<12>(vshlq_s16(x, vdupq_n_s16(12 - 4 * n as i16))) })
        })
    }
    #[inline(always)]
    fn join(self, a: Self::P, b: Self::P) -> Self::P {
        // SAFETY: see the impl.
        std::array::from_fn(|i| std::array::from_fn(|j| unsafe { vorrq_s16(a[i][j], b[i][j]) }))
    }
    #[inline(always)]
    fn look_up(self, pairs: Self::P, shift: i32, table: &[i8; 16]) -> Self::P {
        // SAFETY: see the impl; the table is 16 bytes. One look-up finds a code of the lower byte of
        // each number and one of the upper: the compiler shares it between their two shifts.
        unsafe {
            let table = vld1q_s8(table.as_ptr());
            pairs.map(|numbers| {
                numbers.map(|x| {
                    let x = vreinterpretq_u16_s16(x);
                    let x = if shift & 4 == 0 {
                        x
                    } else {
                        vshrq_n_u16::<4>(x)
                    };
                    let codes = vandq_u8(vreinterpretq_u8_u16(x), vdupq_n_u8(15));
                    let values = vreinterpretq_s16_s8(vqtbl1q_s8(table, codes));
                    let upper = if shift < 8 {
                        vshlq_n_s16::<8>(values)
                    } else {
                        values
                    };
                    vshrq_n_s16::<8>(upper)
                })
            })
        }
    }
    #[inline(always)]
    unsafe fn load_powers(self, p: *const u8) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let bytes = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
            let quarters = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_u16(vget_high_u16(low)),
                vmovl_u16(vget_low_u16(high)),
                vmovl_u16(vget_high_u16(high)),
            ];
            quarters.map(|e| {
                let (e, one) = (vreinterpretq_s32_u32(e), vdupq_n_s32(1));
                let normal = vshlq_n_s32::<23>(vsubq_s32(e, one));
                // The larger one below the smallest normal number, the smaller one from there on.
                let subnormal = vshlq_n_s32::<21>(vaddq_s32(e, one));
                vreinterpretq_f32_s32(vmaxq_s32(normal, subnormal))
            })
        }
    }
    #[inline(always)]
    fn weigh(self, pairs: Self::P, offset: i16, factors: Self::P) -> Self::P {
        // SAFETY: see the impl.
        std::array::from_fn(|i| {
            std::array::from_fn(|j| unsafe {
                vmulq_s16(vsubq_s16(pairs[i][j], vdupq_n_s16(offset)), factors[i][j])
            })
        })
    }
    #[inline(always)]
    unsafe fn load_twice(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let bytes = vld1q_s8(p);
            [[vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))]; 2]
        }
    }
    #[inline(always)]
    unsafe fn load_i8_sums(self, p: *const i8) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            let [low, high] = self.load_twice(p)[0];
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_s16(vget_high_s16(low)),
                vmovl_s16(vget_low_s16(high)),
                vmovl_s16(vget_high_s16(high)),
            ]
        }
    }
    #[inline(always)]
    fn splat_sum(self, x: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    fn add_sums(self, a: Self::I, b: Self::I) -> Self::I {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vaddq_s32(a[i], b[i]) })
    }
    #[inline(always)]
    fn multiply_sums(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vmlaq_s32(c[i], a[i], b[i]) })
    }
    #[inline(always)]
    fn unpair(self, pairs: Self::P) -> (Self::V, Self::V) {
        // SAFETY: see the impl.
        unsafe {
            let floats = |[low, high]: [int16x8_t; 2]| {
                [
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                    vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                    vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
                ]
            };
            let [first, second] = pairs;
            (floats(first), floats(second))
        }
    }
    #[inline(always)]
    fn no_sums(self) -> Self::I {
        // SAFETY: see the impl.
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    fn add_products(self, mut sums: Self::I, pairs: Self::P, by: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            for (numbers, by) in pairs.into_iter().zip([by as i16, (by >> 16) as i16]) {
                for half in 0..2 {
                    let (low, high) = (vget_low_s16(numbers[half]), vget_high_s16(numbers[half]));
                    sums[2 * half] = vmlal_n_s16(sums[2 * half], low, by);
                    sums[2 * half + 1] = vmlal_n_s16(sums[2 * half + 1], high, by);
                }
            }
        }
        sums
    }
    #[inline(always)]
    fn sums(self, sums: Self::I) -> Self::V {
        // SAFETY: see the impl.
        unsafe { sums.map(|x| vcvtq_f32_s32(x)) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            let rounded = v.map(|x| vqmovn_s32(vcvtnq_s32_f32(x)));
            vst1q_s16(p, vcombine_s16(rounded[0], rounded[1]));
            vst1q_s16(p.add(8), vcombine_s16(rounded[2], rounded[3]));
        }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vaddq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vsubq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vmulq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vdivq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vmaxnmq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe { vrndnq_f32(a[i]) })
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe {
            let shift = vshlq_n_s32::<23>(vcvtnq_s32_f32(n[i]));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a[i]), shift))
        })
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::V, x: Self::V, limit: f32) -> Self::V {
        // SAFETY: see the impl.
        std::array::from_fn(|i| unsafe {
            let mask = vcgeq_f32(x[i], vdupq_n_f32(limit));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a[i]), mask))
        })
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(a[0], a[1]), vaddq_f32(a[2], a[3]))) }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[1]), vmaxq_f32(a[2], a[3]))) }
    }
}

//! Sixteen floats in two AVX2 registers.
//!
//! AVX-VNNI, which processors without AVX-512 have had since 2021, adds products of 16-bit pairs to
//! their sums in one instruction.

use super::vector::{Kernel, Simd};
use half::f16;
use std::arch::x86_64::*;

/// Proof that this machine has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof, where it can be given.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has.then_some(Self(()))
    }

    /// Runs a kernel compiled with these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn plain<const VNNI: bool, K: Kernel>(simd: Avx2<VNNI>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx2,avxvnni,fma,f16c")]
        fn vnni<const VNNI: bool, K: Kernel>(simd: Avx2<VNNI>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the machine has the features.
        unsafe {
            if VNNI {
                vnni(self, kernel)
            } else {
                plain(self, kernel)
            }
        }
    }
}

// SAFETY of every block below: `self` proves that the machine has the instructions; loads and
// stores are unaligned ones, and the caller promises the memory.
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type V = [__m256; 2];
    type I = [__m256i; 2];
    type P = [__m256i; 2];
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let p = p.cast::<__m128i>();
            [
                _mm256_cvtph_ps(_mm_loadu_si128(p)),
                _mm256_cvtph_ps(_mm_loadu_si128(p.add(1))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            let p = p.cast::<__m128i>();
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            // Two loads of half the bytes: cheaper than moving the upper half down.
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let p = p.cast::<__m128i>();
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(p)),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(1))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const i16) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let p = p.cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut i16, pairs: Self::P) {
        // SAFETY: see the impl.
        unsafe {
            let p = p.cast::<__m256i>();
            _mm256_storeu_si256(p, pairs[0]);
            _mm256_storeu_si256(p.add(1), pairs[1]);
        }
    }
    #[inline(always)]
    fn bits(self, pairs: Self::P, shift: i32, mask: i16) -> Self::P {
        // SAFETY: see the impl. A count known when the loop is unrolled becomes an immediate.
        unsafe {
            let (count, mask) = (_mm_cvtsi32_si128(shift.abs()), _mm256_set1_epi16(mask));
            let shifted = |x| match shift {
                0 => x,
                1.. => _mm256_srl_epi16(x, count),
                _ => _mm256_sll_epi16(x, count),
            };
            [
                _mm256_and_si256(shifted(pairs[0]), mask),
                _mm256_and_si256(shifted(pairs[1]), mask),
            ]
        }
    }
    #[inline(always)]
    fn nibbles(self, pairs: Self::P, n: i32) -> Self::P {
        // SAFETY: see the impl. As for `bits`; shifting back extends the sign.
        unsafe {
            let count = _mm_cvtsi32_si128(12 - 4 * n);
            pairs.map(|x| _mm256_srai_epi16::<12>(_mm256_sll_epi16(x, count)))
        }
    }
    #[inline(always)]
    fn join(self, a: Self::P, b: Self::P) -> Self::P {
        // SAFETY: see the impl.
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }
    #[inline(always)]
    fn look_up(self, pairs: Self::P, shift: i32, table: &[i8; 16]) -> Self::P {
        // SAFETY: see the impl; the table is 16 bytes. One shuffle looks up a code of the lower byte
        // of each number and one of the upper: the compiler shares it between their two shifts.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            let look_up = |x| {
                let x = if shift & 4 == 0 {
                    x
                } else {
                    _mm256_srli_epi16::<4>(x)
                };
                let codes = _mm256_and_si256(x, _mm256_set1_epi8(15));
                let values = _mm256_shuffle_epi8(table, codes);
                let upper = if shift < 8 {
                    _mm256_slli_epi16::<8>(values)
                } else {
                    values
                };
                _mm256_srai_epi16::<8>(upper)
            };
            [look_up(pairs[0]), look_up(pairs[1])]
        }
    }
    #[inline(always)]
    unsafe fn load_powers(self, p: *const u8) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let power = |p: *const u8| {
                let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
                let one = _mm256_set1_epi32(1);
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, one));
                // The larger one below the smallest normal number, the smaller one from there on.
                let subnormal = _mm256_slli_epi32::<21>(_mm256_add_epi32(e, one));
                _mm256_castsi256_ps(_mm256_max_epi32(normal, subnormal))
            };
            [power(p), power(p.add(8))]
        }
    }
    #[inline(always)]
    fn weigh(self, pairs: Self::P, offset: i16, factors: Self::P) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let offset = _mm256_set1_epi16(offset);
            [
                _mm256_mullo_epi16(_mm256_sub_epi16(pairs[0], offset), factors[0]),
                _mm256_mullo_epi16(_mm256_sub_epi16(pairs[1], offset), factors[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_twice(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let twice = |x| _mm256_blend_epi16::<0b10101010>(x, _mm256_slli_epi32::<16>(x));
            self.load_i8_sums(p).map(twice)
        }
    }
    #[inline(always)]
    unsafe fn load_i8_sums(self, p: *const i8) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            [
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast())),
            ]
        }
    }
    #[inline(always)]
    fn splat_sum(self, x: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    fn add_sums(self, a: Self::I, b: Self::I) -> Self::I {
        // SAFETY: see the impl.
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    fn multiply_sums(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            [
                _mm256_add_epi32(_mm256_mullo_epi32(a[0], b[0]), c[0]),
                _mm256_add_epi32(_mm256_mullo_epi32(a[1], b[1]), c[1]),
            ]
        }
    }
    #[inline(always)]
    fn unpair(self, pairs: Self::P) -> (Self::V, Self::V) {
        // SAFETY: see the impl. A shift to the left and back extends the sign of the lower half.
        unsafe {
            let first = |x| _mm256_cvtepi32_ps(_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(x)));
            let second = |x| _mm256_cvtepi32_ps(_mm256_srai_epi32::<16>(x));
            (
                [first(pairs[0]), first(pairs[1])],
                [second(pairs[0]), second(pairs[1])],
            )
        }
    }
    #[inline(always)]
    fn no_sums(self) -> Self::I {
        // SAFETY: see the impl.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn add_products(self, sums: Self::I, pairs: Self::P, by: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            let by = _mm256_set1_epi32(by);
            if VNNI {
                [
                    _mm256_dpwssd_avx_epi32(sums[0], pairs[0], by),
                    _mm256_dpwssd_avx_epi32(sums[1], pairs[1], by),
                ]
            } else {
                [
                    _mm256_add_epi32(sums[0], _mm256_madd_epi16(pairs[0], by)),
                    _mm256_add_epi32(sums[1], _mm256_madd_epi16(pairs[1], by)),
                ]
            }
        }
    }
    const BYTES: bool = VNNI;
    #[inline(always)]
    fn add_byte_products(self, sums: Self::I, quads: Self::P, by: i32) -> Self::I {
        if !VNNI {
            return self.add_bytes_in_pairs(sums, quads, by);
        }
        // SAFETY: see the impl. Of the two factors the first is taken as unsigned bytes.
        unsafe {
            let by = _mm256_set1_epi32(by);
            [
                _mm256_dpbusd_avx_epi32(sums[0], quads[0], by),
                _mm256_dpbusd_avx_epi32(sums[1], quads[1], by),
            ]
        }
    }
    #[inline(always)]
    fn sums(self, sums: Self::I) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])] }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            // Packing works in halves of registers; the permutation puts them in order.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            _mm256_storeu_si256(p.cast(), packed);
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: see the impl.
        unsafe {
            [
                _mm256_round_ps::<NEAREST>(a[0]),
                _mm256_round_ps::<NEAREST>(a[1]),
            ]
        }
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let shift = [
                _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[0])),
                _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[1])),
            ];
            [
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[0]), shift[0])),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[1]), shift[1])),
            ]
        }
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::V, x: Self::V, limit: f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let limit = _mm256_set1_ps(limit);
            [
                _mm256_and_ps(a[0], _mm256_cmp_ps::<_CMP_GE_OQ>(x[0], limit)),
                _mm256_and_ps(a[1], _mm256_cmp_ps::<_CMP_GE_OQ>(x[1], limit)),
            ]
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = _mm256_add_ps(a[0], a[1]);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = _mm256_max_ps(a[0], a[1]);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
}

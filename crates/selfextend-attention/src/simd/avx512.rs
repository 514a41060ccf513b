//! Sixteen floats in one AVX-512 register.
//!
//! The products of 16-bit pairs need AVX-512 BW, which every processor with AVX-512 F has had since
//! 2017; VNNI adds them to their sums in the same instruction.

use super::vector::{Kernel, Simd};
use half::f16;
use std::arch::{asm, x86_64::*};

/// Proof that this machine has AVX-512 F and BW (and AVX2, FMA, F16C), and VNNI if `VNNI`.
#[derive(Clone, Copy)]
pub struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// The proof, where it can be given.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && super::avx2::Avx2::<false>::detect().is_some()
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        has.then_some(Self(()))
    }

    /// Runs a kernel compiled with these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
        fn plain<const VNNI: bool, K: Kernel>(simd: Avx512<VNNI>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
        fn vnni<const VNNI: bool, K: Kernel>(simd: Avx512<VNNI>, kernel: K) -> K::Output {
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

/// `vpdpwssd`. Of a chain of its intrinsics the compiler makes `vpmaddwd` and `vpaddd` each: shorter,
/// but twice the instructions.
///
/// # Safety
/// `by` must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_products(mut sums: __m512i, pairs: __m512i, by: *const i32) -> __m512i {
    // SAFETY: the function's features promise the instruction, the caller the memory.
    unsafe {
        asm!(
            "vpdpwssd {sums}, {pairs}, dword ptr [{by}]{{1to16}}",
            sums = inout(zmm_reg) sums,
            pairs = in(zmm_reg) pairs,
            by = in(reg) by,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    sums
}

// SAFETY of every block below: `self` proves that the machine has the instructions; loads and
// stores are unaligned ones, and the caller promises the memory.
impl<const VNNI: bool> Simd for Avx512<VNNI> {
    type V = __m512;
    type I = __m512i;
    type P = __m512i;
    const ROWS: usize = 12;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::V) {
        // SAFETY: see the impl.
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            _mm256_storeu_si256(p.cast(), halves);
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const i16) -> Self::P {
        // SAFETY: see the impl.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut i16, pairs: Self::P) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_si512(p.cast(), pairs) }
    }
    #[inline(always)]
    fn bits(self, pairs: Self::P, shift: i32, mask: i16) -> Self::P {
        // SAFETY: see the impl. A count known when the loop is unrolled becomes an immediate.
        unsafe {
            let count = _mm_cvtsi32_si128(shift.abs());
            let shifted = match shift {
                0 => pairs,
                1.. => _mm512_srl_epi16(pairs, count),
                _ => _mm512_sll_epi16(pairs, count),
            };
            _mm512_and_si512(shifted, _mm512_set1_epi16(mask))
        }
    }
    #[inline(always)]
    fn nibbles(self, pairs: Self::P, n: i32) -> Self::P {
        // SAFETY: see the impl. As for `bits`; shifting back extends the sign.
        unsafe {
            let raised = _mm512_sll_epi16(pairs, _mm_cvtsi32_si128(12 - 4 * n));
            _mm512_srai_epi16::<12>(raised)
        }
    }
    #[inline(always)]
    fn join(self, a: Self::P, b: Self::P) -> Self::P {
        // SAFETY: see the impl.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn look_up(self, pairs: Self::P, shift: i32, table: &[i8; 16]) -> Self::P {
        // SAFETY: see the impl; the table is 16 bytes. The permutation reads five bits of each
        // number: the table is there twice, so the fifth, which belongs to another code, does not
        // matter.
        unsafe {
            let table = _mm256_cvtepi8_epi16(_mm_loadu_si128(table.as_ptr().cast()));
            let shifted = match shift {
                0 => pairs,
                _ => _mm512_srl_epi16(pairs, _mm_cvtsi32_si128(shift)),
            };
            _mm512_permutexvar_epi16(shifted, _mm512_broadcast_i64x4(table))
        }
    }
    #[inline(always)]
    unsafe fn load_powers(self, p: *const u8) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let one = _mm512_set1_epi32(1);
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, one));
            // The larger one below the smallest normal number, the smaller one from there on.
            let subnormal = _mm512_slli_epi32::<21>(_mm512_add_epi32(e, one));
            _mm512_castsi512_ps(_mm512_max_epi32(normal, subnormal))
        }
    }
    #[inline(always)]
    fn weigh(self, pairs: Self::P, offset: i16, factors: Self::P) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let centred = _mm512_sub_epi16(pairs, _mm512_set1_epi16(offset));
            _mm512_mullo_epi16(centred, factors)
        }
    }
    #[inline(always)]
    unsafe fn load_twice(self, p: *const i8) -> Self::P {
        // SAFETY: see the impl.
        unsafe {
            let x = self.load_i8_sums(p);
            _mm512_mask_blend_epi16(0xaaaa_aaaa, x, _mm512_slli_epi32::<16>(x))
        }
    }
    #[inline(always)]
    unsafe fn load_i8_sums(self, p: *const i8) -> Self::I {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    fn splat_sum(self, x: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn add_sums(self, a: Self::I, b: Self::I) -> Self::I {
        // SAFETY: see the impl.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn multiply_sums(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        // SAFETY: see the impl.
        unsafe { _mm512_add_epi32(_mm512_mullo_epi32(a, b), c) }
    }
    #[inline(always)]
    fn unpair(self, pairs: Self::P) -> (Self::V, Self::V) {
        // SAFETY: see the impl. A shift to the left and back extends the sign of the lower half.
        unsafe {
            let first = _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pairs));
            let second = _mm512_srai_epi32::<16>(pairs);
            (_mm512_cvtepi32_ps(first), _mm512_cvtepi32_ps(second))
        }
    }
    #[inline(always)]
    fn no_sums(self) -> Self::I {
        // SAFETY: see the impl.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn add_products(self, sums: Self::I, pairs: Self::P, by: i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            let by = _mm512_set1_epi32(by);
            if VNNI {
                _mm512_dpwssd_epi32(sums, pairs, by)
            } else {
                _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, by))
            }
        }
    }
    #[inline(always)]
    unsafe fn add_products_at(self, sums: Self::I, pairs: Self::P, by: *const i32) -> Self::I {
        // SAFETY: see the impl.
        unsafe {
            if VNNI {
                add_products(sums, pairs, by)
            } else {
                self.add_products(sums, pairs, by.read_unaligned())
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
        unsafe { _mm512_dpbusd_epi32(sums, quads, _mm512_set1_epi32(by)) }
    }
    #[inline(always)]
    fn sums(self, sums: Self::I) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, p: *mut i16, v: Self::V) {
        // SAFETY: see the impl.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v))) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // SAFETY: see the impl. The immediate 8 is "nearest even, no exceptions, scale 0".
        unsafe { _mm512_roundscale_ps::<8>(a) }
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let shift = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shift))
        }
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::V, x: Self::V, limit: f32) -> Self::V {
        // SAFETY: see the impl.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(limit));
            _mm512_maskz_mov_ps(mask, a)
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        // SAFETY: see the impl.
        unsafe { _mm512_reduce_max_ps(a) }
    }
}

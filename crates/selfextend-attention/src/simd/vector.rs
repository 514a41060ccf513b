//! The interface of a vector of sixteen floats, and of the numbers that load into one.

use half::f16;

/// Width of every vector and of a key panel, in floats.
pub const WIDTH: usize = 16;

/// Sixteen floats at a time. A value of an implementing type is proof that this machine has the
/// instructions, so the arithmetic is safe; only memory access is not.
pub trait Simd: Copy + Send + Sync {
    /// Sixteen floats.
    type V: Copy;
    /// Sixteen 32-bit sums.
    type I: Copy;
    /// Sixteen pairs of 16-bit numbers.
    type P: Copy;
    /// How many rows a micro-kernel can hold, with one vector of accumulators each.
    const ROWS: usize;
    /// Whether short inner loops are written out: see `unrolled` in `linear/products.rs`.
    const UNROLLED: bool = true;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Reads 16 floats.
    ///
    /// # Safety
    /// `p` must be readable for 16 floats; alignment is not needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes 16 floats.
    ///
    /// # Safety
    /// `p` must be writable for 16 floats; alignment is not needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads 16 half floats.
    ///
    /// # Safety
    /// `p` must be readable for 16 half floats; alignment is not needed.
    unsafe fn load_f16(self, p: *const f16) -> Self::V;
    /// Rounds to nearest even and writes 16 half floats.
    ///
    /// # Safety
    /// `p` must be writable for 16 half floats; alignment is not needed.
    unsafe fn store_f16(self, p: *mut f16, v: Self::V);
    /// Reads 16 signed bytes.
    ///
    /// # Safety
    /// `p` must be readable for 16 bytes.
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// Reads 16 pairs of signed bytes.
    ///
    /// # Safety
    /// `p` must be readable for 32 bytes.
    unsafe fn load_pairs(self, p: *const i8) -> Self::P;
    /// Reads 16 pairs of 16-bit numbers.
    ///
    /// # Safety
    /// `p` must be readable for 32 numbers; alignment is not needed.
    unsafe fn load_words(self, p: *const i16) -> Self::P;
    /// Writes 16 pairs of 16-bit numbers.
    ///
    /// # Safety
    /// `p` must be writable for 32 numbers; alignment is not needed.
    unsafe fn store_words(self, p: *mut i16, pairs: Self::P);
    /// `(x >> shift) & mask` of each number as unsigned bits; a negative shift goes to the left.
    fn bits(self, pairs: Self::P, shift: i32, mask: i16) -> Self::P;
    /// Four bits of each number, the lowest for `n` = 0, as a signed number.
    fn nibbles(self, pairs: Self::P, n: i32) -> Self::P;
    /// `a | b`.
    fn join(self, a: Self::P, b: Self::P) -> Self::P;
    /// `table[(x >> shift) & 15]` of each number as unsigned bits; `shift` is 0, 4, 8 or 12.
    fn look_up(self, pairs: Self::P, shift: i32, table: &[i8; 16]) -> Self::P;
    /// Reads 16 bytes `e` as `2^(e - 128)`.
    ///
    /// # Safety
    /// `p` must be readable for 16 bytes.
    unsafe fn load_powers(self, p: *const u8) -> Self::V;
    /// `(x - offset) * factor` of each number, in 16 bits.
    fn weigh(self, pairs: Self::P, offset: i16, factors: Self::P) -> Self::P;
    /// Reads 16 signed bytes, each as both numbers of a pair.
    ///
    /// # Safety
    /// `p` must be readable for 16 bytes.
    unsafe fn load_twice(self, p: *const i8) -> Self::P;
    /// Reads 16 signed bytes.
    ///
    /// # Safety
    /// `p` must be readable for 16 bytes.
    unsafe fn load_i8_sums(self, p: *const i8) -> Self::I;
    /// All sums `x`.
    fn splat_sum(self, x: i32) -> Self::I;
    /// `a + b`, which must not overflow.
    fn add_sums(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a * b + c`, which must not overflow.
    fn multiply_sums(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I;
    /// The first numbers of the pairs as floats, and the second ones.
    fn unpair(self, pairs: Self::P) -> (Self::V, Self::V);
    /// Sums of zero.
    fn no_sums(self) -> Self::I;
    /// Adds to each sum the products of its pair with `by`, whose lower half meets the pair's first
    /// number. The sums must not overflow.
    fn add_products(self, sums: Self::I, pairs: Self::P, by: i32) -> Self::I;
    /// [`Simd::add_products`] with the number at `by`, in an unrolled chain of them.
    ///
    /// # Safety
    /// `by` must be readable; it need not be aligned.
    #[inline(always)]
    unsafe fn add_products_at(self, sums: Self::I, pairs: Self::P, by: *const i32) -> Self::I {
        // SAFETY: the caller's promise.
        self.add_products(sums, pairs, unsafe { by.read_unaligned() })
    }
    /// Whether many rows are multiplied with [`Simd::add_byte_products`] where they can be.
    const BYTES: bool = false;
    /// Reads 16 quads of unsigned bytes, as [`Simd::add_byte_products`] takes them.
    ///
    /// # Safety
    /// `p` must be readable for 64 bytes; alignment is not needed.
    #[inline(always)]
    unsafe fn load_quads(self, p: *const u8) -> Self::P {
        // SAFETY: the caller's promise.
        unsafe { self.load_words(p.cast()) }
    }
    /// Adds to each sum the products of its quad of unsigned bytes with the four signed bytes of
    /// `by`, of which the lowest meets the quad's first. The sums must not overflow.
    #[inline(always)]
    fn add_byte_products(self, sums: Self::I, quads: Self::P, by: i32) -> Self::I {
        self.add_bytes_in_pairs(sums, quads, by)
    }
    /// [`Simd::add_byte_products`] of quads that [`Simd::load_words`] read, by products of pairs.
    #[inline(always)]
    fn add_bytes_in_pairs(self, sums: Self::I, quads: Self::P, by: i32) -> Self::I {
        let [a, b, c, d] = by.to_le_bytes().map(|byte| i32::from(byte as i8));
        let pair = |low: i32, high: i32| low & 0xffff | high << 16;
        let sums = self.add_products(sums, self.bits(quads, 0, 0xff), pair(a, c));
        self.add_products(sums, self.bits(quads, 8, 0xff), pair(b, d))
    }
    /// The sums as floats.
    fn sums(self, sums: Self::I) -> Self::V;
    /// Rounds numbers of at most 32767 to the nearest and writes 16 of 16 bits.
    ///
    /// # Safety
    /// `p` must be writable for 16 numbers of 16 bits.
    unsafe fn store_i16(self, p: *mut i16, v: Self::V);
    /// Prefetches the cache line at `p`, which may be any address, into the second-level cache.
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        let _ = p;
    }
    /// `a * b + c`.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each lane; that of `b` where `a` is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer of each lane, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for integral `n` with a normal result.
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V;
    /// `a` where `x >= limit`, else zero (also where `x` is not a number).
    fn keep_at_least(self, a: Self::V, x: Self::V, limit: f32) -> Self::V;
    /// Sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane.
    fn max_lane(self, a: Self::V) -> f32;

    /// `2^x` to about one unit in the last place for `x <= 127`; exactly zero below -125.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        // Minimax polynomial of 2^f on [-1/2, 1/2] (Remez exchange on the relative error, 1.9e-9).
        const C: [f32; 7] = [
            1.0,
            6.931_472e-1,
            2.402_264_7e-1,
            5.550_328_8e-2,
            9.618_489e-3,
            1.339_993_1e-3,
            1.534_581_2e-4,
        ];
        let n = self.round(x);
        let f = self.sub(x, n);
        let mut p = self.splat(C[6]);
        p = self.fma(p, f, self.splat(C[5]));
        p = self.fma(p, f, self.splat(C[4]));
        p = self.fma(p, f, self.splat(C[3]));
        p = self.fma(p, f, self.splat(C[2]));
        p = self.fma(p, f, self.splat(C[1]));
        p = self.fma(p, f, self.splat(C[0]));
        self.keep_at_least(self.scale_by_power(p, n), x, -125.0)
    }
}

/// A number in memory that loads as a float.
pub trait Load: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// Reads 16 of them.
    ///
    /// # Safety
    /// `p` must be readable for 16 elements.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
}

/// A float of some width, which floats are rounded to.
pub trait Element: Load {
    /// Rounds a slice; both have the same length.
    fn from_slice(from: &[f32], to: &mut [Self]);
    /// Rounds and writes 16 of them.
    ///
    /// # Safety
    /// `p` must be writable for 16 elements.
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V);
}

impl Load for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller's promise is the callee's.
        unsafe { s.load(p) }
    }
}

impl Load for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller's promise is the callee's.
        unsafe { s.load_f16(p) }
    }
}

impl Load for half::bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller's promise is that of the read; 16 floats of the array are loaded.
        unsafe {
            let some: [Self; WIDTH] = p.cast::<[Self; WIDTH]>().read_unaligned();
            // The upper half of a float's bits.
            let floats = some.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16));
            s.load(floats.as_ptr())
        }
    }
}

impl Load for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller's promise is the callee's.
        unsafe { s.load_i8(p) }
    }
}

impl Element for f32 {
    fn from_slice(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V) {
        // SAFETY: the caller's promise is the callee's.
        unsafe { s.store(p, v) }
    }
}

impl Element for f16 {
    fn from_slice(from: &[f32], to: &mut [Self]) {
        half::slice::HalfFloatSliceExt::convert_from_f32_slice(to, from);
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V) {
        // SAFETY: the caller's promise is the callee's.
        unsafe { s.store_f16(p, v) }
    }
}

/// Code generic over the vector type. `run` must be `#[inline(always)]`, and call no closure in
/// its hot loops: only inlined code is compiled with the wider instructions.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Whether products of integers are most of its work: it is then compiled for the instructions
    /// that only those gain from, too.
    const INTEGERS: bool = false;
    /// The code.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

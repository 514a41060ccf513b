//! Instruction sets, and the choice of one at run time.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::scalar;
use super::vector::Kernel;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use std::sync::OnceLock;

/// The instruction sets kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust, on any machine.
    Scalar,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2, FMA, F16C and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni,
    /// AVX-512 F and BW.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 F, BW and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// The levels this machine has, slowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)]
        let mut levels = vec![Level::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::Avx2::<false>::detect().is_some() {
                levels.push(Level::Avx2);
            }
            if avx2::Avx2::<true>::detect().is_some() {
                levels.push(Level::Avx2Vnni);
            }
            if avx512::Avx512::<false>::detect().is_some() {
                levels.push(Level::Avx512);
            }
            if avx512::Avx512::<true>::detect().is_some() {
                levels.push(Level::Avx512Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Level::Neon);
        levels
    }

    /// Whether kernels for many rows multiply activations of bytes as such.
    pub fn has_bytes(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Vnni | Level::Avx512Vnni => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The fastest level of this machine, found once.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Level::available().pop().unwrap_or(Level::Scalar))
    }
}

/// Runs a kernel with the best instructions of this machine.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_at(Level::best(), kernel)
}

/// Runs a kernel at a level, which must be one of [`Level::available`] (else plain Rust runs).
pub fn dispatch_at<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        Level::Scalar => plain(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2Vnni if K::INTEGERS => match avx2::Avx2::<true>::detect() {
            Some(simd) => simd.run(kernel),
            None => plain(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx2Vnni => match avx2::Avx2::<false>::detect() {
            Some(simd) => simd.run(kernel),
            None => plain(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni if K::INTEGERS => match avx512::Avx512::<true>::detect() {
            Some(simd) => simd.run(kernel),
            None => plain(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vnni => match avx512::Avx512::<false>::detect() {
            Some(simd) => simd.run(kernel),
            None => plain(kernel),
        },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run(neon::Neon),
    }
}

/// Runs a kernel in plain Rust. Inlined into [`dispatch_at`], it would be there five times.
#[inline(never)]
fn plain<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(scalar::Scalar)
}

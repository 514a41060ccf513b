//! Vector instructions behind one small interface, with the instruction set chosen once at run time.
//!
//! Kernels are written once, generic over [`Simd`], whose vector is always 16 floats wide: two
//! AVX2 registers, one AVX-512 register, four NEON registers or a plain array. [`dispatch`] runs
//! a kernel compiled for the best level this machine has. All `unsafe` of the CPU is in this
//! folder; every kernel is compared with safe scalar code by the tests beside it.

// Accumulators of a micro-kernel are indexed in loops of constant length, which the compiler
// unrolls into registers.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod elementwise;
pub mod kernels;
mod level;
pub mod linear;
pub mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod vector;

pub use level::{Level, dispatch, dispatch_at};
pub use vector::{Element, Kernel, Load, Simd, WIDTH};

#[cfg(test)]
mod tests;

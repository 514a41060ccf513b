//! AMX: products of tiles of bytes, 16 rows with 16 rows over up to 64 columns in one instruction.
//!
//! Rust has no stable intrinsics for it, so this is assembly. The compiler never uses tiles: what they
//! hold stays between two blocks of assembly, and every block loads what it multiplies.

use super::vector::Halves;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// `arch_prctl` and what is asked of it: to let this process use a state, here that of tiles.
const ARCH_PRCTL: u64 = 158;
const REQUEST_PERMISSION: u64 = 0x1023;
const TILE_DATA: u64 = 18;

/// Whether the processor has AMX for bytes and the system lets this process use it. Found once.
pub fn detect() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // Leaf 7, EDX: tiles and products of bytes.
        let has = 1 << 24 | 1 << 25;
        // SAFETY: every x86-64 processor has the instruction; leaf 0 says whether there is leaf 7.
        // Newer compilers know that it is safe.
        #[allow(unused_unsafe)]
        let found = unsafe { __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx & has == has };
        found && request_permission()
    })
}

/// Asks Linux for the tiles' state. A kernel that knows no such request refuses it.
fn request_permission() -> bool {
    if !cfg!(target_os = "linux") {
        return false;
    }
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that reads and writes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Makes this thread's tiles 0 to 2 sums, 4 and 5 activations, 6 and 7 weights of `columns` columns.
///
/// # Safety
/// [`detect`] must have found AMX; `columns` is a multiple of 4, at most 64.
pub unsafe fn configure(columns: usize) {
    let mut config = Config {
        palette: 1,
        start: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    for tile in [0, 1, 2, 4, 5, 6, 7] {
        (config.row_bytes[tile], config.rows[tile]) = (64, 16);
    }
    for tile in [4, 5] {
        config.row_bytes[tile] = columns as u16;
    }
    for tile in [6, 7] {
        config.rows[tile] = (columns / 4) as u8;
    }
    // SAFETY: the caller's promise; the configuration is one that palette 1 allows.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack)) }
}

/// Gives this thread's tiles back, so that the system need not save them.
///
/// # Safety
/// [`detect`] must have found AMX.
pub unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// [`super::Simd::multiply_halves`].
///
/// # Safety
/// As there; and [`configure`] must have been called for as many columns.
#[inline(always)]
pub unsafe fn multiply(x: Halves, weights: Halves, sums: *mut i32) {
    // SAFETY: the caller's promise: tiles read 16 rows of 64 bytes at most, and write 16 of 64 bytes.
    unsafe {
        if x.low.is_null() {
            asm!(
                "tileloadd tmm4, [{x} + {stride}*1]",
                "tileloadd tmm6, [{high} + {stride}*1]",
                "tileloadd tmm7, [{low} + {stride}*1]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbsud tmm1, tmm4, tmm7",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + 1024], tmm1",
                x = in(reg) x.high,
                high = in(reg) weights.high,
                low = in(reg) weights.low,
                sums = in(reg) sums,
                stride = in(reg) 64u64,
                options(nostack),
            );
        } else {
            asm!(
                "tileloadd tmm4, [{x} + {stride}*1]",
                "tileloadd tmm6, [{high} + {stride}*1]",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{low} + {stride}*1]",
                "tilezero tmm1",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x_low} + {stride}*1]",
                "tilezero tmm2",
                "tdpbuud tmm2, tmm5, tmm7",
                "tdpbusd tmm1, tmm5, tmm6",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + 2048], tmm2",
                "tilestored [{sums} + {stride}*1 + 1024], tmm1",
                x = in(reg) x.high,
                x_low = in(reg) x.low,
                high = in(reg) weights.high,
                low = in(reg) weights.low,
                sums = in(reg) sums,
                stride = in(reg) 64u64,
                options(nostack),
            );
        }
    }
}

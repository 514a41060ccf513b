//! Panels of plain numbers against float activations.

use super::format::PanelFormat;
use crate::simd::vector::{Load, Simd, WIDTH};
use half::{bf16, f16};

/// Products of 16 weight rows with `R` rows of activations: `out[r][lane]`, `x` `[R][columns]`.
///
/// # Panics
/// When a slice is too short or the format is quantised.
#[inline(always)]
pub fn multiply_panel<S: Simd, const R: usize>(
    s: S,
    format: PanelFormat,
    panel: &[u8],
    columns: usize,
    x: &[f32],
) -> [S::V; R] {
    assert!(panel.len() >= format.panel_bytes(columns) && x.len() >= R * columns);
    let (p, x) = (panel.as_ptr(), x.as_ptr());
    // SAFETY: the assertion covers `R` rows of all columns.
    unsafe {
        match format {
            PanelFormat::F32 => dense::<S, f32, R>(s, p.cast(), columns, x),
            PanelFormat::F16 => dense::<S, f16, R>(s, p.cast(), columns, x),
            PanelFormat::BF16 => dense::<S, bf16, R>(s, p.cast(), columns, x),
            _ => panic!("{format:?} is quantised"),
        }
    }
}

/// # Safety
/// Readable: `columns * 16` elements of `p`, `R * columns` floats of `x`.
#[inline(always)]
unsafe fn dense<S: Simd, E: Load, const R: usize>(
    s: S,
    p: *const E,
    columns: usize,
    x: *const f32,
) -> [S::V; R] {
    // Even and odd columns apart: one chain of additions alone would wait for itself.
    let mut even = [s.splat(0.0); R];
    let mut odd = [s.splat(0.0); R];
    // SAFETY: c < columns and r < R.
    unsafe {
        for c in (0..columns & !1).step_by(2) {
            let first = E::load(s, p.add(c * WIDTH));
            let second = E::load(s, p.add((c + 1) * WIDTH));
            for r in 0..R {
                even[r] = s.fma(s.splat(*x.add(r * columns + c)), first, even[r]);
                odd[r] = s.fma(s.splat(*x.add(r * columns + c + 1)), second, odd[r]);
            }
        }
        if columns % 2 == 1 {
            let last = E::load(s, p.add((columns - 1) * WIDTH));
            for r in 0..R {
                even[r] = s.fma(s.splat(*x.add(r * columns + columns - 1)), last, even[r]);
            }
        }
    }
    for r in 0..R {
        even[r] = s.add(even[r], odd[r]);
    }
    even
}

/// Widens a panel to floats: `out[column][lane]`.
///
/// # Panics
/// When a slice is too short or the format is quantised.
#[inline(always)]
pub fn widen_panel<S: Simd>(
    s: S,
    format: PanelFormat,
    panel: &[u8],
    columns: usize,
    out: &mut [f32],
) {
    assert!(panel.len() >= format.panel_bytes(columns) && out.len() >= columns * WIDTH);
    let (p, out) = (panel.as_ptr(), out.as_mut_ptr());
    // SAFETY: the assertion covers every column of the panel and of the output.
    unsafe {
        match format {
            PanelFormat::F32 => widen_columns::<S, f32>(s, p.cast(), columns, out),
            PanelFormat::F16 => widen_columns::<S, f16>(s, p.cast(), columns, out),
            PanelFormat::BF16 => widen_columns::<S, bf16>(s, p.cast(), columns, out),
            _ => panic!("{format:?} is quantised"),
        }
    }
}

/// # Safety
/// Readable: `columns * 16` elements of `p`; writable: as many floats of `out`.
#[inline(always)]
unsafe fn widen_columns<S: Simd, E: Load>(s: S, p: *const E, columns: usize, out: *mut f32) {
    for c in (0..columns * WIDTH).step_by(WIDTH) {
        // SAFETY: c is below the number of elements.
        unsafe { s.store(out.add(c), E::load(s, p.add(c))) };
    }
}

//! Weight matrices in panels of 16 rows, and their products with float activations.
//!
//! A panel holds 16 output rows side by side, so one activation is broadcast against 16 weights
//! and no sum crosses lanes. Quantised panels keep the file's own numbers (block size 32): the
//! product of a row is `sum over blocks of scale * (codes · x) + minimum * sum(x)`, with float32
//! activations throughout. Every ggml format with blocks of 32 fits one of these:
//!
//! | panel | from |
//! |---|---|
//! | `F32`, `F16`, `BF16` | F32, F16, BF16 |
//! | `I8 { minimum: false }` | Q8_0, Q5_0 |
//! | `I8 { minimum: true }` | Q5_1 |
//! | `U4` | Q4_1, Q4_0 (whose minimum is -8 times its scale, exactly) |
//! | `U4Wide`, `I8Wide` | Q4_K, Q5_K: their scales are products, exact in floats |
//! | `I8Short` | Q3_K, Q6_K: a scale for each 16 columns |

use super::vector::{Load, Simd, WIDTH};
use half::{bf16, f16};

/// Columns that share a scale in quantised panels.
pub const BLOCK: usize = 32;

/// How the weights of a panel are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelFormat {
    /// `[column][16]` floats.
    F32,
    /// `[column][16]` half floats.
    F16,
    /// Per block of 32 columns: 16 scales, 16 minima where there are any (half floats), then
    /// `[column][16]` signed bytes.
    I8 {
        /// Whether blocks have minima.
        minimum: bool,
    },
    /// Per block of 32 columns: 16 scales and 16 minima (half floats), then `[16][16]` bytes of
    /// which byte `[c][lane]` holds column `c` in its low half and column `c + 16` in its high.
    U4,
    /// `[column][16]` floats without the lower half of their bits.
    BF16,
    /// As [`PanelFormat::U4`], with floats as scales and minima.
    U4Wide,
    /// As [`PanelFormat::I8`] with minima, with floats as scales and minima.
    I8Wide,
    /// Per block of 16 columns: 16 scales (floats), then `[column][16]` signed bytes.
    I8Short,
}

impl PanelFormat {
    /// Columns in its unit of storage.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::I8 { .. } | Self::U4 | Self::U4Wide | Self::I8Wide => BLOCK,
            Self::I8Short => BLOCK / 2,
        }
    }

    /// Bytes of a unit of storage: 16 rows of [`PanelFormat::block`] columns.
    pub fn block_bytes(self) -> usize {
        let (half, float) = (size_of::<f16>(), size_of::<f32>());
        match self {
            Self::F32 => WIDTH * float,
            Self::F16 | Self::BF16 => WIDTH * half,
            Self::U4Wide => WIDTH * (2 * float + BLOCK / 2),
            Self::I8Wide => WIDTH * (2 * float + BLOCK),
            Self::I8Short => WIDTH * (float + BLOCK / 2),
            Self::I8 { minimum } => WIDTH * (half * (1 + usize::from(minimum)) + BLOCK),
            Self::U4 => WIDTH * (2 * half + BLOCK / 2),
        }
    }

    /// Whether products need the sums of blocks.
    fn has_minimum(self) -> bool {
        matches!(
            self,
            Self::I8 { minimum: true } | Self::U4 | Self::U4Wide | Self::I8Wide
        )
    }

    /// Bytes of a panel of `columns` columns.
    ///
    /// # Panics
    /// When `columns` is not a multiple of the block.
    pub fn panel_bytes(self, columns: usize) -> usize {
        assert!(columns.is_multiple_of(self.block()));
        columns / self.block() * self.block_bytes()
    }
}

/// Sums of each block of 32 columns, which blocks with minima need.
pub fn block_sums(x: &[f32], sums: &mut Vec<f32>) {
    sums.clear();
    sums.extend(x.chunks(BLOCK).map(|block| block.iter().sum::<f32>()));
}

/// Row `n` of the scales at the start of a block.
///
/// # Safety
/// `p` must be readable for `n + 1` rows of 16 numbers.
#[inline(always)]
unsafe fn scales<S: Simd, E: Load>(s: S, p: *const u8, n: usize) -> S::V {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe { E::load(s, p.add(n * WIDTH * size_of::<E>()).cast()) }
}

/// Products of 16 weight rows with `R` rows of activations: `out[r][lane]`.
///
/// `x` is `[R][columns]`, `sums` its [`block_sums`] (`[R][columns / 32]`; unused by formats
/// without minima), `out` `[R][16]` with a row distance of `stride`.
///
/// # Panics
/// When a slice is too short or `columns` is not a multiple of the format's block.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn multiply_panel<S: Simd, const R: usize>(
    s: S,
    format: PanelFormat,
    panel: &[u8],
    columns: usize,
    x: &[f32],
    sums: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let blocks = columns / format.block();
    assert!(panel.len() >= format.panel_bytes(columns) && x.len() >= R * columns);
    assert!(!format.has_minimum() || sums.len() >= R * blocks);
    assert!(R == 0 || out.len() >= (R - 1) * stride + WIDTH);
    let (p, x, sums) = (panel.as_ptr(), x.as_ptr(), sums.as_ptr());
    // SAFETY: the assertions cover `R` rows of all columns and blocks and every output row.
    unsafe {
        let total = match format {
            PanelFormat::F32 => dense::<S, f32, R>(s, p.cast(), columns, x),
            PanelFormat::F16 => dense::<S, f16, R>(s, p.cast(), columns, x),
            PanelFormat::BF16 => dense::<S, bf16, R>(s, p.cast(), columns, x),
            PanelFormat::I8 { minimum: false } => {
                bytes::<S, f16, R, BLOCK, false>(s, p, columns, x, sums)
            }
            PanelFormat::I8 { minimum: true } => {
                bytes::<S, f16, R, BLOCK, true>(s, p, columns, x, sums)
            }
            PanelFormat::I8Wide => bytes::<S, f32, R, BLOCK, true>(s, p, columns, x, sums),
            PanelFormat::I8Short => bytes::<S, f32, R, SHORT, false>(s, p, columns, x, sums),
            PanelFormat::U4 => nibbles::<S, f16, R>(s, p, columns, x, sums),
            PanelFormat::U4Wide => nibbles::<S, f32, R>(s, p, columns, x, sums),
        };
        for (r, total) in total.into_iter().enumerate() {
            s.store(out.as_mut_ptr().add(r * stride), total);
        }
    }
}

/// Columns of a short block.
const SHORT: usize = BLOCK / 2;

/// How many bytes the prefetch runs ahead of what is being read: the processor's own prefetching
/// stops at the end of each page of 4096 bytes.
const AHEAD: usize = 2048;

/// Prefetches a block's bytes further on. Past the end of the weights this is harmless.
#[inline(always)]
fn ahead<S: Simd>(s: S, block: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        s.prefetch(block.wrapping_add(AHEAD + line));
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

/// # Safety
/// Readable: `columns / COLUMNS` blocks of `p`, `R * columns` floats of `x`, as many block sums
/// where there is a minimum.
#[inline(always)]
unsafe fn bytes<S: Simd, E: Load, const R: usize, const COLUMNS: usize, const MINIMUM: bool>(
    s: S,
    p: *const u8,
    columns: usize,
    x: *const f32,
    sums: *const f32,
) -> [S::V; R] {
    let numbers = WIDTH * size_of::<E>() * (1 + usize::from(MINIMUM));
    let (bytes, blocks) = (numbers + COLUMNS * WIDTH, columns / COLUMNS);
    let mut total = [s.splat(0.0); R];
    for b in 0..blocks {
        // SAFETY: b < blocks, c < COLUMNS, r < R.
        unsafe {
            let block = p.add(b * bytes);
            ahead(s, block, bytes);
            let codes = block.add(numbers);
            let (mut even, mut odd) = ([s.splat(0.0); R], [s.splat(0.0); R]);
            for c in (0..COLUMNS).step_by(2) {
                let first = s.load_i8(codes.add(c * WIDTH).cast());
                let second = s.load_i8(codes.add((c + 1) * WIDTH).cast());
                for r in 0..R {
                    let x = x.add(r * columns + b * COLUMNS + c);
                    even[r] = s.fma(s.splat(*x), first, even[r]);
                    odd[r] = s.fma(s.splat(*x.add(1)), second, odd[r]);
                }
            }
            let scale = scales::<S, E>(s, block, 0);
            for r in 0..R {
                total[r] = s.fma(scale, s.add(even[r], odd[r]), total[r]);
            }
            if MINIMUM {
                let minimum = scales::<S, E>(s, block, 1);
                for r in 0..R {
                    total[r] = s.fma(minimum, s.splat(*sums.add(r * blocks + b)), total[r]);
                }
            }
        }
    }
    total
}

/// # Safety
/// Readable: `columns / 32` blocks of `p`, `R * columns` floats of `x`, as many block sums.
#[inline(always)]
unsafe fn nibbles<S: Simd, E: Load, const R: usize>(
    s: S,
    p: *const u8,
    columns: usize,
    x: *const f32,
    sums: *const f32,
) -> [S::V; R] {
    let (numbers, blocks) = (2 * WIDTH * size_of::<E>(), columns / BLOCK);
    let bytes = numbers + WIDTH * BLOCK / 2;
    let mut total = [s.splat(0.0); R];
    for b in 0..blocks {
        // SAFETY: b < blocks, c < 16, r < R.
        unsafe {
            let block = p.add(b * bytes);
            ahead(s, block, bytes);
            let codes = block.add(numbers);
            let (mut low, mut high) = ([s.splat(0.0); R], [s.splat(0.0); R]);
            for c in 0..BLOCK / 2 {
                let (first, second) = s.load_u4(codes.add(c * WIDTH));
                for r in 0..R {
                    let x = x.add(r * columns + b * BLOCK + c);
                    low[r] = s.fma(s.splat(*x), first, low[r]);
                    high[r] = s.fma(s.splat(*x.add(BLOCK / 2)), second, high[r]);
                }
            }
            let (scale, minimum) = (scales::<S, E>(s, block, 0), scales::<S, E>(s, block, 1));
            for r in 0..R {
                total[r] = s.fma(scale, s.add(low[r], high[r]), total[r]);
                total[r] = s.fma(minimum, s.splat(*sums.add(r * blocks + b)), total[r]);
            }
        }
    }
    total
}

/// Widens a panel to floats: `out[column][lane]`, columns `stride` floats apart.
///
/// # Panics
/// When a slice is too short or `columns` is not a multiple of the format's block.
#[inline(always)]
pub fn dequantize_panel<S: Simd>(
    s: S,
    format: PanelFormat,
    panel: &[u8],
    columns: usize,
    out: &mut [f32],
    stride: usize,
) {
    assert!(panel.len() >= format.panel_bytes(columns) && stride >= WIDTH);
    assert!(columns == 0 || out.len() >= (columns - 1) * stride + WIDTH);
    let (p, out) = (panel.as_ptr(), out.as_mut_ptr());
    // SAFETY: the assertions cover every column of the panel and of the output.
    unsafe {
        match format {
            PanelFormat::F32 => widen_columns::<S, f32>(s, p.cast(), columns, out, stride),
            PanelFormat::F16 => widen_columns::<S, f16>(s, p.cast(), columns, out, stride),
            PanelFormat::BF16 => widen_columns::<S, bf16>(s, p.cast(), columns, out, stride),
            PanelFormat::I8 { minimum: false } => {
                widen_bytes::<S, f16, BLOCK, false>(s, p, columns, out, stride);
            }
            PanelFormat::I8 { minimum: true } => {
                widen_bytes::<S, f16, BLOCK, true>(s, p, columns, out, stride);
            }
            PanelFormat::I8Wide => widen_bytes::<S, f32, BLOCK, true>(s, p, columns, out, stride),
            PanelFormat::I8Short => widen_bytes::<S, f32, SHORT, false>(s, p, columns, out, stride),
            PanelFormat::U4 => widen_nibbles::<S, f16>(s, p, columns, out, stride),
            PanelFormat::U4Wide => widen_nibbles::<S, f32>(s, p, columns, out, stride),
        }
    }
}

/// # Safety
/// Readable: `columns / COLUMNS` blocks of `p`; writable: `columns` rows of 16 floats of `out`.
#[inline(always)]
unsafe fn widen_bytes<S: Simd, E: Load, const COLUMNS: usize, const MINIMUM: bool>(
    s: S,
    p: *const u8,
    columns: usize,
    out: *mut f32,
    stride: usize,
) {
    let numbers = WIDTH * size_of::<E>() * (1 + usize::from(MINIMUM));
    for b in 0..columns / COLUMNS {
        // SAFETY: b is below the number of blocks, c < COLUMNS.
        unsafe {
            let block = p.add(b * (numbers + COLUMNS * WIDTH));
            let scale = scales::<S, E>(s, block, 0);
            let low = if MINIMUM {
                scales::<S, E>(s, block, 1)
            } else {
                s.splat(0.0)
            };
            for c in 0..COLUMNS {
                let code = s.load_i8(block.add(numbers + c * WIDTH).cast());
                s.store(out.add((b * COLUMNS + c) * stride), s.fma(code, scale, low));
            }
        }
    }
}

/// # Safety
/// Readable: `columns / 32` blocks of `p`; writable: `columns` rows of 16 floats of `out`.
#[inline(always)]
unsafe fn widen_nibbles<S: Simd, E: Load>(
    s: S,
    p: *const u8,
    columns: usize,
    out: *mut f32,
    stride: usize,
) {
    let numbers = 2 * WIDTH * size_of::<E>();
    for b in 0..columns / BLOCK {
        // SAFETY: b is below the number of blocks, c < 16.
        unsafe {
            let block = p.add(b * (numbers + WIDTH * BLOCK / 2));
            let (scale, low) = (scales::<S, E>(s, block, 0), scales::<S, E>(s, block, 1));
            for c in 0..BLOCK / 2 {
                let (first, second) = s.load_u4(block.add(numbers + c * WIDTH));
                let to = out.add((b * BLOCK + c) * stride);
                s.store(to, s.fma(first, scale, low));
                s.store(to.add(BLOCK / 2 * stride), s.fma(second, scale, low));
            }
        }
    }
}

/// # Safety
/// Readable: `columns * 16` elements of `p`; writable: `columns` rows of 16 floats of `out`.
#[inline(always)]
unsafe fn widen_columns<S: Simd, E: Load>(
    s: S,
    p: *const E,
    columns: usize,
    out: *mut f32,
    stride: usize,
) {
    for c in 0..columns {
        // SAFETY: c < columns.
        unsafe { s.store(out.add(c * stride), E::load(s, p.add(c * WIDTH))) };
    }
}

//! Products of activations with packed weight panels: many rows (prefill) or few (decode).

use super::level::dispatch;
use super::linear::{PanelFormat, dequantize_panel, multiply_panel};
use super::vector::{Kernel, Simd, WIDTH};
use std::marker::PhantomData;
use std::ops::Range;

/// Some columns of a row-major matrix, which one task may write.
#[derive(Debug)]
pub struct ColumnBlock<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is the only way to its elements while it lives (see `ColumnBlocks`).
unsafe impl Send for ColumnBlock<'_> {}

/// Cuts a row-major matrix (`stride` columns) into blocks of `width` columns that can be written
/// by different threads.
pub fn column_blocks(data: &mut [f32], stride: usize, width: usize) -> ColumnBlocks<'_> {
    ColumnBlocks {
        rest: ColumnBlock {
            rows: data.len().checked_div(stride).unwrap_or(0),
            data: data.as_mut_ptr(),
            columns: stride,
            stride,
            owner: PhantomData,
        },
        width: width.max(1),
    }
}

/// The blocks of a matrix, from the left.
#[derive(Debug)]
pub struct ColumnBlocks<'a> {
    rest: ColumnBlock<'a>,
    width: usize,
}

impl<'a> Iterator for ColumnBlocks<'a> {
    type Item = ColumnBlock<'a>;

    fn next(&mut self) -> Option<ColumnBlock<'a>> {
        let columns = self.width.min(self.rest.columns);
        if columns == 0 {
            return None;
        }
        let block = ColumnBlock {
            columns,
            ..self.rest
        };
        self.rest.columns -= columns;
        // What is left starts after the block; past the last one the pointer is never used.
        self.rest.data = self.rest.data.wrapping_add(columns);
        Some(block)
    }
}

impl ColumnBlock<'_> {
    /// Columns of the block.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Where `rows` rows of panel `panel` start, if all 16 of its columns exist.
    fn whole_panel(&mut self, row: usize, rows: usize, panel: usize) -> Option<*mut f32> {
        let first = panel * WIDTH;
        assert!(row + rows <= self.rows);
        // SAFETY: row and column are inside the block.
        (first + WIDTH <= self.columns).then(|| unsafe { self.data.add(row * self.stride + first) })
    }

    /// Where the columns of panel `panel` of row `row` start, and how many of the 16 exist.
    fn panel(&mut self, row: usize, panel: usize) -> &mut [f32] {
        let first = panel * WIDTH;
        assert!(row < self.rows && first < self.columns);
        let count = WIDTH.min(self.columns - first);
        // SAFETY: row and column are inside the block, whose elements no other block has.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + first), count) }
    }
}

/// Weight panels of one task: rows `0..16 * panels` of a part of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    /// How they are stored.
    pub format: PanelFormat,
    /// Columns of the matrix: the length of an activation row.
    pub columns: usize,
    /// Whole panels, one after another.
    pub data: &'a [u8],
}

/// Up to this many activation rows, weights are multiplied as they are read, without a buffer.
pub const FEW_ROWS: usize = 8;

/// `out[row][n] = x[row] · weights[n]` for up to [`FEW_ROWS`] rows, straight from the weights.
///
/// # Panics
/// When a slice is too short or there are more rows.
pub fn multiply_few(x: &[f32], sums: &[f32], weights: Panels, out: &mut ColumnBlock) {
    dispatch(Few {
        x,
        sums,
        weights,
        out,
    });
}

struct Few<'a, 'b> {
    x: &'a [f32],
    sums: &'a [f32],
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
}

impl Kernel for Few<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            sums,
            weights:
                Panels {
                    format,
                    columns,
                    data,
                },
            out,
        } = self;
        let blocks = columns / format.block();
        for (p, panel) in data.chunks_exact(format.panel_bytes(columns)).enumerate() {
            let mut row = 0;
            while row < out.rows {
                macro_rules! step {
                    ($n:literal) => {{
                        let (x, sums) =
                            (&x[row * columns..], &sums[(row * blocks).min(sums.len())..]);
                        let mut products = [0.0; $n * WIDTH];
                        let to = &mut products;
                        multiply_panel::<S, $n>(s, format, panel, columns, x, sums, to, WIDTH);
                        for (i, products) in products.chunks_exact(WIDTH).enumerate() {
                            let to = out.panel(row + i, p);
                            to.copy_from_slice(&products[..to.len()]);
                        }
                        row += $n;
                    }};
                }
                // The result of a row never depends on how many are multiplied with it.
                match out.rows - row {
                    1 => step!(1),
                    2 | 3 => step!(2),
                    left if left >= 8 && S::ROWS >= 8 => step!(8),
                    _ => step!(4),
                }
            }
        }
    }
}

/// Columns that are widened at once: with [`ROW_BLOCK`] rows of activations they stay in the
/// second-level cache, and one panel of them in the first.
const COLUMN_BLOCK: usize = 288;
/// Activation rows that pass over the widened panels together.
const ROW_BLOCK: usize = 96;

/// `out[row][n] = x[row] · weights[n]` for many rows: each weight is widened once, into `buffer`.
///
/// # Panics
/// When a slice is too short.
pub fn multiply_many(x: &[f32], weights: Panels, out: &mut ColumnBlock, buffer: &mut Vec<f32>) {
    dispatch(Many {
        x,
        weights,
        out,
        buffer,
    });
}

struct Many<'a, 'b> {
    x: &'a [f32],
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
    buffer: &'a mut Vec<f32>,
}

impl Kernel for Many<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weights:
                Panels {
                    format,
                    columns,
                    data,
                },
            out,
            buffer,
        } = self;
        assert!(x.len() >= out.rows * columns);
        let panel_bytes = format.panel_bytes(columns);
        let panels = data.len() / panel_bytes;
        buffer.resize(panels * COLUMN_BLOCK * WIDTH, 0.0);
        for first in (0..columns).step_by(COLUMN_BLOCK) {
            let depth = COLUMN_BLOCK.min(columns - first);
            let skip = first / format.block() * format.block_bytes();
            for (panel, to) in data
                .chunks_exact(panel_bytes)
                .zip(buffer.chunks_exact_mut(COLUMN_BLOCK * WIDTH))
            {
                dequantize_panel(s, format, &panel[skip..], depth, to, WIDTH);
            }
            for row in (0..out.rows).step_by(ROW_BLOCK) {
                let rows = row..out.rows.min(row + ROW_BLOCK);
                let x = &x[first..];
                for (p, panel) in buffer.chunks_exact(COLUMN_BLOCK * WIDTH).enumerate() {
                    tile(s, x, columns, depth, panel, rows.clone(), p, first > 0, out);
                }
            }
        }
    }
}

/// Some rows of activations against one widened panel, added to what is there or replacing it.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile<S: Simd>(
    s: S,
    x: &[f32],
    x_stride: usize,
    depth: usize,
    panel: &[f32],
    rows: Range<usize>,
    p: usize,
    add: bool,
    out: &mut ColumnBlock,
) {
    let mut row = rows.start;
    while row < rows.end {
        macro_rules! step {
            ($n:literal) => {{
                micro::<S, $n>(
                    s,
                    &x[row * x_stride..],
                    x_stride,
                    depth,
                    panel,
                    row,
                    p,
                    add,
                    out,
                );
                row += $n;
            }};
        }
        match rows.end - row {
            left if left >= 12 && S::ROWS >= 12 => step!(12),
            left if left >= 6 => step!(6),
            left if left >= 3 => step!(3),
            _ => step!(1),
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn micro<S: Simd, const R: usize>(
    s: S,
    x: &[f32],
    x_stride: usize,
    depth: usize,
    panel: &[f32],
    row: usize,
    p: usize,
    add: bool,
    out: &mut ColumnBlock,
) {
    assert!(x.len() >= (R - 1) * x_stride + depth && panel.len() >= depth * WIDTH);
    let mut w = panel.as_ptr();
    let mut acc = [s.splat(0.0); R];
    // SAFETY: c < depth and r < R, which the assertion covers.
    unsafe {
        // A pointer for each row, so that no address is computed at every column.
        let rows: [*const f32; R] = std::array::from_fn(|r| x.as_ptr().add(r * x_stride));
        for c in 0..depth {
            let weights = s.load(w);
            w = w.add(WIDTH);
            for r in 0..R {
                acc[r] = s.fma(s.splat(*rows[r].add(c)), weights, acc[r]);
            }
        }
    }
    if let Some(to) = out.whole_panel(row, R, p) {
        for r in 0..R {
            // SAFETY: `whole_panel` found R rows of 16 columns from here on.
            unsafe {
                let to = to.add(r * out.stride);
                let sum = if add {
                    s.add(acc[r], s.load(to))
                } else {
                    acc[r]
                };
                s.store(to, sum);
            }
        }
    } else {
        for r in 0..R {
            put(s, out.panel(row + r, p), acc[r], add);
        }
    }
}

/// Writes a vector to the last columns of one row, fewer than 16.
#[inline(always)]
fn put<S: Simd>(s: S, to: &mut [f32], v: S::V, add: bool) {
    let mut part = [0.0; WIDTH];
    if add {
        part[..to.len()].copy_from_slice(to);
    }
    // SAFETY: the array holds 16 floats.
    unsafe {
        let sum = if add {
            s.add(v, s.load(part.as_ptr()))
        } else {
            v
        };
        s.store(part.as_mut_ptr(), sum);
    }
    to.copy_from_slice(&part[..to.len()]);
}

#[cfg(test)]
mod tests;

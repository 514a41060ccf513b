//! Products of activations with packed weight panels: many rows (prefill) or few (decode).

mod columns;
mod few;

pub use columns::{ColumnBlock, ColumnBlocks, column_blocks};
pub use few::{FEW_ROWS, multiply_few};

use super::level::{Level, dispatch_at};
use super::linear::products::{ForLayout, Layout, for_layout};
use super::linear::{PanelFormat, Quads, Rounded, Tile, Tiles, WIDENED, Wide, Widened, floats};
use super::vector::{Kernel, Simd, WIDTH};
use std::ops::Range;
use std::slice::ChunksExact;

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

/// Rows of activations: floats, and the same rounded, which quantised weights need.
#[derive(Debug, Clone, Copy)]
pub struct Activations<'a> {
    /// `[row][column]`
    pub floats: &'a [f32],
    /// The same numbers; not read for weights of plain numbers.
    pub rounded: &'a Rounded,
}

/// Buffers of widened weights, kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    floats: Vec<f32>,
    integers: Vec<Widened>,
    bytes: Vec<Quads>,
}

/// Columns of floats that are widened at once: with [`ROW_BLOCK`] rows of activations they stay in
/// the second-level cache, and one panel of them in the first.
const COLUMN_BLOCK: usize = 288;
/// Activation rows that pass over the widened panels together.
const ROW_BLOCK: usize = 96;

/// `out[row][n] = x[row] · weights[n]` for many rows: each weight is widened once.
///
/// # Panics
/// When a slice is too short.
pub fn multiply_many(
    x: Activations,
    weights: Panels,
    out: &mut ColumnBlock,
    scratch: &mut Scratch,
) {
    many_at(Level::best(), x, weights, out, scratch);
}

/// [`multiply_many`] at a level. Each kind of widened weights is a kernel of its own, which only the
/// levels that use it have.
fn many_at(
    level: Level,
    x: Activations,
    weights: Panels,
    out: &mut ColumnBlock,
    scratch: &mut Scratch,
) {
    let (floats, x) = (x.floats, x.rounded);
    if !weights.format.is_quantised() {
        let buffer = &mut scratch.floats;
        return dispatch_at(
            level,
            ManyFloats {
                x: floats,
                weights,
                out,
                buffer,
            },
        );
    }
    macro_rules! integers {
        ($buffers:expr) => {
            dispatch_at(
                level,
                ManyIntegers {
                    x,
                    weights,
                    out,
                    buffers: $buffers,
                },
            )
        };
    }
    let bytes = x.has_bytes() && level.has_bytes() && weights.format.integers().is_some();
    match x.tiles() {
        Tiles::Many if bytes => integers!(&mut scratch.bytes),
        Tiles::Many => integers!(&mut scratch.integers),
        Tiles::Few => panic!("rows in tiles for few"),
    }
}

struct ManyIntegers<'a, 'b, W> {
    x: &'a Rounded,
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
    buffers: &'a mut Vec<W>,
}

impl<W: Wide> Kernel for ManyIntegers<'_, '_, W> {
    type Output = ();
    const INTEGERS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(W::is_for::<S>(), "a level has no such products");
        if W::is_for::<S>() {
            widened(s, self.x, self.weights, 0, self.out, self.buffers);
        }
    }
}

struct ManyFloats<'a, 'b> {
    x: &'a [f32],
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
    buffer: &'a mut Vec<f32>,
}

impl Kernel for ManyFloats<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weights,
            out,
            buffer,
        } = self;
        let Panels {
            format,
            columns,
            data,
        } = weights;
        assert!(x.len() >= out.rows * columns);
        let panel_bytes = format.panel_bytes(columns);
        let panels = data.len() / panel_bytes;
        buffer.resize(panels * COLUMN_BLOCK * WIDTH, 0.0);
        for first in (0..columns).step_by(COLUMN_BLOCK) {
            let depth = COLUMN_BLOCK.min(columns - first);
            let skip = first * format.unit_bytes();
            for (panel, to) in data
                .chunks_exact(panel_bytes)
                .zip(buffer.chunks_exact_mut(COLUMN_BLOCK * WIDTH))
            {
                floats::widen_panel(s, format, &panel[skip..], depth, to);
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

/// Products of quantised panels, the first of which is number `at` of the output's, with all rows:
/// each weight is widened once.
#[inline(always)]
fn widened<S: Simd, W: Wide>(
    s: S,
    x: &Rounded,
    weights: Panels,
    at: usize,
    out: &mut ColumnBlock,
    buffers: &mut Vec<W>,
) {
    let (format, columns) = (weights.format, weights.columns);
    let panels = weights.data.chunks_exact(format.panel_bytes(columns));
    buffers.resize_with(buffers.len().max(panels.len()), W::default);
    let buffers = &mut buffers[..panels.len()];
    for first in (0..columns).step_by(WIDENED) {
        let depth = WIDENED.min(columns - first);
        let (panels, to) = (panels.clone(), &mut *buffers);
        if let PanelFormat::Blocks(reader) = format {
            for (panel, to) in panels.zip(to) {
                to.widen_blocks(reader, panel, first, depth);
            }
        } else {
            let columns = first..first + depth;
            let widen = Widen {
                s,
                panels,
                columns,
                to,
            };
            for_layout(format, widen);
        }
        for row in (0..out.rows).step_by(ROW_BLOCK) {
            let end = out.rows.min(row + ROW_BLOCK);
            for (p, panel) in buffers.iter().enumerate() {
                let mut row = row;
                while row < end {
                    let tile = x.tiles().at(row, end);
                    let columns = first..first + depth;
                    multiply_tile(s, panel, x, tile, columns, at + p, out);
                    row += tile.rows;
                }
            }
        }
    }
}

/// Widens some columns of all panels. Apart from the products, which are the same for all formats
/// and would be compiled for each.
struct Widen<'a, S, W> {
    s: S,
    panels: ChunksExact<'a, u8>,
    columns: Range<usize>,
    to: &'a mut [W],
}

impl<S: Simd, W: Wide> ForLayout for Widen<'_, S, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Layout>(self) {
        for (panel, to) in self.panels.zip(self.to) {
            let (first, columns) = (self.columns.start, self.columns.len());
            to.widen::<S, L>(self.s, panel, first, columns);
        }
    }
}

/// Adds to a tile's rows of the output (from the first column on: sets) what some widened columns of
/// panel `p` make of them.
#[inline(always)]
fn multiply_tile<S: Simd, W: Wide>(
    s: S,
    panel: &W,
    x: &Rounded,
    tile: Tile,
    columns: Range<usize>,
    p: usize,
    out: &mut ColumnBlock,
) {
    macro_rules! rows {
        ($skip:literal, $count:literal) => {
            rows::<S, W, $count>(s, panel, x, (tile, $skip), columns.clone(), p, out)
        };
    }
    match tile.rows {
        12 if S::ROWS >= 12 => rows!(0, 12),
        12 => {
            rows!(0, 6);
            rows!(6, 6);
        }
        6 => rows!(0, 6),
        4 => rows!(0, 4),
        3 => rows!(0, 3),
        2 => rows!(0, 2),
        1 => rows!(0, 1),
        rows => unreachable!("no tile has {rows} rows"),
    }
}

/// [`multiply_tile`] for `R` rows of the tile from row `skip` on.
#[inline(always)]
fn rows<S: Simd, W: Wide, const R: usize>(
    s: S,
    panel: &W,
    x: &Rounded,
    (tile, skip): (Tile, usize),
    columns: Range<usize>,
    p: usize,
    out: &mut ColumnBlock,
) {
    let (row, first, depth) = (tile.row + skip, columns.start, columns.len());
    assert!(columns.end <= x.columns());
    let x = x.part(tile, (skip, R), first);
    let (whole, stride) = (out.whole_panel(row, R, p), out.stride);
    let mut total = [s.splat(0.0); R];
    if first > 0 {
        for (r, total) in total.iter_mut().enumerate() {
            *total = match whole {
                // SAFETY: `whole_panel` found R rows of 16 columns.
                Some(from) => unsafe { s.load(from.add(r * stride)) },
                None => get(s, out.panel(row + r, p)),
            };
        }
    }
    // SAFETY: `part` has the rows, and the assertion covers the columns.
    let total = unsafe { panel.multiply(s, depth, x, total) };
    for (r, total) in total.into_iter().enumerate() {
        match whole {
            // SAFETY: as above.
            Some(to) => unsafe { s.store(to.add(r * stride), total) },
            None => put(s, out.panel(row + r, p), total, false),
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

/// Reads the last columns of one row, fewer than 16.
#[inline(always)]
fn get<S: Simd>(s: S, from: &[f32]) -> S::V {
    let mut part = [0.0; WIDTH];
    part[..from.len()].copy_from_slice(from);
    // SAFETY: the array holds 16 floats.
    unsafe { s.load(part.as_ptr()) }
}

/// Writes a vector to the last columns of one row, fewer than 16.
#[inline(always)]
fn put<S: Simd>(s: S, to: &mut [f32], v: S::V, add: bool) {
    let sum = if add { s.add(v, get(s, to)) } else { v };
    let mut part = [0.0; WIDTH];
    // SAFETY: the array holds 16 floats.
    unsafe { s.store(part.as_mut_ptr(), sum) };
    to.copy_from_slice(&part[..to.len()]);
}

#[cfg(test)]
mod tests;

//! Few rows of activations (decode): weights are multiplied as they are read.

use super::columns::ColumnBlock;
use super::{Activations, Panels, Scratch, put, widened};
use crate::simd::level::{Level, dispatch_at};
use crate::simd::linear::products::{ForLayout, Layout, for_layout};
use crate::simd::linear::{PanelFormat, Rounded, Tiles, floats, products};
use crate::simd::vector::{Kernel, Simd};
use std::marker::PhantomData;

/// Up to this many activation rows, weights are multiplied as they are read, without a buffer.
pub const FEW_ROWS: usize = 8;

/// `out[row][n] = x[row] · weights[n]` for few rows, straight from the weights (but for blocks of a
/// file, which are widened a panel at a time).
///
/// # Panics
/// When a slice is too short.
pub fn multiply_few(x: Activations, weights: Panels, out: &mut ColumnBlock, scratch: &mut Scratch) {
    few_at(Level::best(), x, weights, out, scratch);
}

/// [`multiply_few`] at a level. Each format is a kernel of its own: all in one were a function that
/// took minutes to compile.
pub(super) fn few_at(
    level: Level,
    x: Activations,
    weights: Panels,
    out: &mut ColumnBlock,
    scratch: &mut Scratch,
) {
    let format = weights.format;
    if let PanelFormat::Blocks(_) = format {
        let x = x.rounded;
        dispatch_at(
            level,
            FewBlocks {
                x,
                weights,
                out,
                scratch,
            },
        );
    } else if format.is_quantised() {
        let x = x.rounded;
        for_layout(
            format,
            FewIntegers {
                level,
                x,
                weights,
                out,
            },
        );
    } else {
        let product = FloatProduct {
            x: x.floats,
            format,
            columns: weights.columns,
        };
        dispatch_at(
            level,
            Few {
                product,
                weights,
                out,
            },
        );
    }
}

struct FewBlocks<'a, 'b> {
    x: &'a Rounded,
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
    scratch: &'a mut Scratch,
}

impl Kernel for FewBlocks<'_, '_> {
    type Output = ();
    const INTEGERS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weights,
            out,
            scratch,
        } = self;
        assert!(x.tiles() == Tiles::Few);
        let bytes = weights.format.panel_bytes(weights.columns);
        for (p, data) in weights.data.chunks_exact(bytes).enumerate() {
            let panel = Panels { data, ..weights };
            widened(s, x, panel, p, out, &mut scratch.integers);
        }
    }
}

struct FewIntegers<'a, 'b> {
    level: Level,
    x: &'a Rounded,
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
}

impl ForLayout for FewIntegers<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Layout>(self) {
        let Self {
            level,
            x,
            weights,
            out,
        } = self;
        assert!(x.tiles() == Tiles::Few);
        let product = IntegerProduct(x, PhantomData::<L>);
        dispatch_at(
            level,
            Few {
                product,
                weights,
                out,
            },
        );
    }
}

struct Few<'a, 'b, P> {
    product: P,
    weights: Panels<'a>,
    out: &'a mut ColumnBlock<'b>,
}

impl<P: PanelProduct> Kernel for Few<'_, '_, P> {
    type Output = ();
    const INTEGERS: bool = P::INTEGERS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        few(s, self.product, self.weights, self.out);
    }
}

/// Products of a panel with some rows of activations.
trait PanelProduct {
    /// Whether it multiplies integers.
    const INTEGERS: bool;
    /// Those of `R` rows from `row` on.
    fn rows<S: Simd, const R: usize>(&self, s: S, panel: &[u8], row: usize) -> [S::V; R];
}

struct FloatProduct<'a> {
    x: &'a [f32],
    format: PanelFormat,
    columns: usize,
}

impl PanelProduct for FloatProduct<'_> {
    const INTEGERS: bool = false;

    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&self, s: S, panel: &[u8], row: usize) -> [S::V; R] {
        let x = &self.x[row * self.columns..];
        floats::multiply_panel(s, self.format, panel, self.columns, x)
    }
}

struct IntegerProduct<'a, L>(&'a Rounded, PhantomData<L>);

impl<L: Layout> PanelProduct for IntegerProduct<'_, L> {
    const INTEGERS: bool = true;

    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&self, s: S, panel: &[u8], row: usize) -> [S::V; R] {
        products::multiply_panel::<S, L, R>(s, panel, self.0, row)
    }
}

/// Multiplies each panel with all rows, a few at a time. The result of a row never depends on how
/// many are multiplied with it.
#[inline(always)]
fn few<S: Simd>(s: S, product: impl PanelProduct, weights: Panels, out: &mut ColumnBlock) {
    let bytes = weights.format.panel_bytes(weights.columns);
    for (p, panel) in weights.data.chunks_exact(bytes).enumerate() {
        let mut row = 0;
        while row < out.rows {
            row += match Tiles::Few.at(row, out.rows).rows {
                4 => put_rows(s, product.rows::<S, 4>(s, panel, row), row, p, out),
                2 => put_rows(s, product.rows::<S, 2>(s, panel, row), row, p, out),
                _ => put_rows(s, product.rows::<S, 1>(s, panel, row), row, p, out),
            };
        }
    }
}

/// Writes `R` rows of panel `p`, and returns `R`.
#[inline(always)]
fn put_rows<S: Simd, const R: usize>(
    s: S,
    products: [S::V; R],
    row: usize,
    p: usize,
    out: &mut ColumnBlock,
) -> usize {
    for (r, products) in products.into_iter().enumerate() {
        put(s, out.panel(row + r, p), products, false);
    }
    R
}

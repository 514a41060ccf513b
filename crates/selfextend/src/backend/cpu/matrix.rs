//! Weight matrices of the CPU backend.

use super::pack::pack;
use crate::backend::Phase;
use crate::tensor::RawTensor;
use selfextend_attention::parallel;
use selfextend_attention::simd::linear::{PanelFormat, block_sums, dequantize_panel};
use selfextend_attention::simd::matmul::{
    FEW_ROWS, Panels, column_blocks, multiply_few, multiply_many,
};
use selfextend_attention::simd::{Kernel, Simd, WIDTH, dispatch};
use std::cell::RefCell;

/// A matrix in panels of 16 rows, in the numbers of its file.
#[derive(Debug)]
pub struct CpuMatrix {
    format: PanelFormat,
    rows: usize,
    columns: usize,
    data: Vec<u8>,
}

impl CpuMatrix {
    /// Packs a tensor; `exact` widens it to floats.
    ///
    /// # Errors
    /// A tensor whose bytes do not fit its shape.
    pub fn new(tensor: RawTensor, exact: bool) -> Result<Self, String> {
        let (format, data) = pack(&tensor, exact)?;
        Ok(Self {
            format,
            rows: tensor.rows,
            columns: tensor.columns,
            data,
        })
    }

    /// Length of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    fn panels(&self, first: usize, count: usize) -> Panels<'_> {
        let bytes = self.format.panel_bytes(self.columns);
        let end = (first + count).min(self.rows.div_ceil(WIDTH));
        Panels {
            format: self.format,
            columns: self.columns,
            data: &self.data[first * bytes..end * bytes],
        }
    }

    /// Writes row `row` as floats.
    pub fn row(&self, row: usize, to: &mut [f32]) {
        let Panels {
            format,
            columns,
            data,
        } = self.panels(row / WIDTH, 1);
        WIDENED.with_borrow_mut(|widened| {
            widened.resize(columns * WIDTH, 0.0);
            dispatch(Widen {
                format,
                columns,
                data,
                to: widened,
            });
            let lane = widened.iter().skip(row % WIDTH).step_by(WIDTH);
            to.iter_mut().zip(lane).for_each(|(to, x)| *to = *x);
        });
    }
}

thread_local! {
    /// Widened weights of the task at hand.
    static WIDENED: RefCell<Vec<f32>> = RefCell::default();
}

struct Widen<'a> {
    format: PanelFormat,
    columns: usize,
    data: &'a [u8],
    to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        dequantize_panel(s, self.format, self.data, self.columns, self.to, WIDTH);
    }
}

/// Bytes of weights in a task of a decode step: long enough to pay for handing it out, short
/// enough that no thread waits long for another's last one.
const FEW_TASK_BYTES: usize = 32 * 1024;
/// Panels in a task of a prefill.
const MANY_TASK_PANELS: usize = 8;

/// `out[i][t] = matrices[i] · x[t]` for matrices of the same number of columns. `sums` is a
/// buffer for the sums of blocks that some formats need.
pub(super) fn multiply<const N: usize>(
    x: &[f32],
    matrices: [&CpuMatrix; N],
    out: [&mut Vec<f32>; N],
    phase: Phase,
    sums: &mut Vec<f32>,
) {
    let Some(columns) = matrices.first().map(|matrix| matrix.columns) else {
        return;
    };
    let tokens = x.len() / columns;
    let few = match phase {
        Phase::ByLength => tokens <= FEW_ROWS,
        Phase::Prefill => false,
        Phase::Decode => true,
    };
    sums.clear();
    if few {
        block_sums(x, sums);
    }
    let tasks = matrices.into_iter().zip(out).flat_map(|(matrix, out)| {
        out.resize(tokens * matrix.rows, 0.0);
        let panel = matrix.format.panel_bytes(columns);
        let panels = if few {
            FEW_TASK_BYTES.div_ceil(panel)
        } else {
            MANY_TASK_PANELS
        };
        let blocks = column_blocks(out, matrix.rows, panels * WIDTH).enumerate();
        blocks.map(move |(n, block)| (matrix.panels(n * panels, panels), block))
    });
    parallel::for_each(tasks, |(weights, mut out)| {
        if few {
            multiply_few(x, sums, weights, &mut out);
        } else {
            WIDENED.with_borrow_mut(|widened| multiply_many(x, weights, &mut out, widened));
        }
    });
}

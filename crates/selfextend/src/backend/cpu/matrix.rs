//! Weight matrices of the CPU backend.

use super::pack::pack;
use super::pages::Pages;
use crate::backend::Phase;
use crate::tensor::RawTensor;
use selfextend_attention::parallel;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::{PanelFormat, Rounded, Tiles};
use selfextend_attention::simd::matmul::{
    Activations, FEW_ROWS, Panels, Scratch, column_blocks, multiply_few, multiply_many,
};
use std::cell::RefCell;
use std::ops::RangeInclusive;

/// A matrix in panels of 16 rows, in the numbers of its file.
#[derive(Debug)]
pub struct CpuMatrix {
    format: PanelFormat,
    rows: usize,
    columns: usize,
    data: Pages,
}

impl CpuMatrix {
    /// Packs a tensor; `exact` widens it to floats.
    ///
    /// # Errors
    /// A tensor whose bytes do not fit its shape, and where there is no room.
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
        let (panel, lane) = (self.panels(row / WIDTH, 1).data, row % WIDTH);
        let units = panel.chunks_exact(self.format.unit_bytes());
        for (unit, to) in units.zip(to.chunks_mut(self.format.unit())) {
            self.format.weights(unit, lane, to);
        }
    }
}

thread_local! {
    /// Widened weights of the task at hand.
    static WIDENED: RefCell<Scratch> = RefCell::default();
}

/// Tasks of a decode step for each thread, so that none waits long for another's last one...
const FEW_TASKS: usize = 4;
/// ...and bytes of weights in one of them: as many as that allows, because memory is read fastest
/// where each thread follows one long stream, but not more than are read in a moment.
const FEW_TASK_BYTES: RangeInclusive<usize> = 32 * 1024..=512 * 1024;
/// Panels in a task of a prefill.
const MANY_TASK_PANELS: usize = 8;

/// `out[i][t] = matrices[i] · x[t]` for matrices of the same number of columns. `rounded` is a
/// buffer.
pub(super) fn multiply<const N: usize>(
    x: &[f32],
    matrices: [&CpuMatrix; N],
    out: [&mut Vec<f32>; N],
    phase: Phase,
    rounded: &mut Rounded,
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
    if matrices.iter().any(|matrix| matrix.format.is_quantised()) {
        rounded.round(x, columns, if few { Tiles::Few } else { Tiles::Many });
    }
    let x = Activations { floats: x, rounded };
    let bytes: usize = matrices.iter().map(|matrix| matrix.bytes()).sum();
    let few_bytes = (bytes / (FEW_TASKS * rayon::current_num_threads()))
        .clamp(*FEW_TASK_BYTES.start(), *FEW_TASK_BYTES.end());
    let tasks = matrices.into_iter().zip(out).flat_map(|(matrix, out)| {
        out.resize(tokens * matrix.rows, 0.0);
        let panel = matrix.format.panel_bytes(columns);
        let panels = if few {
            few_bytes.div_ceil(panel)
        } else {
            MANY_TASK_PANELS
        };
        let blocks = column_blocks(out, matrix.rows, panels * WIDTH).enumerate();
        blocks.map(move |(n, block)| (matrix.panels(n * panels, panels), block))
    });
    parallel::for_each(tasks, |(weights, mut out)| {
        WIDENED.with_borrow_mut(|widened| {
            if few {
                multiply_few(x, weights, &mut out, widened);
            } else {
                multiply_many(x, weights, &mut out, widened);
            }
        });
    });
}

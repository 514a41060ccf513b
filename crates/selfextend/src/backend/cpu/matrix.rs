//! Weight matrices of the CPU backend.

use super::pack::pack;
use super::pages::Pages;
use crate::backend::Phase;
use crate::tensor::RawTensor;
use selfextend_attention::parallel;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::{PanelFormat, Precision, Rounded, Tiles};
use selfextend_attention::simd::matmul::{
    Activations, ColumnBlock, FEW_ROWS, Panels, Scratch, column_blocks, multiply_few, multiply_many,
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

    /// What tasks multiply and where they write: so many bytes of weights each for few rows, or as
    /// many rows of the matrix as suit many.
    fn tasks<'a>(
        &'a self,
        out: &'a mut [f32],
        few_bytes: Option<usize>,
    ) -> impl Iterator<Item = (Panels<'a>, ColumnBlock<'a>)> + Send {
        let panel = self.format.panel_bytes(self.columns);
        let panels = few_bytes.map_or(MANY_TASK_PANELS, |bytes| bytes.div_ceil(panel));
        let blocks = column_blocks(out, self.rows, panels * WIDTH).enumerate();
        blocks.map(move |(n, block)| (self.panels(n * panels, panels), block))
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
    precision: Precision,
    rounded: &mut Rounded,
) {
    let Some(columns) = matrices.first().map(|matrix| matrix.columns) else {
        return;
    };
    let tokens = x.len() / columns;
    let few = is_few(phase, tokens);
    if matrices.iter().any(|matrix| matrix.format.is_quantised()) {
        let tiles = if few { Tiles::Few } else { Tiles::Many };
        rounded.round(x, columns, tiles, precision);
    }
    let x = Activations { floats: x, rounded };
    let few_bytes = few.then(|| few_bytes(matrices.iter().map(|matrix| matrix.bytes()).sum()));
    let tasks = matrices.into_iter().zip(out).flat_map(|(matrix, out)| {
        out.resize(tokens * matrix.rows, 0.0);
        matrix.tasks(out, few_bytes)
    });
    parallel::for_each(tasks, |(weights, out)| run(x, weights, out, few));
}

/// Whether so many tokens go through the kernels for few.
fn is_few(phase: Phase, tokens: usize) -> bool {
    match phase {
        Phase::ByLength => tokens <= FEW_ROWS,
        Phase::Prefill => false,
        Phase::Decode => true,
    }
}

/// Bytes of weights in a task for few rows, of so many in all.
fn few_bytes(all: usize) -> usize {
    let share = all / (FEW_TASKS * rayon::current_num_threads());
    share.clamp(*FEW_TASK_BYTES.start(), *FEW_TASK_BYTES.end())
}

/// The products of one task.
fn run(x: Activations, weights: Panels, mut out: ColumnBlock, few: bool) {
    WIDENED.with_borrow_mut(|widened| {
        if few {
            multiply_few(x, weights, &mut out, widened);
        } else {
            multiply_many(x, weights, &mut out, widened);
        }
    });
}

/// Rows that one of several matrices multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Which matrix.
    pub expert: usize,
    /// How many rows, after those of the groups before.
    pub rows: usize,
}

/// `out[i][row] = matrices(expert)[i] · x[row]` for the rows of each group, in which there are all rows.
/// Kernels are chosen by the tokens of the pass, so that what a row gets does not depend on how many
/// others chose its expert. `rounded` are buffers.
pub(super) fn multiply_groups<'a, const N: usize>(
    x: &[f32],
    groups: &[Group],
    matrices: impl Fn(usize) -> [&'a CpuMatrix; N] + Send + Sync + Copy,
    out: [&mut Vec<f32>; N],
    (phase, precision, tokens): (Phase, Precision, usize),
    rounded: &mut Vec<Rounded>,
) {
    let few = is_few(phase, tokens);
    let mut bytes = 0;
    let rows: usize = groups.iter().map(|group| group.rows).sum();
    rounded.resize_with(rounded.len().max(groups.len()), Rounded::default);
    let mut from = 0;
    for (group, rounded) in groups.iter().zip(&mut *rounded) {
        let matrices = matrices(group.expert);
        let columns = matrices[0].columns;
        let to = from + group.rows * columns;
        if matrices.iter().any(|matrix| matrix.format.is_quantised()) {
            let tiles = if few { Tiles::Few } else { Tiles::Many };
            rounded.round(&x[from..to], columns, tiles, precision);
        }
        from = to;
        bytes += matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>();
    }
    let few_bytes = few.then(|| few_bytes(bytes));
    let rounded = &*rounded;
    let tasks = out.into_iter().enumerate().flat_map(|(i, out)| {
        let width = groups
            .first()
            .map_or(0, |group| matrices(group.expert)[i].rows);
        out.resize(rows * width, 0.0);
        let (mut rest, mut from) = (&mut out[..], 0);
        groups
            .iter()
            .zip(rounded)
            .flat_map(move |(group, rounded)| {
                let matrix = matrices(group.expert)[i];
                let (out, others) = std::mem::take(&mut rest).split_at_mut(group.rows * width);
                rest = others;
                let floats = &x[from..from + group.rows * matrix.columns];
                from += floats.len();
                let x = Activations { floats, rounded };
                let tasks = matrix.tasks(out, few_bytes);
                tasks.map(move |(weights, out)| (x, weights, out))
            })
    });
    parallel::for_each(tasks, |(x, weights, out)| run(x, weights, out, few));
}

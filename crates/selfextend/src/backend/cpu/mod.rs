//! The CPU: plain slices, buffers reused, work cut so that results never depend on the threads.

mod matrix;

use super::Backend;
use crate::error::Result;
use crate::gguf::RawTensor;
pub use matrix::CpuMatrix;
use matrix::multiply;
use rayon::prelude::*;
use selfextend_attention::attention::{AttentionScratch, Step, attend};
use std::borrow::Cow;

/// Rows of activations from which element-wise work is shared between threads.
const PARALLEL_ROWS: usize = 16;

/// The CPU backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// Widen every weight to a float at load: the reference mode.
    pub exact: bool,
}

impl Backend for Cpu {
    type Matrix = CpuMatrix;
    type Vector = Vec<f32>;
    type Buffer = Vec<f32>;
    type Scratch = AttentionScratch;

    fn matrix(&self, tensor: RawTensor) -> Result<CpuMatrix, String> {
        CpuMatrix::new(tensor, self.exact)
    }

    fn vector(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn matrix_bytes(&self, matrix: &CpuMatrix) -> usize {
        matrix.bytes()
    }

    fn embed(&self, table: &CpuMatrix, ids: &[u32], out: &mut Vec<f32>) {
        let width = table.columns();
        out.resize(ids.len() * width, 0.0);
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(width)) {
            table.row(*id as usize, row);
        }
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, eps: f32, out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        let width = weight.len();
        let rows = |x: &[f32], out: &mut [f32]| {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let squares: f32 = x.iter().map(|x| x * x).sum();
                let scale = (squares / width as f32 + eps).sqrt().recip();
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * scale * weight;
                }
            }
        };
        in_rows(x, out, width, rows);
    }

    fn linear<const N: usize>(
        &self,
        x: &Vec<f32>,
        matrices: [&CpuMatrix; N],
        out: [&mut Vec<f32>; N],
    ) {
        multiply(x, matrices, out);
    }

    fn add_bias(&self, x: &mut Vec<f32>, bias: &Vec<f32>) {
        for row in x.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    }

    fn attend(
        &self,
        layer: usize,
        steps: &mut [Step],
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        out: &mut Vec<f32>,
        scratch: &mut AttentionScratch,
    ) -> Result<()> {
        out.resize(q.len(), 0.0);
        Ok(attend(layer, steps, q, k, v, out, scratch)?)
    }

    fn gate(&self, gate: &mut Vec<f32>, up: &Vec<f32>) {
        let silu = |up: &[f32], gate: &mut [f32]| {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
        };
        // Any width will do: the operation is element by element.
        in_rows(up, gate, 1024.min(up.len().max(1)), silu);
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }

    fn take_rows(&self, x: &Vec<f32>, width: usize, rows: &[usize], out: &mut Vec<f32>) {
        out.clear();
        rows.iter()
            .for_each(|row| out.extend_from_slice(&x[row * width..(row + 1) * width]));
    }

    fn read<'a>(&self, buffer: &'a Vec<f32>) -> Cow<'a, [f32]> {
        Cow::Borrowed(buffer)
    }
}

/// Runs `work(from, to)` on equal ranges of two slices, on several threads where it pays.
fn in_rows(from: &[f32], to: &mut [f32], width: usize, work: impl Fn(&[f32], &mut [f32]) + Sync) {
    let some = width * PARALLEL_ROWS;
    if to.len() < 2 * some {
        work(from, to);
    } else {
        to.par_chunks_mut(some)
            .zip(from.par_chunks(some))
            .for_each(|(to, from)| work(from, to));
    }
}

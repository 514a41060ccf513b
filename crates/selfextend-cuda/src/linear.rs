//! Linear layers: which kernels a matrix is multiplied by.
//!
//! Up to [`FEW`] tokens go through kernels of our own, which read weights as they are stored and
//! multiply activations in f32. For more, activations are rounded to 16 bits, packed weights are
//! unpacked to 16 bits, and cuBLAS multiplies. So a token's results depend on how many others are in
//! its pass, by those roundings.

use crate::element::Element;
use crate::error::CudaError;
use crate::launch::Value;
use crate::matrix::{Matrix, Numbers};
use crate::memory::Buffer;
use crate::ops::{Ops, THREADS, rows};
use crate::packed::Layout;
use cudarc::driver::CudaSlice;

/// The most tokens of a pass that does without cuBLAS.
pub const FEW: usize = 8;
/// Threads of a block of `matvec_*`, and the rows that they share.
const FEW_THREADS: usize = 128;
const SHARED_ROWS: usize = 4;
/// Numbers that are unpacked at once: 256 MiB, which every layer but an output head fits. Few in
/// tests, so that matrices are unpacked in bands.
const UNPACKED: usize = if cfg!(test) { 1 << 14 } else { 128 << 20 };

/// Buffers that linear layers keep from call to call.
#[derive(Debug)]
pub struct LinearScratch<T> {
    narrow: Buffer<T>,
    unpacked: Buffer<T>,
}

impl<T> Default for LinearScratch<T> {
    fn default() -> Self {
        Self {
            narrow: Buffer::default(),
            unpacked: Buffer::default(),
        }
    }
}

impl<T: Element> Ops<T> {
    /// `out[i][t] = matrices[i] · x[t]` for matrices that share their input.
    ///
    /// # Errors
    /// Rows that a matrix does not fit, cuBLAS's, or the driver's.
    pub fn linear<const N: usize>(
        &self,
        x: &Buffer<f32>,
        matrices: [&Matrix<T>; N],
        out: [&mut Buffer<f32>; N],
        scratch: &mut LinearScratch<T>,
    ) -> Result<(), CudaError> {
        let Some(first) = matrices.first() else {
            return Ok(());
        };
        let is_few = rows(x.len(), first.inputs)? <= FEW;
        // Blocks of files have no kernels for few rows.
        let narrows = |matrix: &&Matrix<T>| !is_few || matrix.is_unpacked_first();
        if matrices.iter().any(narrows) {
            self.narrow(x, &mut scratch.narrow)?;
        }
        for (matrix, out) in matrices.into_iter().zip(out) {
            if is_few && !matrix.is_unpacked_first() {
                self.few(x, matrix, out)?;
            } else if let Numbers::Wide(numbers) = &matrix.numbers {
                self.wide_product(x, matrix, numbers, out)?;
            } else {
                self.product(&scratch.narrow, matrix, &mut scratch.unpacked, out)?;
            }
        }
        Ok(())
    }

    /// For at most [`FEW`] rows, as they are.
    fn few(
        &self,
        x: &Buffer<f32>,
        matrix: &Matrix<T>,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let tokens = rows(x.len(), matrix.inputs)?;
        if !(1..=FEW).contains(&tokens) {
            return Err(CudaError::Shape(format!("{tokens} rows are not few")));
        }
        out.resize(&self.device, tokens * matrix.outputs)?;
        let (kernels, mut values) = match &matrix.numbers {
            Numbers::Plain(numbers) => (&self.linear.plain, vec![self.at(numbers)]),
            Numbers::Packed(layout, planes) => (
                &self.linear.packed(*layout)?.products,
                self.planes(*layout, planes, matrix).to_vec(),
            ),
            Numbers::Wide(numbers) => return self.wide_few(x, matrix, numbers, out),
            Numbers::Blocks(format, ..) => {
                return Err(CudaError::Shape(format!(
                    "{format:?} has no kernels for few rows"
                )));
            }
        };
        values.extend([
            self.at(x.slice()?),
            self.at(out.slice()?),
            Value::Int(matrix.outputs as i32),
            Value::Int(matrix.inputs as i32),
            Value::Int(tokens as i32),
        ]);
        let kernel = &kernels[tokens.next_power_of_two().ilog2() as usize];
        let blocks = matrix.outputs.div_ceil(SHARED_ROWS);
        self.launch(kernel, [blocks, FEW_THREADS], &values)
    }

    /// For at most [`FEW`] rows, in floats.
    fn wide_few(
        &self,
        x: &Buffer<f32>,
        matrix: &Matrix<T>,
        numbers: &CudaSlice<f32>,
        out: &Buffer<f32>,
    ) -> Result<(), CudaError> {
        let values = [
            self.at(numbers),
            self.at(x.slice()?),
            self.at(out.slice()?),
            Value::Int(matrix.outputs as i32),
            Value::Int(matrix.inputs as i32),
            Value::Int((x.len() / matrix.inputs) as i32),
        ];
        self.launch(&self.linear.wide, [matrix.outputs, FEW_THREADS], &values)
    }

    /// By cuBLAS, in floats.
    fn wide_product(
        &self,
        x: &Buffer<f32>,
        matrix: &Matrix<T>,
        numbers: &CudaSlice<f32>,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let (outputs, inputs) = (matrix.outputs, matrix.inputs);
        let tokens = rows(x.len(), inputs)?;
        out.resize(&self.device, tokens * outputs)?;
        self.device.settle()?;
        let (x, out) = (self.address(x.slice()?), self.address(out.slice()?));
        let shape = [outputs, tokens, inputs];
        let numbers = self.address(numbers);
        self.blas.multiply_f32(shape, outputs, numbers, x, out)
    }

    /// `out[t] = matrix · x[t]` by cuBLAS, for any number of rows. Packed weights are first unpacked
    /// into `unpacked`, a band of rows at a time.
    ///
    /// # Errors
    /// Rows that the matrix does not fit, cuBLAS's, or the driver's.
    pub fn product(
        &self,
        x: &Buffer<T>,
        matrix: &Matrix<T>,
        unpacked: &mut Buffer<T>,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let Matrix {
            numbers,
            outputs,
            inputs,
        } = matrix;
        let (outputs, inputs) = (*outputs, *inputs);
        let tokens = rows(x.len(), inputs)?;
        out.resize(&self.device, tokens * outputs)?;
        // cuBLAS launches at once, so what was recorded must be launched before.
        self.device.settle()?;
        let (x, out) = (self.address(x.slice()?), self.address(out.slice()?));
        let multiply = |first: usize, some: usize, numbers: u64| {
            let out = out + (first * size_of::<f32>()) as u64;
            let shape = [some, tokens, inputs];
            self.blas.multiply::<T>(shape, outputs, numbers, x, out)
        };
        // What the kernel takes before the place to unpack to, and its threads for a row.
        let (unpack, from, lanes_of_row) = match numbers {
            Numbers::Plain(numbers) => return multiply(0, outputs, self.address(numbers)),
            Numbers::Packed(layout, planes) => (
                &self.linear.packed(*layout)?.unpack,
                self.planes(*layout, planes, matrix).to_vec(),
                layout.lanes(inputs),
            ),
            Numbers::Blocks(format, blocks, points) => (
                &self.linear.blocks(*format).unpack,
                vec![self.at(blocks), self.at(&points.0)],
                inputs / 8,
            ),
            Numbers::Wide(_) => return Err(CudaError::Shape("floats are no 16 bits".into())),
        };
        let band = (UNPACKED / inputs).clamp(1, outputs);
        unpacked.resize(&self.device, band * inputs)?;
        for first in (0..outputs).step_by(band) {
            let some = band.min(outputs - first);
            let lanes = some * lanes_of_row;
            let mut values = from.clone();
            values.extend([
                self.at(unpacked.slice()?),
                Value::Int(first as i32),
                Value::Int(inputs as i32),
                Value::Len(lanes as u64),
            ]);
            self.launch(unpack, [lanes.div_ceil(THREADS), THREADS], &values)?;
            multiply(first, some, self.address(unpacked.slice()?))?;
        }
        Ok(())
    }

    /// `out[t] = table[ids[t]]`.
    ///
    /// # Errors
    /// Ids beyond the table, or the driver's.
    pub fn embed(
        &self,
        table: &Matrix<T>,
        ids: &[u32],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let size = [table.outputs, table.inputs];
        match &table.numbers {
            Numbers::Plain(numbers) => {
                self.take(&self.take_narrow, &[self.at(numbers)], size, ids, out)
            }
            Numbers::Packed(layout, planes) => {
                let kernel = &self.linear.packed(*layout)?.take;
                let from = self.planes(*layout, planes, table);
                self.take(kernel, &from, size, ids, out)
            }
            Numbers::Blocks(format, blocks, points) => {
                let kernel = &self.linear.blocks(*format).take;
                let from = [self.at(blocks), self.at(&points.0)];
                self.take(kernel, &from, size, ids, out)
            }
            Numbers::Wide(numbers) => {
                self.take(&self.take_rows, &[self.at(numbers)], size, ids, out)
            }
        }
    }

    fn planes(&self, layout: Layout, planes: &CudaSlice<u8>, matrix: &Matrix<T>) -> [Value; 4] {
        let starts = layout.starts(matrix.outputs, matrix.inputs);
        let base = self.address(planes);
        [0, 1, 2, 3].map(|n| Value::Pointer(base + starts[n] as u64))
    }
}

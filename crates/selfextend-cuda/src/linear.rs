//! Linear layers: which kernels a matrix is multiplied by.
//!
//! Up to [`FEW`] tokens go through kernels of our own, which read weights as they are stored and
//! multiply activations in f32. For more, activations are rounded to 16 bits, packed weights are
//! unpacked to 16 bits, and cuBLAS multiplies. So a token's results depend on how many others are in
//! its pass, by those roundings.

use crate::device::{Device, Element};
use crate::error::CudaError;
use crate::launch::Value;
use crate::ops::{Buffer, Ops, THREADS, rows};
use crate::packed::{Format, Layout};
use cudarc::driver::{CudaFunction, CudaSlice};

/// Most tokens of a pass that needs no cuBLAS.
pub const FEW: usize = 8;
/// Threads of a block of `matvec_*`, and the rows that they share.
const FEW_THREADS: usize = 128;
const SHARED_ROWS: usize = 4;
/// Numbers that are unpacked at once: 256 MiB, more than any layer but an output head. In tests so
/// few that matrices are unpacked in bands.
const UNPACKED: usize = if cfg!(test) { 1 << 14 } else { 128 << 20 };

/// A matrix of a linear layer, `[outputs, inputs]`.
#[derive(Debug)]
pub struct Matrix<T> {
    numbers: Numbers<T>,
    outputs: usize,
    inputs: usize,
}

#[derive(Debug)]
enum Numbers<T> {
    /// Row by row.
    Plain(CudaSlice<T>),
    /// A block format's planes.
    Packed(Layout, CudaSlice<u8>),
}

impl<T: Element> Matrix<T> {
    /// Takes over a matrix.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for a length that is not the product of the sizes, or the driver's.
    pub fn new(
        device: &Device,
        numbers: &[T],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        if numbers.is_empty() || outputs.checked_mul(inputs) != Some(numbers.len()) {
            return Err(CudaError::Shape(format!(
                "{} numbers are no {outputs} by {inputs} matrix",
                numbers.len()
            )));
        }
        Ok(Self {
            numbers: Numbers::Plain(device.stream().clone_htod(numbers)?),
            outputs,
            inputs,
        })
    }

    /// Takes over a matrix in the blocks of a file, which stay packed.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for rows that are not of whole blocks, and bytes that are not as many as
    /// the sizes ask for; or the driver's.
    pub fn packed(
        device: &Device,
        format: Format,
        blocks: &[u8],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        let layout = Layout::new(format, inputs).filter(|layout| {
            !blocks.is_empty()
                // The kernels count words of codes in 32 bits.
                && blocks.len() < 1 << 34
                && outputs.checked_mul(layout.file_bytes(inputs)) == Some(blocks.len())
        });
        let layout = layout.ok_or_else(|| {
            CudaError::Shape(format!(
                "{} bytes of {format:?} are no {outputs} by {inputs} matrix",
                blocks.len()
            ))
        })?;
        let planes = layout.pack(outputs, inputs, blocks);
        Ok(Self {
            numbers: Numbers::Packed(layout, device.stream().clone_htod(&planes)?),
            outputs,
            inputs,
        })
    }

    /// Columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// On the device.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::Plain(numbers) => numbers.num_bytes(),
            Numbers::Packed(_, planes) => planes.num_bytes(),
        }
    }
}

/// What linear layers keep from call to call.
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

/// For 1, 2, up to 4 and up to 8 tokens.
type Products = [CudaFunction; 4];

/// What serves one layout.
#[derive(Debug)]
struct PackedKernels {
    products: Products,
    unpack: CudaFunction,
    take: CudaFunction,
}

/// The kernels of `linear.cu`.
#[derive(Debug)]
pub(crate) struct LinearKernels {
    plain: Products,
    packed: Vec<(Layout, PackedKernels)>,
}

impl LinearKernels {
    pub(crate) fn new<T: Element>(device: &Device) -> Result<Self, CudaError> {
        let kernel = |name: &str| device.linear().load_function(name);
        let products = |name: &str| {
            Ok::<_, CudaError>([
                kernel(&format!("matvec_{name}_1"))?,
                kernel(&format!("matvec_{name}_2"))?,
                kernel(&format!("matvec_{name}_4"))?,
                kernel(&format!("matvec_{name}_8"))?,
            ])
        };
        let packed = Layout::all().map(|layout| {
            let name = layout.name();
            let kernels = PackedKernels {
                products: products(&name)?,
                unpack: kernel(&format!("unpack_{name}_{}", T::NAME))?,
                take: kernel(&format!("take_{name}"))?,
            };
            Ok::<_, CudaError>((layout, kernels))
        });
        Ok(Self {
            plain: products(T::NAME)?,
            packed: packed.collect::<Result<_, _>>()?,
        })
    }

    fn packed(&self, layout: Layout) -> Result<&PackedKernels, CudaError> {
        let mut all = self.packed.iter();
        let found = all.find(|(known, _)| *known == layout);
        let none = || CudaError::Shape(format!("{layout:?} has no kernels"));
        found.map(|(_, kernels)| kernels).ok_or_else(none)
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
        if !is_few {
            self.narrow(x, &mut scratch.narrow)?;
        }
        for (matrix, out) in matrices.into_iter().zip(out) {
            match is_few {
                true => self.few(x, matrix, out)?,
                false => self.product(&scratch.narrow, matrix, &mut scratch.unpacked, out)?,
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
        // cuBLAS launches at once.
        self.device.settle()?;
        let (x, out) = (self.address(x.slice()?), self.address(out.slice()?));
        let multiply = |first: usize, some: usize, numbers: u64| {
            let out = out + (first * size_of::<f32>()) as u64;
            let shape = [some, tokens, inputs];
            self.blas.multiply::<T>(shape, outputs, numbers, x, out)
        };
        let (layout, planes) = match numbers {
            Numbers::Plain(numbers) => return multiply(0, outputs, self.address(numbers)),
            Numbers::Packed(layout, planes) => (*layout, planes),
        };
        let unpack = &self.linear.packed(layout)?.unpack;
        let band = (UNPACKED / inputs).clamp(1, outputs);
        unpacked.resize(&self.device, band * inputs)?;
        for first in (0..outputs).step_by(band) {
            let some = band.min(outputs - first);
            let lanes = some * layout.lanes(inputs);
            let mut values = self.planes(layout, planes, matrix).to_vec();
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
        }
    }

    fn planes(&self, layout: Layout, planes: &CudaSlice<u8>, matrix: &Matrix<T>) -> [Value; 4] {
        let starts = layout.starts(matrix.outputs, matrix.inputs);
        let base = self.address(planes);
        [0, 1, 2, 3].map(|n| Value::Pointer(base + starts[n] as u64))
    }
}

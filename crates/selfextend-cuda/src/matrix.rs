//! Weight matrices on the device, as 16-bit floats or in the blocks of their file, and the kernels
//! that read them.

use crate::blocks::{BlockFormat, BlockKernels, Points};
use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::packed::{Format, Layout};
use cudarc::driver::{CudaFunction, CudaSlice};

/// A matrix of a linear layer, `[outputs, inputs]`.
#[derive(Debug)]
pub struct Matrix<T> {
    pub(crate) numbers: Numbers<T>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

#[derive(Debug)]
pub(crate) enum Numbers<T> {
    /// Row by row.
    Plain(CudaSlice<T>),
    /// A block format's planes.
    Packed(Layout, CudaSlice<u8>),
    /// Floats, row by row.
    Wide(CudaSlice<f32>),
    /// Blocks of a file.
    Blocks(BlockFormat, CudaSlice<u8>, Points),
}

impl<T: Element> Matrix<T> {
    /// Copies a matrix to the device.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for a length that is not the product of the sizes, or the driver's.
    pub fn new(
        device: &Device,
        numbers: &[T],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        check(numbers.len(), outputs, inputs)?;
        Ok(Self {
            numbers: Numbers::Plain(device.stream().clone_htod(numbers)?),
            outputs,
            inputs,
        })
    }

    /// Copies a matrix whose products must not be rounded to 16 bits, in floats.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn wide(
        device: &Device,
        numbers: &[f32],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        check(numbers.len(), outputs, inputs)?;
        Ok(Self {
            numbers: Numbers::Wide(device.stream().clone_htod(numbers)?),
            outputs,
            inputs,
        })
    }

    /// Copies a matrix in the blocks of its file, which stay packed.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for rows that are not whole blocks, or a number of bytes that does not
    /// match the sizes; or the driver's.
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
                "{} bytes of {format:?} are not a matrix of {outputs} by {inputs}",
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

    /// Copies a matrix in the blocks of its file, which are unpacked to 16 bits where they are multiplied.
    ///
    /// # Errors
    /// As [`Matrix::packed`].
    pub fn blocks(
        device: &Device,
        format: BlockFormat,
        points: &Points,
        blocks: &[u8],
        [outputs, inputs]: [usize; 2],
    ) -> Result<Self, CudaError> {
        let bytes = format.row_bytes(inputs).map(|row| row.checked_mul(outputs));
        if blocks.is_empty() || bytes != Some(Some(blocks.len())) {
            return Err(CudaError::Shape(format!(
                "{} bytes of {format:?} are not a matrix of {outputs} by {inputs}",
                blocks.len()
            )));
        }
        let on_device = device.stream().clone_htod(blocks)?;
        Ok(Self {
            numbers: Numbers::Blocks(format, on_device, points.clone()),
            outputs,
            inputs,
        })
    }

    /// Columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// What its numbers are in.
    pub(crate) fn format(&self) -> String {
        match &self.numbers {
            Numbers::Plain(_) => T::NAME.into(),
            Numbers::Packed(layout, _) => format!("{:?}", layout.format()),
            Numbers::Wide(_) => "float32".into(),
            Numbers::Blocks(format, ..) => format!("{format:?}"),
        }
    }

    /// Whether even few rows need it unpacked.
    pub(crate) fn is_unpacked_first(&self) -> bool {
        matches!(self.numbers, Numbers::Blocks(..))
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::Plain(numbers) => numbers.num_bytes(),
            Numbers::Packed(_, planes) => planes.num_bytes(),
            Numbers::Wide(numbers) => numbers.num_bytes(),
            Numbers::Blocks(_, blocks, _) => blocks.num_bytes(),
        }
    }
}

fn check(numbers: usize, outputs: usize, inputs: usize) -> Result<(), CudaError> {
    if numbers == 0 || outputs.checked_mul(inputs) != Some(numbers) {
        return Err(CudaError::Shape(format!(
            "{numbers} numbers are not a matrix of {outputs} by {inputs}"
        )));
    }
    Ok(())
}

/// For 1, 2, up to 4 and up to 8 tokens.
pub(crate) type Products = [CudaFunction; 4];

/// The kernels of one layout.
#[derive(Debug)]
pub(crate) struct PackedKernels {
    pub products: Products,
    pub unpack: CudaFunction,
    pub take: CudaFunction,
}

/// The kernels of `linear.cu`.
#[derive(Debug)]
pub(crate) struct LinearKernels {
    pub plain: Products,
    pub wide: CudaFunction,
    packed: Vec<(Layout, PackedKernels)>,
    blocks: Vec<BlockKernels>,
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
            wide: kernel("matvec_f32")?,
            packed: packed.collect::<Result<_, _>>()?,
            blocks: BlockKernels::all::<T>(device)?,
        })
    }

    pub(crate) fn blocks(&self, format: BlockFormat) -> &BlockKernels {
        &self.blocks[format as usize]
    }

    pub(crate) fn packed(&self, layout: Layout) -> Result<&PackedKernels, CudaError> {
        let mut all = self.packed.iter();
        let found = all.find(|(known, _)| *known == layout);
        let none = || CudaError::Shape(format!("{layout:?} has no kernels"));
        found.map(|(_, kernels)| kernels).ok_or_else(none)
    }
}

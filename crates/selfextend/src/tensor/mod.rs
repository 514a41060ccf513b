//! Tensors as files store them: their formats, their bytes, and their numbers as floats.

mod block;
mod format;
mod grids;
mod lattice;
mod sub_block;
#[cfg(test)]
mod tests;

pub use format::TensorFormat;
use half::{bf16, f16};
use std::ops::Range;
pub(crate) use sub_block::SubBlock;

/// A tensor's bytes as the file has them, row-major.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub format: TensorFormat,
    /// Rows.
    pub rows: usize,
    /// Columns of a row.
    pub columns: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What a file's header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The format of its numbers, as the file's format calls it: `F32`, `Q4_1`, ...
    pub format: String,
    /// How many numbers it has.
    pub elements: usize,
    /// Bytes it takes in the file.
    pub bytes: usize,
}

impl RawTensor {
    /// Checks that the bytes are as many as the format takes for the shape.
    ///
    /// # Errors
    /// Both numbers, as text.
    pub fn check(&self) -> Result<(), String> {
        let row = self.format.bytes(self.columns);
        let expected = row.and_then(|row| row.checked_mul(self.rows));
        if expected == Some(self.data.len()) {
            return Ok(());
        }
        let expected = expected.map_or("no whole number of".to_owned(), |n| n.to_string());
        Err(format!(
            "has {} bytes, but [{}, {}] in {} takes {expected} bytes",
            self.data.len(),
            self.rows,
            self.columns,
            self.format
        ))
    }

    /// Its numbers as floats, row by row.
    pub fn to_floats(&self) -> Vec<f32> {
        dequantize(self.format, &self.data)
    }

    /// The tensor with its columns as rows.
    ///
    /// # Panics
    /// Where numbers do not stand alone.
    pub(crate) fn turned(&self) -> Self {
        assert_eq!(self.format.block_len(), 1, "blocks have no columns");
        let size = self.format.block_bytes();
        let mut data = Vec::with_capacity(self.data.len());
        for column in 0..self.columns {
            for row in 0..self.rows {
                let at = (row * self.columns + column) * size;
                data.extend_from_slice(&self.data[at..at + size]);
            }
        }
        Self {
            name: self.name.clone(),
            format: self.format,
            rows: self.columns,
            columns: self.rows,
            data,
        }
    }

    /// A tensor of some of its rows, one range after the other.
    pub(crate) fn take_rows(&self, ranges: &[Range<usize>]) -> Self {
        let row = self.data.len() / self.rows.max(1);
        let bytes = |rows: &Range<usize>| &self.data[rows.start * row..rows.end * row];
        Self {
            name: self.name.clone(),
            format: self.format,
            rows: ranges.iter().map(|rows| rows.len()).sum(),
            columns: self.columns,
            data: ranges.iter().map(bytes).collect::<Vec<_>>().concat(),
        }
    }
}

/// Points of the lattices of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S and IQ1, number after number.
#[cfg(feature = "cuda")]
pub(crate) fn lattices() -> [&'static [i8]; 6] {
    [
        grids::IQ2_XXS.as_flattened(),
        grids::IQ2_XS.as_flattened(),
        grids::IQ2_S.as_flattened(),
        grids::IQ3_XXS.as_flattened(),
        grids::IQ3_S.as_flattened(),
        grids::IQ1_S.as_flattened(),
    ]
}

/// The numbers of whole blocks as floats, bit for bit those of the `gguf` package. Bytes after the
/// last whole block are not read.
pub(crate) fn dequantize(format: TensorFormat, data: &[u8]) -> Vec<f32> {
    let pairs = || data.as_chunks().0.iter();
    match format {
        TensorFormat::F32 => {
            let words = data.as_chunks().0.iter();
            words.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        TensorFormat::F16 => pairs().map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
        TensorFormat::BF16 => pairs().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        _ => {
            let blocks = data.chunks_exact(format.block_bytes());
            let mut floats = Vec::with_capacity(blocks.len() * format.block_len());
            for block in blocks {
                for n in 0..SubBlock::count(format) {
                    SubBlock::read(format, block, n).write(&mut floats);
                }
            }
            floats
        }
    }
}

//! From a file's row-major blocks to panels of 16 rows.

use super::pages::Pages;
use crate::tensor::{RawTensor, SubBlock, TensorFormat, dequantize};
use rayon::prelude::*;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::{BlockReader, Integers, PanelFormat};

/// The panel format that keeps a tensor format's own numbers.
fn panel_format(format: TensorFormat) -> PanelFormat {
    match format {
        TensorFormat::F32 => PanelFormat::F32,
        TensorFormat::F16 => PanelFormat::F16,
        TensorFormat::BF16 => PanelFormat::BF16,
        TensorFormat::Q4_0 => PanelFormat::Q4_0,
        TensorFormat::Q4_1 => PanelFormat::Q4_1,
        TensorFormat::Q5_0 => PanelFormat::Q5_0,
        TensorFormat::Q5_1 => PanelFormat::Q5_1,
        TensorFormat::Q8_0 => PanelFormat::Q8_0,
        TensorFormat::Q2K => PanelFormat::Q2K,
        TensorFormat::Q3K => PanelFormat::Q3K,
        TensorFormat::Q4K => PanelFormat::Q4K,
        TensorFormat::Q5K => PanelFormat::Q5K,
        TensorFormat::Q6K => PanelFormat::Q6K,
        TensorFormat::IQ4NL => PanelFormat::IQ4NL,
        TensorFormat::IQ4XS => PanelFormat::IQ4XS,
        TensorFormat::MXFP4 => PanelFormat::MXFP4,
        TensorFormat::NVFP4 => PanelFormat::Blocks(&FileBlocks(TensorFormat::NVFP4)),
        TensorFormat::TQ1_0 => PanelFormat::Blocks(&FileBlocks(TensorFormat::TQ1_0)),
        TensorFormat::TQ2_0 => PanelFormat::Blocks(&FileBlocks(TensorFormat::TQ2_0)),
        TensorFormat::IQ3S => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ3S)),
        TensorFormat::IQ3XXS => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ3XXS)),
        TensorFormat::IQ2S => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ2S)),
        TensorFormat::IQ2XS => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ2XS)),
        TensorFormat::IQ2XXS => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ2XXS)),
        TensorFormat::IQ1S => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ1S)),
        TensorFormat::IQ1M => PanelFormat::Blocks(&FileBlocks(TensorFormat::IQ1M)),
    }
}

/// Blocks that stay as the file has them.
#[derive(Debug)]
struct FileBlocks(TensorFormat);

impl BlockReader for FileBlocks {
    fn columns(&self) -> usize {
        self.0.block_len()
    }

    fn bytes(&self) -> usize {
        self.0.block_bytes()
    }

    /// Sub-blocks of NVFP4 have scales of their own; those of the others differ in small factors,
    /// with which integers reach 62 * 31 (IQ3_XXS).
    fn chunk(&self) -> usize {
        match self.0 {
            TensorFormat::NVFP4 => SubBlock::len(self.0),
            _ => 64,
        }
    }

    fn read(&self, block: &[u8], integers: &mut [i16], scales: &mut [f32]) {
        let len = SubBlock::len(self.0);
        for (n, to) in integers.chunks_exact_mut(len).enumerate() {
            let from = SubBlock::read(self.0, block, n);
            let factor = i16::from(from.scale.factor);
            for (to, code) in to.iter_mut().zip(from.codes()) {
                *to = i16::from(*code) * factor;
            }
            scales[n * len / self.chunk()] = from.scale.unit();
        }
    }
}

/// Packs a matrix into panels; rows are padded with zeros to a multiple of 16. `exact` widens
/// every weight to a float.
///
/// # Errors
/// A tensor whose bytes do not fit its shape, and where there is no room.
pub(super) fn pack(tensor: &RawTensor, exact: bool) -> Result<(PanelFormat, Pages), String> {
    tensor.check()?;
    let panels = if exact {
        PanelFormat::F32
    } else {
        panel_format(tensor.format)
    };
    let panel_bytes = panels.panel_bytes(tensor.columns);
    let mut packed = Pages::zeroed(tensor.rows.div_ceil(WIDTH) * panel_bytes)?;
    if packed.is_empty() {
        return Ok((panels, packed));
    }
    let row_bytes = tensor.data.len() / tensor.rows;
    // In parallel within a tensor too: the embedding alone is a third of a small model.
    let work = packed.par_chunks_exact_mut(panel_bytes);
    let work = work.zip(tensor.data.par_chunks(WIDTH * row_bytes));
    work.for_each(|(panel, rows)| {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            pack_row(tensor.format, row, panels, panel, lane);
        }
    });
    Ok((panels, packed))
}

/// Writes one row of a panel.
fn pack_row(format: TensorFormat, row: &[u8], panels: PanelFormat, panel: &mut [u8], lane: usize) {
    if let Some(integers) = panels.integers() {
        // A unit is a block of the file.
        let units = panel.chunks_exact_mut(integers.unit_bytes());
        for (unit, block) in units.zip(row.chunks_exact(format.block_bytes())) {
            for n in 0..SubBlock::count(format) {
                put(integers, unit, lane, n, &SubBlock::read(format, block, n));
            }
        }
    } else if let PanelFormat::Blocks(reader) = panels {
        let bytes = reader.bytes();
        let units = panel.chunks_exact_mut(WIDTH * bytes);
        for (unit, block) in units.zip(row.chunks_exact(bytes)) {
            unit[lane * bytes..][..bytes].copy_from_slice(block);
        }
    } else if let PanelFormat::F32 = panels {
        let floats = dequantize(format, row);
        scatter(panel, lane, floats.iter().map(|x| x.to_le_bytes()));
    } else {
        scatter(panel, lane, row.as_chunks::<2>().0.iter().copied());
    }
}

/// Writes one row of a panel of plain numbers.
fn scatter<const N: usize>(panel: &mut [u8], lane: usize, numbers: impl Iterator<Item = [u8; N]>) {
    for (column, bytes) in panel.chunks_exact_mut(WIDTH * N).zip(numbers) {
        column[lane * N..(lane + 1) * N].copy_from_slice(&bytes);
    }
}

/// Writes a block of one row of a unit.
fn put(integers: Integers, unit: &mut [u8], lane: usize, n: usize, block: &SubBlock) {
    if integers.has_powers() {
        integers.put_power(unit, lane, (block.scale.exponent + 128) as u8);
    } else {
        integers.put_scale(unit, lane, n, (block.scale.half, block.scale.factor));
    }
    if let Some(minimum) = block.minimum {
        integers.put_minimum(unit, lane, n, (minimum.half, minimum.factor));
    }
    let mut codes = [0; SubBlock::MOST];
    for (to, code) in codes.iter_mut().zip(block.codes()) {
        *to = integers.code(*code);
    }
    integers.put_codes(unit, lane, n, &codes[..integers.block()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::CpuMatrix;
    use crate::test_support::blocks;

    /// Panels hold the numbers that the `gguf` package reads from the same blocks.
    #[test]
    fn panels_hold_the_numbers_of_the_file() {
        for format in TensorFormat::ALL {
            let (data, expected) = blocks(format);
            let columns = format.block_len().max(16);
            for exact in [false, true] {
                let raw = RawTensor {
                    name: "test".into(),
                    format,
                    rows: expected.len() / columns,
                    columns,
                    data: data.clone(),
                };
                let matrix = CpuMatrix::new(raw, exact).unwrap();
                for (row, expected) in expected.chunks_exact(columns).enumerate() {
                    let mut actual = vec![0.0; columns];
                    matrix.row(row, &mut actual);
                    assert_eq!(actual, expected, "{format}, row {row}");
                }
            }
        }
    }

    #[test]
    fn a_matrix_without_its_bytes_is_refused() {
        let raw = RawTensor {
            name: "test".into(),
            format: TensorFormat::Q4_0,
            rows: 2,
            columns: 32,
            data: vec![0; 35],
        };
        assert!(CpuMatrix::new(raw, false).is_err());
    }
}

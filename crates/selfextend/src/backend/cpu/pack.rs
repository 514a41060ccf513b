//! From a file's row-major blocks to panels of 16 rows.

use crate::tensor::{RawTensor, SubBlock, TensorFormat, dequantize};
use half::f16;
use rayon::prelude::*;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::PanelFormat;

/// The panel format that keeps a tensor format's own numbers; floats where there is none.
fn panel_format(format: TensorFormat) -> PanelFormat {
    match format {
        TensorFormat::F16 => PanelFormat::F16,
        TensorFormat::BF16 => PanelFormat::BF16,
        TensorFormat::Q4_0 | TensorFormat::Q4_1 => PanelFormat::U4,
        TensorFormat::Q8_0 | TensorFormat::Q5_0 => PanelFormat::I8 { minimum: false },
        TensorFormat::Q5_1 => PanelFormat::I8 { minimum: true },
        TensorFormat::Q4K => PanelFormat::U4Wide,
        TensorFormat::Q5K => PanelFormat::I8Wide,
        TensorFormat::Q3K | TensorFormat::Q6K => PanelFormat::I8Short,
        TensorFormat::F32 | TensorFormat::Q2K => PanelFormat::F32,
    }
}

/// Packs a matrix into panels; rows are padded with zeros to a multiple of 16. `exact` widens
/// every weight to a float.
///
/// # Errors
/// A tensor whose bytes do not fit its shape.
pub(super) fn pack(tensor: &RawTensor, exact: bool) -> Result<(PanelFormat, Vec<u8>), String> {
    tensor.check()?;
    let panels = if exact {
        PanelFormat::F32
    } else {
        panel_format(tensor.format)
    };
    let panel_bytes = panels.panel_bytes(tensor.columns);
    let mut packed = vec![0; tensor.rows.div_ceil(WIDTH) * panel_bytes];
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
    match panels {
        PanelFormat::F32 => {
            let floats = dequantize(format, row);
            scatter(panel, lane, floats.iter().map(|x| x.to_le_bytes()));
        }
        PanelFormat::F16 | PanelFormat::BF16 => {
            scatter(panel, lane, row.as_chunks::<2>().0.iter().copied());
        }
        _ => {
            let count = SubBlock::count(format);
            let units = panel.chunks_exact_mut(count * panels.block_bytes());
            for (units, block) in units.zip(row.chunks_exact(format.block_bytes())) {
                for (n, unit) in units.chunks_exact_mut(panels.block_bytes()).enumerate() {
                    put(panels, &SubBlock::read(format, block, n), unit, lane);
                }
            }
        }
    }
}

/// Writes one row of a panel of plain numbers.
fn scatter<const N: usize>(panel: &mut [u8], lane: usize, numbers: impl Iterator<Item = [u8; N]>) {
    for (column, bytes) in panel.chunks_exact_mut(WIDTH * N).zip(numbers) {
        column[lane * N..(lane + 1) * N].copy_from_slice(&bytes);
    }
}

/// Writes one row of a unit: scale, minimum where the panel has one, codes.
fn put(panels: PanelFormat, block: &SubBlock, unit: &mut [u8], lane: usize) {
    let in_pairs = matches!(panels, PanelFormat::U4 | PanelFormat::U4Wide);
    let in_halves = matches!(panels, PanelFormat::U4 | PanelFormat::I8 { .. });
    // Codes in pairs are unsigned; those around 0 are stored 8 higher, beside a minimum of -8
    // scales. Eight is a power of two, so that product is exact.
    let (minimum, shift) = match block.minimum {
        None if in_pairs => (Some(-8.0 * block.scale), 8),
        minimum => (minimum, 0),
    };
    let mut at = 0;
    for number in [Some(block.scale), minimum].into_iter().flatten() {
        if in_halves {
            let half = f16::from_f32(number).to_le_bytes();
            unit[at + 2 * lane..][..2].copy_from_slice(&half);
            at += 2 * WIDTH;
        } else {
            unit[at + 4 * lane..][..4].copy_from_slice(&number.to_le_bytes());
            at += 4 * WIDTH;
        }
    }
    let lanes = unit[at..].iter_mut().skip(lane).step_by(WIDTH);
    if in_pairs {
        let (low, high) = block.codes().split_at(block.codes().len() / 2);
        for (to, (low, high)) in lanes.zip(low.iter().zip(high)) {
            *to = (low + shift) as u8 | ((high + shift) as u8) << 4;
        }
    } else {
        for (to, code) in lanes.zip(block.codes()) {
            *to = *code as u8;
        }
    }
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
                    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
                    // Kernels add the minimum in the same rounding as the product.
                    let limit = if exact { 0.0 } else { f32::EPSILON * largest };
                    for (a, e) in actual.iter().zip(expected) {
                        assert!((a - e).abs() <= limit, "{format}, row {row}: {a} for {e}");
                    }
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

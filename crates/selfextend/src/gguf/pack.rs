//! From ggml's row-major blocks to panels of 16 rows.

use super::{RawTensor, dequantize, k_quants};
use candle_core::quantized::GgmlDType;
use half::f16;
use k_quants::SUPER;
use rayon::prelude::*;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::{BLOCK, PanelFormat};

/// The panel format that keeps a block format's own numbers; `None` where they are widened.
fn panel_format(dtype: GgmlDType, columns: usize) -> Option<PanelFormat> {
    let blocks = columns.is_multiple_of(BLOCK);
    match dtype {
        GgmlDType::F16 => Some(PanelFormat::F16),
        GgmlDType::Q4_0 | GgmlDType::Q4_1 if blocks => Some(PanelFormat::U4),
        GgmlDType::Q8_0 | GgmlDType::Q5_0 if blocks => Some(PanelFormat::I8 { minimum: false }),
        GgmlDType::Q5_1 if blocks => Some(PanelFormat::I8 { minimum: true }),
        GgmlDType::BF16 => Some(PanelFormat::BF16),
        GgmlDType::Q4K => Some(PanelFormat::U4Wide),
        GgmlDType::Q5K => Some(PanelFormat::I8Wide),
        GgmlDType::Q3K | GgmlDType::Q6K => Some(PanelFormat::I8Short),
        _ => None,
    }
}

/// Packs a matrix into panels; rows are padded with zeros to a multiple of 16. `exact` widens
/// every weight to a float.
///
/// # Errors
/// What candle says of blocks it cannot convert.
pub(crate) fn pack(tensor: &RawTensor, exact: bool) -> Result<(PanelFormat, Vec<u8>), String> {
    let RawTensor {
        dtype,
        rows,
        columns,
        data,
        ..
    } = tensor;
    let format = panel_format(*dtype, *columns)
        .filter(|_| !exact)
        .unwrap_or(PanelFormat::F32);
    let mut packed = vec![0; rows.div_ceil(WIDTH) * format.panel_bytes(*columns)];
    let row_bytes = data.len() / rows;
    let block_bytes = dtype.type_size();
    // In parallel within a tensor too: the embedding alone is a third of a small model.
    let panels = packed.par_chunks_exact_mut(format.panel_bytes(*columns));
    let work = panels.zip(data.par_chunks(WIDTH * row_bytes));
    work.try_for_each(|(panel, rows)| {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            if format == PanelFormat::F32 {
                let floats = dequantize(*dtype, row, *columns)?;
                scatter(panel, lane, floats.iter().map(|x| x.to_le_bytes()));
            } else if matches!(format, PanelFormat::F16 | PanelFormat::BF16) {
                scatter(panel, lane, row.chunks_exact(2).map(|x| [x[0], x[1]]));
            } else if matches!(
                format,
                PanelFormat::U4Wide | PanelFormat::I8Wide | PanelFormat::I8Short
            ) {
                let units = panel.chunks_exact_mut(format.block_bytes() * (SUPER / format.block()));
                for (units, block) in units.zip(row.chunks_exact(block_bytes)) {
                    k_quants::pack(*dtype, block, units, lane);
                }
            } else {
                let units = panel.chunks_exact_mut(format.block_bytes());
                for (unit, block) in units.zip(row.chunks_exact(block_bytes)) {
                    pack_block(*dtype, block, unit, lane);
                }
            }
        }
        Ok::<_, String>(())
    })?;
    Ok((format, packed))
}

/// Writes one row of a panel of plain numbers.
fn scatter<const N: usize>(panel: &mut [u8], lane: usize, numbers: impl Iterator<Item = [u8; N]>) {
    for (column, bytes) in panel.chunks_exact_mut(WIDTH * N).zip(numbers) {
        column[lane * N..(lane + 1) * N].copy_from_slice(&bytes);
    }
}

/// Writes one block of one row. Block layouts: ggml's quantised formats, as candle documents them
/// in `quantized::k_quants`: half-float scale, then minimum, then high bits, then codes, of which
/// a byte's low half is column `c` and its high half column `c + 16`.
fn pack_block(dtype: GgmlDType, block: &[u8], unit: &mut [u8], lane: usize) {
    const HALVES: usize = 2 * WIDTH;
    let mut put_half = |at: usize, half: [u8; 2]| {
        unit[at * HALVES + 2 * lane..][..2].copy_from_slice(&half);
    };
    put_half(0, [block[0], block[1]]);
    match dtype {
        GgmlDType::Q4_1 | GgmlDType::Q5_1 => put_half(1, [block[2], block[3]]),
        GgmlDType::Q4_0 => {
            // Codes are centred on 8. Eight is a power of two: the product is exact.
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            put_half(1, f16::from_f32(-8.0 * scale).to_le_bytes());
        }
        _ => {}
    }
    let mut put_codes = |halves: usize, codes: &mut dyn Iterator<Item = u8>| {
        let from = halves * HALVES;
        for (c, code) in codes.enumerate() {
            unit[from + c * WIDTH + lane] = code;
        }
    };
    match dtype {
        GgmlDType::Q4_0 => put_codes(2, &mut block[2..].iter().copied()),
        GgmlDType::Q4_1 => put_codes(2, &mut block[4..].iter().copied()),
        GgmlDType::Q5_0 => {
            put_codes(
                1,
                &mut five_bits(&block[2..]).map(|code| code.wrapping_sub(16)),
            );
        }
        GgmlDType::Q5_1 => put_codes(2, &mut five_bits(&block[4..])),
        _ => put_codes(1, &mut block[2..].iter().copied()),
    }
}

/// The 32 codes of a 5-bit block: four bytes of high bits, then sixteen bytes of low halves.
fn five_bits(block: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    let codes = &block[4..];
    (0..BLOCK).map(move |c| {
        let low = if c < 16 {
            codes[c] & 15
        } else {
            codes[c - 16] >> 4
        };
        low | ((high >> c & 1) as u8) << 4
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::CpuMatrix;
    use candle_core::{Device, Tensor, quantized::QTensor};

    /// Every format candle reads gives back candle's own dequantised numbers.
    #[test]
    fn panels_hold_what_candle_reads() {
        use GgmlDType::*;
        let device = Device::Cpu;
        for dtype in [
            F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K,
        ] {
            let (rows, columns) = (19, 512);
            let source = Tensor::randn(0f32, 1.0, (rows, columns), &device).unwrap();
            let quantised = QTensor::quantize(&source, dtype).unwrap();
            let expected: Vec<Vec<f32>> = quantised.dequantize(&device).unwrap().to_vec2().unwrap();
            let data = quantised.data().unwrap().into_owned();
            for exact in [false, true] {
                let raw = RawTensor {
                    name: "test".into(),
                    dtype,
                    rows,
                    columns,
                    data: data.clone(),
                };
                let matrix = CpuMatrix::new(raw, exact).unwrap();
                for (row, expected) in expected.iter().enumerate() {
                    let mut actual = vec![0.0; columns];
                    matrix.row(row, &mut actual);
                    // One rounding apart: candle subtracts before it scales.
                    for (a, e) in actual.iter().zip(expected) {
                        assert!(
                            (a - e).abs() <= 4.0 * f32::EPSILON * e.abs().max(1.0),
                            "{dtype:?}: {a} for {e}"
                        );
                    }
                }
            }
        }
    }
}

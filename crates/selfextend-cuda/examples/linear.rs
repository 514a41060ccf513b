//! Linear layers in every weight format: microseconds and bytes of weights per second for few
//! tokens, and the price of unpacking for many, beside cuBLAS on 16-bit weights. Prints a JSON line
//! for each.
//!
//! `linear [OUTPUTS INPUTS]`, 4096 by 14336 without.

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use half::f16;
use selfextend_cuda::ops::{Buffer, Ops};
use selfextend_cuda::{CudaError, Device, Format, LinearScratch, Matrix};
use serde_json::json;

/// Weights that the passes of one timing go round, so that none is left in the second-level cache.
const BYTES: usize = 300 << 20;

/// Any bytes, none of which makes a half float that is no number.
fn bytes(len: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let next = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8 & 0x3b
    };
    (0..len).map(next).collect()
}

struct Bench {
    device: Device,
    ops: Ops<f16>,
}

impl Bench {
    /// Microseconds of one call, the median of some rounds over all matrices.
    fn time(
        &self,
        matrices: &[Matrix<f16>],
        mut call: impl FnMut(&Matrix<f16>) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError> {
        let stream = self.device.stream();
        let mut round = || -> Result<f64, CudaError> {
            let start = stream.record_event(Some(CU_EVENT_DEFAULT))?;
            matrices.iter().try_for_each(&mut call)?;
            let end = stream.record_event(Some(CU_EVENT_DEFAULT))?;
            Ok(f64::from(start.elapsed_ms(&end)?) * 1e3 / matrices.len() as f64)
        };
        round()?;
        let mut rounds = (0..9).map(|_| round()).collect::<Result<Vec<_>, _>>()?;
        rounds.sort_by(f64::total_cmp);
        Ok(rounds[4])
    }

    fn measure(&self, name: &str, matrices: &[Matrix<f16>]) -> Result<(), CudaError> {
        let (inputs, bytes) = (matrices[0].inputs(), matrices[0].bytes());
        let (mut out, mut scratch) = (Buffer::default(), LinearScratch::default());
        let (mut narrow, mut unpacked) = (Buffer::default(), Buffer::default());
        for tokens in [1, 2, 4, 8, 512, 2048] {
            let mut x = Buffer::default();
            x.write(&self.device, &vec![0.5; tokens * inputs])?;
            self.ops.narrow(&x, &mut narrow)?;
            let ours = self.time(matrices, |matrix| {
                self.ops.linear(&x, [matrix], [&mut out], &mut scratch)
            })?;
            let product = self.time(matrices, |matrix| {
                self.ops.product(&narrow, matrix, &mut unpacked, &mut out)
            })?;
            println!(
                "{}",
                json!({
                    "what": "linear", "format": name, "tokens": tokens, "bytes": bytes,
                    "us": ours, "gb_s": bytes as f64 / ours * 1e-3, "cublas_us": product,
                })
            );
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .map(|size| size.parse())
        .collect::<Result<_, _>>()?;
    let [outputs, inputs] = match sizes[..] {
        [] => [4096, 14_336],
        [outputs, inputs] => [outputs, inputs],
        _ => return Err("usage: linear [OUTPUTS INPUTS]".into()),
    };
    let device = Device::new(0)?;
    println!(
        "{}",
        json!({"card": device.name()?, "outputs": outputs, "inputs": inputs})
    );
    let bench = Bench {
        ops: Ops::new(&device)?,
        device,
    };
    let numbers: Vec<f16> = bytes(2 * outputs * inputs)
        .chunks_exact(2)
        .map(|x| f16::from_le_bytes([x[0], x[1]]))
        .collect();
    let several = |of: &dyn Fn() -> Result<Matrix<f16>, CudaError>| {
        let first = of()?;
        let count = (BYTES / first.bytes()).clamp(2, 64);
        let others = (1..count).map(|_| of());
        [Ok(first)]
            .into_iter()
            .chain(others)
            .collect::<Result<Vec<_>, _>>()
    };
    let plain = several(&|| Matrix::new(&bench.device, &numbers, outputs, inputs))?;
    bench.measure("F16", &plain)?;
    drop(plain);
    for (format, block, size) in [
        (Format::Q4_0, 32, 18),
        (Format::Q4_1, 32, 20),
        (Format::Q5_0, 32, 22),
        (Format::Q5_1, 32, 24),
        (Format::Q8_0, 32, 34),
        (Format::Q2K, 256, 84),
        (Format::Q3K, 256, 110),
        (Format::Q4K, 256, 144),
        (Format::Q5K, 256, 176),
        (Format::Q6K, 256, 210),
        (Format::IQ4NL, 32, 18),
        (Format::IQ4XS, 256, 136),
        (Format::MXFP4, 32, 17),
    ] {
        let blocks = bytes(outputs * inputs / block * size);
        let packed = || Matrix::packed(&bench.device, format, &blocks, outputs, inputs);
        bench.measure(&format!("{format:?}"), &several(&packed)?)?;
    }
    Ok(())
}

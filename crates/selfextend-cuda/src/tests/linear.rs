//! Linear layers against f64 products of the weights that the `gguf` package reads from the same
//! blocks.

use super::{Half, device, ops::random};
use crate::linear::{FEW, LinearScratch};
use crate::matrix::Matrix;
use crate::ops::{Buffer, Ops};
use crate::packed::Format;
use crate::{CudaError, Device};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(super) const FORMATS: [(Format, &str); 13] = [
    (Format::Q4_0, "Q4_0"),
    (Format::Q4_1, "Q4_1"),
    (Format::Q5_0, "Q5_0"),
    (Format::Q5_1, "Q5_1"),
    (Format::Q8_0, "Q8_0"),
    (Format::Q3K, "Q3_K"),
    (Format::Q4K, "Q4_K"),
    (Format::Q5K, "Q5_K"),
    (Format::Q6K, "Q6_K"),
    (Format::Q2K, "Q2_K"),
    (Format::IQ4NL, "IQ4_NL"),
    (Format::IQ4XS, "IQ4_XS"),
    (Format::MXFP4, "MXFP4"),
];

/// Numbers in a block.
pub(super) fn block_len(format: Format) -> usize {
    match format {
        Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K | Format::IQ4XS => 256,
        _ => 32,
    }
}

/// Outputs and inputs: units of one block and of four, rows that no block of threads divides.
fn shapes(format: Format) -> &'static [[usize; 2]] {
    match block_len(format) {
        256 => &[[1, 256], [70, 768], [131, 2304]],
        _ => &[[1, 32], [5, 96], [70, 576], [3, 128], [131, 1152]],
    }
}

/// A matrix's blocks and its numbers: random ones of those that tools/make_blocks.py wrote, with the
/// numbers that the `gguf` package reads from them.
pub(super) fn blocks(
    name: &str,
    format: Format,
    count: usize,
    rng: &mut StdRng,
) -> (Vec<u8>, Vec<f32>) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../selfextend/tests/blocks");
    let file = std::fs::read(format!("{folder}/{name}.bin")).unwrap();
    let length = block_len(format);
    let known = if length == 32 { 32 } else { 8 };
    let (data, words) = file.split_at(file.len() - known * length * 4);
    let words = words.chunks_exact(4);
    let floats: Vec<f32> = words
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let size = data.len() / known;
    let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        // The last quarter has scales that no weights have.
        let n = rng.random_range(0..known * 3 / 4);
        bytes.extend_from_slice(&data[n * size..][..size]);
        numbers.extend_from_slice(&floats[n * length..][..length]);
    }
    (bytes, numbers)
}

pub(super) fn with_ops<T: Half>(run: impl Fn(&Device, &Ops<T>)) {
    let Some(device) = device() else { return };
    match Ops::new(&device) {
        Ok(ops) => run(&device, &ops),
        Err(error) => eprintln!("skipped: {error}"),
    }
}

/// The error rule. Sums of few rows are f32 all the way: they are off by some of the roundings of
/// their terms, and a weight by those of its block's scale and minimum, which are about as large as
/// the row's largest weight. For many rows, weights and activations are rounded to 16 bits once.
fn check<T: Half>(what: &str, product: &[f32], weights: &[f32], x: &[f32], tokens: usize) {
    let inputs = x.len() / tokens;
    let mut rows = weights.chunks(inputs).map(|row| {
        let largest = row.iter().fold(0f32, |most, w| most.max(w.abs()));
        (row, f64::from(largest))
    });
    let outputs = product.len() / tokens;
    assert_eq!(outputs, rows.len());
    for (output, (row, largest)) in rows.by_ref().enumerate() {
        for (token, x) in x.chunks(inputs).enumerate() {
            let (mut exact, mut sizes, mut all) = (0.0, 0.0, 0.0);
            for (&w, &x) in row.iter().zip(x) {
                let (w, x) = (f64::from(w), f64::from(x));
                exact += w * x;
                sizes += (w * x).abs();
                all += largest * x.abs();
            }
            let mut limit = (sizes + all) / f64::from(1 << 22);
            if tokens > FEW {
                limit += 2.1 * T::UNIT * sizes;
            }
            let actual = product[token * outputs + output];
            assert!(
                (f64::from(actual) - exact).abs() <= limit,
                "{what}, {tokens} tokens: row {output} of token {token} is {actual} for {exact}"
            );
        }
    }
}

/// Products of every number of tokens by one matrix, with the same buffers.
fn products<T: Half>(
    (device, ops): (&Device, &Ops<T>),
    what: &str,
    matrix: &Matrix<T>,
    weights: &[f32],
    rng: &mut StdRng,
) {
    let (mut scratch, mut out) = (LinearScratch::default(), Buffer::default());
    let mut twice = Buffer::default();
    for tokens in [40, 1, 2, 3, 5, 8, 9] {
        let numbers = random(rng, tokens * matrix.inputs());
        let mut x = Buffer::default();
        x.write(device, &numbers).unwrap();
        let both = [&mut out, &mut twice];
        ops.linear(&x, [matrix, matrix], both, &mut scratch)
            .unwrap();
        let product = out.read(device).unwrap();
        check::<T>(what, &product, weights, &numbers, tokens);
        assert_eq!(product, twice.read(device).unwrap(), "{what}");
    }
}

fn every_format<T: Half>() {
    with_ops::<T>(|device, ops| {
        let mut rng = StdRng::seed_from_u64(11);
        for (format, name) in FORMATS {
            for &[outputs, inputs] in shapes(format) {
                let count = outputs * inputs / block_len(format);
                let (blocks, weights) = blocks(name, format, count, &mut rng);
                let matrix = Matrix::packed(device, format, &blocks, outputs, inputs).unwrap();
                let what = format!("{name} [{outputs}, {inputs}]");
                products((device, ops), &what, &matrix, &weights, &mut rng);
                // Scales of 256 columns in bytes rather than 6 bits, and gaps between planes.
                let more = blocks.len() / 32 + 1024;
                if format != Format::Q3K {
                    assert!(matrix.bytes() <= blocks.len() + more, "{what}");
                }

                let wanted: Vec<u32> = (0..outputs as u32).rev().step_by(3).collect();
                let mut out = Buffer::default();
                ops.embed(&matrix, &wanted, &mut out).unwrap();
                let out = out.read(device).unwrap();
                assert_eq!(out.len(), wanted.len() * inputs);
                for (&row, actual) in wanted.iter().zip(out.chunks(inputs)) {
                    let expected = &weights[row as usize * inputs..][..inputs];
                    let largest = expected.iter().fold(0f32, |most, w| most.max(w.abs()));
                    for (n, (a, e)) in actual.iter().zip(expected).enumerate() {
                        let error = (a - e).abs();
                        let limit = 8.0 * f32::EPSILON * largest;
                        assert!(error <= limit, "{what}: row {row}, column {n}: {a} for {e}");
                    }
                }
                let past = [outputs as u32];
                assert!(ops.embed(&matrix, &past, &mut Buffer::default()).is_err());
            }
        }
        // Rows that loads of 16 bytes fit, and others.
        for [outputs, inputs] in [[1, 8], [70, 576], [5, 7], [131, 1154]] {
            let numbers: Vec<T> = random(&mut rng, outputs * inputs)
                .into_iter()
                .map(T::round)
                .collect();
            let weights: Vec<f32> = numbers.iter().map(|w| w.wide() as f32).collect();
            let matrix = Matrix::new(device, &numbers, outputs, inputs).unwrap();
            let what = format!("{} [{outputs}, {inputs}]", T::NAME);
            products((device, ops), &what, &matrix, &weights, &mut rng);
        }
    });
}

/// Floats are multiplied as floats, by few rows and by many.
#[test]
fn floats_are_not_rounded() {
    with_ops::<half::bf16>(|device, ops| {
        let mut rng = StdRng::seed_from_u64(12);
        for [outputs, inputs] in [[1, 8], [70, 576], [5, 7], [131, 1154]] {
            let weights = random(&mut rng, outputs * inputs);
            let matrix = Matrix::wide(device, &weights, outputs, inputs).unwrap();
            let (mut scratch, mut out) = (LinearScratch::default(), Buffer::default());
            for tokens in [40, 1, 3, 8, 9] {
                let numbers = random(&mut rng, tokens * inputs);
                let mut x = Buffer::default();
                x.write(device, &numbers).unwrap();
                ops.linear(&x, [&matrix], [&mut out], &mut scratch).unwrap();
                for (t, (x, out)) in numbers
                    .chunks(inputs)
                    .zip(out.read(device).unwrap().chunks(outputs))
                    .enumerate()
                {
                    for (row, actual) in weights.chunks(inputs).zip(out) {
                        let terms = row
                            .iter()
                            .zip(x)
                            .map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let (exact, sizes) =
                            (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
                        let error = (f64::from(*actual) - exact).abs();
                        assert!(error <= sizes / f64::from(1 << 21), "{tokens}, token {t}");
                    }
                }
            }
        }
    });
}

#[test]
fn f16() {
    every_format::<half::f16>();
}

#[test]
fn bf16() {
    every_format::<half::bf16>();
}

#[test]
fn what_is_no_matrix_is_refused() {
    with_ops::<half::f16>(|device, _| {
        let packed = |format, bytes: usize, outputs, inputs| {
            Matrix::<half::f16>::packed(device, format, &vec![0; bytes], outputs, inputs)
        };
        assert!(packed(Format::Q4_0, 36, 2, 32).is_ok());
        for refused in [
            packed(Format::Q4_0, 35, 2, 32),
            packed(Format::Q4_0, 36, 4, 16),
            packed(Format::Q6K, 210, 8, 32),
            packed(Format::Q8_0, 0, 0, 32),
            packed(Format::Q8_0, 0, 32, 0),
        ] {
            assert!(matches!(refused, Err(CudaError::Shape(_))), "{refused:?}");
        }
    });
}

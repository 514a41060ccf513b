//! Formats that stay in the blocks of their file: what the device reads from them is what the `gguf`
//! package reads (tools/make_blocks.py wrote both), and products are those of these numbers.

use crate::rule::{BF16, F16, IN_BLOCKS};
use selfextend::TensorFormat;
use selfextend::backend::Backend;
use selfextend::backend::cuda::{Cuda, Half};
use selfextend::tensor::RawTensor;
use std::path::Path;

/// Blocks of usual scales, and their numbers.
fn blocks(format: TensorFormat) -> (Vec<u8>, Vec<f32>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blocks");
    let file = std::fs::read(folder.join(format!("{format}.bin"))).unwrap();
    let (len, bytes) = (format.block_len(), format.block_bytes());
    let count = file.len() / (bytes + 4 * len);
    let (mut data, numbers) = (file[..count * bytes].to_vec(), &file[count * bytes..]);
    let words = numbers.chunks_exact(4);
    let mut floats: Vec<f32> = words
        .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    // As many as fill whole rows of 256 columns.
    let usual = count * 3 / 4 * len / 256 * 256;
    data.truncate(usual / len * bytes);
    floats.truncate(usual);
    (data, floats)
}

fn every_format<T: Half>(unit: f64) {
    let backend = match Cuda::<T>::new(0) {
        Ok(backend) => backend,
        Err(error) => {
            let required = std::env::var("SELFEXTEND_CUDA").is_ok_and(|it| it == "required");
            assert!(!required, "{error}");
            eprintln!("skipped: {error}");
            return;
        }
    };
    let columns = 256;
    for format in IN_BLOCKS {
        let (data, floats) = blocks(format);
        let rows = floats.len() / columns;
        let bytes = data.len();
        let tensor = |format, data, rows| RawTensor {
            name: "test".into(),
            format,
            rows,
            columns,
            data,
        };
        let matrix = backend.matrix(tensor(format, data, rows)).unwrap();
        assert_eq!(backend.matrix_bytes(&matrix), bytes, "{format}");
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        let mut taken = Default::default();
        backend.embed(&matrix, &ids, &mut taken);
        let taken = backend.read(&taken);
        let expected: Vec<f32> = floats.chunks(columns).rev().flatten().copied().collect();
        assert!(taken[..] == expected[..], "{format}");

        for tokens in [1, 40] {
            let numbers: Vec<f32> = (0..tokens * columns)
                .map(|n| ((n * 37 % 101) as f32 - 50.0) / 64.0)
                .collect();
            let given = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let table = tensor(TensorFormat::F32, given, tokens);
            let table = backend.router(table).unwrap();
            let (mut x, mut out) = (Default::default(), Default::default());
            let ids: Vec<u32> = (0..tokens as u32).collect();
            backend.embed(&table, &ids, &mut x);
            assert!(backend.read(&x)[..] == numbers[..]);
            let scratch = &mut Default::default();
            backend.linear(&x, [&matrix], [&mut out], scratch);
            let out = backend.read(&out);
            for (x, out) in numbers.chunks(columns).zip(out.chunks(rows)) {
                for (row, actual) in floats.chunks(columns).zip(out) {
                    let terms = row
                        .iter()
                        .zip(x)
                        .map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let exact: f64 = terms.clone().sum();
                    let sizes: f64 = terms.map(f64::abs).sum();
                    let error = (f64::from(*actual) - exact).abs();
                    assert!(
                        error <= 2.1 * unit * sizes,
                        "{format}: {actual} for {exact}"
                    );
                }
            }
        }
        backend.finish().unwrap();
    }
}

#[test]
fn f16() {
    every_format::<half::f16>(F16);
}

#[test]
fn bf16() {
    every_format::<half::bf16>(BF16);
}

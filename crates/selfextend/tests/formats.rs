//! Every format of tensors, from a file to logits: those of a file that holds the same weights as
//! floats. What the weights are is decided elsewhere: `tensor/tests.rs` has the numbers of the `gguf`
//! package.

mod common;

use common::gguf::Tensor;
use common::{session, write_tiny, write_tiny_with};
use selfextend::tensor::RawTensor;
use selfextend::{KvType, LinearMode, LoadOptions, Model, PositionMap, TensorFormat};
use std::path::Path;

const VOCAB: usize = 48;
const TOKENS: u32 = 40;

/// Logits of some tokens, in chunks.
fn logits(path: &Path, linear: LinearMode, chunk: usize) -> Vec<f32> {
    let options = LoadOptions::new().with_threads(2).with_linear(linear);
    let model = Model::load(path, options).unwrap_or_else(|error| panic!("{error}"));
    let map = PositionMap::self_extend(4, 16).unwrap();
    let mut session = session(&model, map, KvType::F32, chunk);
    let ids: Vec<u32> = (0..TOKENS)
        .map(|n| (n * n + n / 3) % VOCAB as u32)
        .collect();
    let mut all = Vec::new();
    let visit = |_, row: &[f32]| all.extend_from_slice(row);
    session.append_all(&ids, visit).unwrap();
    all
}

/// The same model with its matrices as floats.
fn write_floats(path: &Path, format: TensorFormat) {
    write_tiny_with(path, format, VOCAB, |tensors| {
        for (name, tensor) in tensors {
            if let [rows, columns] = tensor.shape[..] {
                let raw = RawTensor {
                    name: name.clone(),
                    format,
                    rows,
                    columns,
                    data: std::mem::take(&mut tensor.bytes),
                };
                *tensor = Tensor::f32(&[rows, columns], &raw.to_floats());
            }
        }
    });
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let errors = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // A number that is none fails whatever it is compared with.
    errors.fold(0.0, |worst, e| if e <= worst { worst } else { e })
}

#[test]
fn logits_are_those_of_the_same_weights_as_floats() {
    let folder = tempfile::tempdir().unwrap();
    let (packed, floats) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    for format in TensorFormat::ALL {
        write_tiny(&packed, format, VOCAB);
        write_floats(&floats, format);
        let expected = logits(&floats, LinearMode::F32, TOKENS as usize);
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(largest > 1.0 && largest < 1e3, "{format}: {largest}");
        let widened = logits(&packed, LinearMode::F32, TOKENS as usize);
        assert_eq!(widened, expected, "{format}");
        // Activations that quantised weights meet are rounded to 15 bits or 8, in every product of
        // two layers.
        for (linear, limit) in [
            (LinearMode::Rounded, 2e-4),
            (LinearMode::Fast, 128.0 * 2e-4),
        ] {
            for chunk in [TOKENS as usize, 3, 1] {
                let error = worst(&logits(&packed, linear, chunk), &expected);
                assert!(
                    error <= limit * largest,
                    "{format} {linear:?} in chunks of {chunk}: off by {error} of {largest}"
                );
            }
        }
    }
}

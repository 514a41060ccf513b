//! A weight that is no number is found where it first shows.

mod common;

use common::checkpoints;
use safetensors::SafeTensors;
use selfextend::{Error, KvType, LoadOptions, Model, PositionMap};
use std::path::Path;

const IDS: [u32; 20] = [
    3, 8, 21, 40, 5, 5, 17, 2, 33, 29, 60, 11, 7, 48, 13, 9, 1, 25, 31, 44,
];

/// A checkpoint with the first number of a tensor replaced.
fn with_weight(checkpoint: &Path, tensor: &str, value: f32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path();
    std::fs::copy(checkpoint.join("config.json"), to.join("config.json")).unwrap();
    let mut bytes = std::fs::read(checkpoint.join("model.safetensors")).unwrap();
    let at = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor(tensor).unwrap().data();
        data.as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(to.join("model.safetensors"), bytes).unwrap();
    folder
}

fn error(folder: &Path, check: bool, chunk: usize) -> Error {
    let options = LoadOptions::new().with_threads(2).with_check(check);
    let model = Model::load(folder, options).unwrap();
    let mut session = common::session(&model, PositionMap::Plain, KvType::F32, chunk);
    let error = session.append_all(&IDS, |_, _| ()).unwrap_err();
    assert_eq!(session.len(), 0);
    let scored = session.score(&IDS, &IDS, |_, _| ()).unwrap_err();
    // Unchecked, the two see another number first.
    if check {
        assert_eq!(error.to_string(), scored.to_string());
    }
    error
}

#[test]
fn a_check_names_the_first_operation_whose_output_is_not_finite() {
    let layer = |n: usize, name: &str| format!("model.layers.{n}.{name}.weight");
    let neox = |n: usize, name: &str| format!("gpt_neox.layers.{n}.{name}");
    let cases = [
        (
            "qwen2",
            layer(1, "input_layernorm"),
            Some(1),
            "attention norm",
        ),
        ("qwen2", layer(0, "self_attn.q_proj"), Some(0), "queries"),
        ("qwen2", layer(1, "self_attn.k_proj"), Some(1), "keys"),
        ("gemma3", layer(4, "self_attn.k_norm"), Some(4), "keys"),
        ("gemma3", layer(3, "self_attn.v_proj"), Some(3), "values"),
        (
            "gemma3",
            layer(2, "self_attn.o_proj"),
            Some(2),
            "attention (its output",
        ),
        (
            "gemma3",
            layer(2, "post_attention_layernorm"),
            Some(2),
            "norm after attention",
        ),
        (
            "qwen2",
            layer(1, "post_attention_layernorm"),
            Some(1),
            "MLP's norm",
        ),
        (
            "qwen2",
            layer(0, "mlp.up_proj"),
            Some(0),
            "MLP (its activations)",
        ),
        (
            "qwen2",
            layer(1, "mlp.down_proj"),
            Some(1),
            "MLP (its output",
        ),
        (
            "gemma3",
            layer(1, "post_feedforward_layernorm"),
            Some(1),
            "norm after the MLP",
        ),
        ("qwen2", "model.norm.weight".into(), None, "output norm"),
        ("qwen2", "lm_head.weight".into(), None, "head"),
        (
            "pythia",
            neox(1, "attention.dense.bias"),
            Some(1),
            "attention (its output",
        ),
        (
            "pythia",
            neox(0, "mlp.dense_4h_to_h.bias"),
            Some(0),
            "MLP (its output",
        ),
    ];
    for (name, tensor, expected, words) in cases {
        let mut all = checkpoints().into_iter();
        let path = all.find(|path| path.ends_with(name)).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let folder = with_weight(&path, &tensor, value);
            for chunk in [1, 64] {
                let unasked = error(folder.path(), false, chunk);
                assert!(matches!(unasked, Error::NotFinite { .. }), "{unasked}");
                let told = error(folder.path(), true, chunk);
                let Error::NotFiniteIn {
                    operation, layer, ..
                } = told
                else {
                    panic!("{tensor}: {told}");
                };
                assert_eq!(layer, expected, "{tensor}: {operation}");
                assert!(operation.contains(words), "{tensor}: {operation}");
            }
        }
    }
}

#[test]
fn a_check_changes_no_result() {
    for path in checkpoints() {
        let logits = |check| {
            let options = LoadOptions::new().with_threads(1).with_check(check);
            let model = Model::load(&path, options).unwrap();
            let mut session = common::session(&model, PositionMap::Plain, KvType::F16, 7);
            session.append(&IDS).unwrap()
        };
        assert_eq!(logits(false), logits(true), "{}", path.display());
    }
}

//! What files say in more than one way, or leave to a default, means what their references make of
//! it. tests/configs.rs compares config.json with `transformers`; the values here are those of
//! llama.cpp's `load_hparams`, or of a model's card.

mod common;

use common::gguf::{self, Field};
use common::{Golden, checkpoints};
use selfextend::config::ModelConfig;
use selfextend::{KvType, LoadOptions, Model, ModelFile, PositionMap, RopeScaling};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn checkpoint(name: &str) -> PathBuf {
    let found = checkpoints().into_iter().find(|path| path.ends_with(name));
    found.unwrap_or_else(|| panic!("no checkpoint {name}"))
}

/// The configuration of a checkpoint's GGUF file with some keys changed, added or removed.
fn gguf_with(name: &str, changes: &[(&str, Option<Field>)]) -> ModelConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&path, name, changes);
    ModelFile::open(&path).unwrap().config().unwrap()
}

fn write_gguf(path: &Path, name: &str, changes: &[(&str, Option<Field>)]) {
    let (mut fields, tensors) = gguf::read(&checkpoint(name).join("model.gguf"));
    for (key, value) in changes {
        fields.retain(|(name, _)| name != key);
        let new = value.clone();
        fields.extend(new.map(|value| (key.to_string(), value)));
    }
    gguf::write(path, &fields, &tensors);
}

/// The configuration of a checkpoint's folder with some options changed.
fn folder_with(name: &str, changes: &[(&str, Value)]) -> Result<ModelConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let source = checkpoint(name);
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let weights = "model.safetensors";
    std::fs::copy(source.join(weights), folder.path().join(weights)).unwrap();
    match Model::load(folder.path(), LoadOptions::new().with_threads(1)) {
        Ok(model) => Ok(model.config().clone()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn linear_scaling_has_an_old_key_and_needs_no_type() {
    let four = || Some(Field::f32(4.0));
    let linear = [
        ("llama.rope.scaling.type", Some(Field::text("linear"))),
        ("llama.rope.scaling.factor", four()),
    ];
    let expected = gguf_with("llama", &linear);
    assert_eq!(expected.rope.scaling, RopeScaling::Linear { factor: 4.0 });
    for key in ["llama.rope.scale_linear", "llama.rope.scaling.factor"] {
        assert_eq!(gguf_with("llama", &[(key, four())]), expected, "{key}");
    }
    let off = [
        ("llama.rope.scaling.type", Some(Field::text("none"))),
        ("llama.rope.scaling.factor", four()),
    ];
    assert_eq!(gguf_with("llama", &off), gguf_with("llama", &[]));
}

#[test]
fn attention_factors_multiply_whatever_the_scaling() {
    let half = ("llama.rope.scaling.attn_factor", Some(Field::f32(0.5)));
    let RopeScaling::Yarn { magnitude, .. } = gguf_with("llama-yarn", std::slice::from_ref(&half))
        .rope
        .scaling
    else {
        panic!("not YaRN");
    };
    assert_eq!(magnitude, Some(0.5 * (0.1 * 4f64.ln() + 1.0)));
    for name in ["llama", "llama-linear"] {
        let scaling = gguf_with(name, std::slice::from_ref(&half)).rope.scaling;
        let RopeScaling::LongRope { factors, magnitude } = scaling else {
            panic!("{scaling:?}");
        };
        assert_eq!(magnitude, 0.5);
        let divisor = if name == "llama" { 1.0 } else { factors[0] };
        assert!(factors.iter().all(|&factor| factor == divisor));
    }
}

/// Qwen's cards: `max_position_embeddings` stays the window before the scaling.
#[test]
fn the_window_of_yarn_is_what_it_reaches() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 96});
    let config = folder_with("qwen2", &[("rope_scaling", yarn)]).unwrap();
    assert_eq!(config.trained_window, 4 * 96);
    // Without the original window, it is the given one; where both are given, the larger one counts.
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    let config = folder_with("qwen2", &[("rope_scaling", yarn)]).unwrap();
    assert_eq!(config.trained_window, 4 * 96);
    assert_eq!(folder_with("llama-yarn", &[]).unwrap().trained_window, 96);
    let gguf = [
        ("qwen2.rope.scaling.type", Some(Field::text("yarn"))),
        ("qwen2.rope.scaling.factor", Some(Field::f32(4.0))),
    ];
    assert_eq!(gguf_with("qwen2", &gguf).trained_window, 4 * 96);
}

/// llama.cpp's converter writes `use_parallel_residual` as true where config.json lacks it.
#[test]
fn blocks_of_stablelm_are_parallel_where_their_norm_is_missing() {
    let key = "stablelm.use_parallel_residual";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for name in ["stablelm", "stablelm-parallel"] {
        let golden = Golden::read(&checkpoint(name).join("reference.safetensors"));
        let said = [Some(true), Some(false), None];
        for said in said.map(|said| {
            said.map(|said| Field {
                kind: 7,
                bytes: vec![said.into()],
            })
        }) {
            write_gguf(&path, name, &[(key, said)]);
            let model = Model::load(&path, LoadOptions::new().with_threads(1)).unwrap();
            assert_eq!(model.config().parallel, name == "stablelm-parallel");
            let mut session = common::session(&model, PositionMap::Plain, KvType::F32, 72);
            let mut logits = Vec::new();
            let visit = |_, row: &[f32]| logits.extend_from_slice(row);
            session.append_all(&golden.ids("ids"), visit).unwrap();
            let expected = golden.floats("logits");
            let errors = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            assert!(errors.fold(0.0, f32::max) < 1e-4, "{name}");
        }
    }
}

#[test]
fn gemma_2_has_its_window_and_caps_without_their_keys() {
    let config = gguf_with(
        "gemma2",
        &[
            ("gemma2.attention.sliding_window", None),
            ("gemma2.attn_logit_softcapping", None),
            ("gemma2.final_logit_softcapping", None),
        ],
    );
    let windows: Vec<_> = config.attention.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(4096), None, Some(4096)]);
    assert_eq!(config.attention_soft_cap, Some(50.0));
    assert_eq!(config.logit_soft_cap, Some(30.0));
}

#[test]
fn sizes_may_be_lists_of_equal_numbers() {
    let list = |n: u32| {
        let bytes = [n.to_le_bytes(), n.to_le_bytes()].concat();
        Some(Field::array(4, 2, bytes))
    };
    let key = "llama.attention.head_count_kv";
    assert_eq!(
        gguf_with("llama", &[(key, list(2))]),
        gguf_with("llama", &[])
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let differing = Field::array(4, 2, [2u32.to_le_bytes(), 4u32.to_le_bytes()].concat());
    write_gguf(&path, "llama", &[(key, Some(differing))]);
    let error = ModelFile::open(&path).unwrap().config().unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
}

/// `transformers` 4 overwrites the head, 5 keeps one that differs.
#[test]
fn a_head_beside_a_tied_embedding_is_used_or_refused() {
    let tied = |version: &str| {
        let version = ("transformers_version", json!(version));
        folder_with("llama", &[("tie_word_embeddings", json!(true)), version])
    };
    let error = tied("4.56.2").unwrap_err();
    assert!(error.contains("lm_head.weight differs"), "{error}");
    assert!(tied("5.24.0").is_ok());
}

#[test]
fn biases_that_config_json_rules_out_are_refused() {
    let error = folder_with("llama-biased", &[("attention_bias", json!(false))]).unwrap_err();
    assert!(error.contains(".bias"), "{error}");
    let error = folder_with("llama", &[("mlp_bias", json!(true))]).unwrap_err();
    assert!(error.contains(".bias is missing"), "{error}");
}

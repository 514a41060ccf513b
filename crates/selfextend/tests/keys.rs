//! Every key of a checkpoint changes the model, is refused, or is known to be harmless.

mod common;

use common::{Golden, checkpoints, gguf};
use gguf::Field;
use selfextend::config::ModelConfig;
use selfextend::keys::{Key, KeyUsage};
use selfextend::{KvType, LoadOptions, Model, ModelFile, PositionMap};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a model is and computes, without its name.
#[derive(PartialEq)]
struct Outcome {
    config: ModelConfig,
    logits: Vec<u32>,
}

fn outcome(path: &Path, ids: &[u32]) -> Result<Outcome, String> {
    let options = LoadOptions::new().with_threads(1);
    let model = Model::load(path, options).map_err(|error| error.to_string())?;
    let options = common::options(&model, PositionMap::Plain, KvType::F32, 64);
    let mut session = model.session(options).map_err(|error| error.to_string())?;
    let mut logits = Vec::new();
    session
        .append_all(ids, |_, row: &[f32]| {
            logits.extend(row.iter().map(|x| x.to_bits()));
        })
        .map_err(|error| error.to_string())?;
    Ok(Outcome {
        config: model.config().clone(),
        logits,
    })
}

fn usage(path: &Path, name: &str) -> KeyUsage {
    let keys = ModelFile::open(path).unwrap().keys().unwrap();
    let find = |key: &&Key| key.name == name;
    let found = keys.iter().find(find);
    found
        .unwrap_or_else(|| panic!("nothing is said of {name}"))
        .usage
}

/// Keys that the tokenizer, the chat or the caller reads, and the one that says what becomes of an
/// output head beside a tied embedding: no pass over tokens shows them.
fn read_elsewhere(name: &str) -> bool {
    [
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "transformers_version",
    ]
    .contains(&name)
        || name.starts_with("tokenizer.")
        || ["general.name", "_name_or_path"].contains(&name)
}

/// Judges one changed key.
fn judge(path: &Path, name: &str, ids: &[u32], before: &Outcome, value: &str) {
    let Ok(after) = outcome(path, ids) else {
        return;
    };
    let what = format!("{}: {name} = {value}", path.display());
    match usage(path, name) {
        KeyUsage::Used if read_elsewhere(name) => {}
        KeyUsage::Used => assert!(after != *before, "{what} is used, but changes nothing"),
        KeyUsage::Harmless(why) => assert!(after == *before, "{what}: {why}, but changes it"),
        _ => panic!("{what}: nobody asked to ignore it"),
    }
}

/// Other values of the type of a value.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Number(n) if n.is_u64() => {
            let n = n.as_u64().unwrap();
            vec![json!(n + 1), json!(2 * n + 2), json!(n / 2)]
        }
        Value::Number(x) => vec![json!(x.as_f64().unwrap() * 1.5 + 0.25)],
        Value::String(text) if text == "silu" => vec![json!("other"), json!("gelu")],
        Value::String(_) => vec![json!("other"), json!("silu")],
        Value::Array(list) => vec![list.iter().rev().cloned().collect(), json!([])],
        Value::Null => vec![json!(3), json!(true)],
        Value::Object(_) => vec![json!({"other": 1})],
    }
}

/// The paths of all values that are no objects.
fn leaves(value: &Value, path: Vec<String>, all: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                leaves(value, [path.clone(), vec![key.clone()]].concat(), all);
            }
        }
        _ => all.push(path),
    }
}

fn copied(source: &Path, config: &Value) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    for file in std::fs::read_dir(source).unwrap() {
        let name = file.unwrap().file_name();
        if name.to_string_lossy().starts_with("model") {
            std::fs::copy(source.join(&name), path.join(&name)).unwrap();
        }
    }
    (folder, path)
}

fn config_of(source: &Path) -> Value {
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Keys that real files have besides those of the checkpoints, all of other model types for most.
fn added() -> Vec<(&'static str, Value)> {
    vec![
        ("sliding_window", json!(5)),
        ("use_sliding_window", json!(true)),
        ("layer_types", {
            json!(["sliding_attention", "sliding_attention"])
        }),
        ("use_parallel_residual", json!(true)),
        ("attn_logit_softcapping", json!(1.5)),
        ("final_logit_softcapping", json!(1.5)),
        ("query_pre_attn_scalar", json!(7)),
        ("partial_rotary_factor", json!(0.5)),
        (
            "rope_scaling",
            json!({"rope_type": "linear", "factor": 2.0}),
        ),
        (
            "rope_scaling",
            json!({"rope_type": "default", "unknown": 2.0}),
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 77.0}),
        ),
        ("num_local_experts", json!(8)),
        ("quantization_config", json!({"bits": 4})),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("no_rope_layers", json!([0, 1])),
        ("residual_multiplier", json!(0.2)),
    ]
}

#[test]
fn every_key_of_config_json_is_used_harmless_or_refused() {
    for source in checkpoints() {
        let golden = Golden::read(&source.join("reference.safetensors"));
        let ids = golden.ids("ids");
        let config = config_of(&source);
        let before = outcome(&source, &ids).unwrap();
        let mut paths = Vec::new();
        leaves(&config, Vec::new(), &mut paths);
        for path in paths {
            let pointer = format!("/{}", path.join("/"));
            let own = config.pointer(&pointer).unwrap();
            for value in others(own).into_iter().filter(|value| value != own) {
                let mut changed = config.clone();
                *changed.pointer_mut(&pointer).unwrap() = value.clone();
                let (_folder, copy) = copied(&source, &changed);
                judge(&copy, &path.join("."), &ids, &before, &value.to_string());
            }
        }
        let lacking = added()
            .into_iter()
            .filter(|(key, _)| config[*key].is_null());
        for (key, value) in lacking {
            let mut changed = config.clone();
            changed[key] = value.clone();
            let (_folder, copy) = copied(&source, &changed);
            if let Ok(after) = outcome(&copy, &ids) {
                let same = after == before;
                let keys = ModelFile::open(&copy).unwrap().keys().unwrap();
                let own = keys
                    .iter()
                    .filter(|it| it.name.split('.').next() == Some(key));
                let used = own.clone().any(|it| it.usage == KeyUsage::Used);
                let what = format!("{}: {key} = {}", source.display(), value);
                assert!(own.count() > 0, "{what}: nothing is said of it");
                assert_eq!(used, !same, "{what}");
            }
        }
    }
}

#[test]
fn unknown_keys_of_config_json_are_refused_unless_they_are_to_be_ignored() {
    let folders = checkpoints();
    let source = folders.iter().find(|it| it.ends_with("llama")).unwrap();
    let mut config = config_of(source);
    config["attention_temperature"] = json!(0.7);
    let (_folder, path) = copied(source, &config);
    let load = |ignored: &[&str]| {
        let ignored = ignored.iter().map(|&key| key.to_owned()).collect();
        Model::load(&path, LoadOptions::new().with_ignored_keys(ignored))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let error = load(&[]).unwrap_err();
    for words in ["attention_temperature = 0.7", "\"llama\"", "--ignore-key"] {
        assert!(error.contains(words), "{error}");
    }
    load(&["attention_temperature"]).unwrap();
    let error = load(&["attention_temperature", "absent"]).unwrap_err();
    assert!(error.contains("absent"), "{error}");
    let error = load(&["attention_temperature", "hidden_size"]).unwrap_err();
    assert!(error.contains("hidden_size"), "{error}");
}

/// Another value of the type of a field; `None` for those whose types have no other.
fn other_field(field: &Field) -> Option<Field> {
    let bytes = match field.kind {
        4 | 5 => (u32::from_le_bytes(field.bytes[..4].try_into().unwrap()) + 2)
            .to_le_bytes()
            .to_vec(),
        6 => (f32::from_le_bytes(field.bytes[..4].try_into().unwrap()) * 1.5 + 0.25)
            .to_le_bytes()
            .to_vec(),
        7 => vec![1 - field.bytes[0]],
        8 => return Some(Field::text("other")),
        _ => return None,
    };
    Some(Field {
        bytes,
        ..field.clone()
    })
}

/// Keys that llama.cpp knows and the checkpoints lack, without the name of the architecture.
fn added_fields() -> Vec<(&'static str, Field)> {
    vec![
        ("rope.scale_linear", Field::f32(4.0)),
        ("rope.scaling.factor", Field::f32(4.0)),
        ("rope.scaling.attn_factor", Field::f32(0.5)),
        ("rope.scaling.yarn_log_multiplier", Field::f32(0.1)),
        ("rope.scaling.yarn_ext_factor", Field::f32(0.5)),
        ("attention.clamp_kqv", Field::f32(0.5)),
        ("attention.scale", Field::f32(0.5)),
        ("attention.sliding_window", Field::u32(3)),
        ("attention.temperature_scale", Field::f32(0.5)),
        ("attn_logit_softcapping", Field::f32(0.5)),
        ("final_logit_softcapping", Field::f32(0.5)),
        ("logit_scale", Field::f32(0.5)),
        ("embedding_scale", Field::f32(0.5)),
        ("residual_scale", Field::f32(0.5)),
        ("expert_count", Field::u32(8)),
        (
            "use_parallel_residual",
            Field {
                kind: 7,
                bytes: vec![0],
            },
        ),
    ]
}

#[test]
fn every_key_of_a_gguf_header_is_used_harmless_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for source in checkpoints() {
        let golden = Golden::read(&source.join("reference.safetensors"));
        let ids = golden.ids("ids");
        let (fields, tensors) = gguf::read(&source.join("model.gguf"));
        gguf::write(&path, &fields, &tensors);
        let before = outcome(&path, &ids).unwrap();
        let reference = outcome(&source.join("model.gguf"), &ids).unwrap();
        assert!(before == reference, "{}: copied", source.display());
        let text = |key: &str| {
            let (_, field) = fields.iter().find(|(name, _)| name == key).unwrap();
            String::from_utf8(field.bytes[8..].to_vec()).unwrap()
        };
        let architecture = text("general.architecture");
        for n in 0..fields.len() {
            let mut changed = fields.clone();
            if let Some(other) = other_field(&fields[n].1) {
                changed[n].1 = other;
                gguf::write(&path, &changed, &tensors);
                judge(&path, &fields[n].0, &ids, &before, "another");
            }
        }
        for (key, value) in added_fields() {
            let key = format!("{architecture}.{key}");
            if fields.iter().any(|(name, _)| *name == key) {
                continue;
            }
            let more = [fields.clone(), vec![(key.clone(), value)]].concat();
            gguf::write(&path, &more, &tensors);
            judge(&path, &key, &ids, &before, "added");
        }
    }
}

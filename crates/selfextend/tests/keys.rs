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
        // How many blocks, of which these files have none, only guess tokens ahead.
        "num_nextn_predict_layers",
    ]
    .contains(&name)
        || name.starts_with("tokenizer.")
        || ["general.name", "_name_or_path"].contains(&name)
}

/// Whether a text is long before and after: where the scales of both lengths are written down, the key
/// only chooses between them.
fn is_long_for_both(name: &str, value: &str, ids: &[u32]) -> bool {
    let is_short = |length: usize| length < ids.len();
    name == "rope_scaling.original_max_position_embeddings" && value.parse().is_ok_and(is_short)
}

/// Judges one changed key.
fn judge(path: &Path, name: &str, ids: &[u32], before: &Outcome, value: &str) {
    let Ok(after) = outcome(path, ids) else {
        return;
    };
    let what = format!("{}: {name} = {value}", path.display());
    match usage(path, name) {
        KeyUsage::Used if read_elsewhere(name) || is_long_for_both(name, value, ids) => {}
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
            // Version 5 keeps a head that differs, whatever is said of it.
            let version = config["transformers_version"].as_str().unwrap();
            if pointer == "/tie_word_embeddings" && version.starts_with("5.") {
                continue;
            }
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

/// A text part's keys count as those of the model alone, and those beside it change nothing.
#[test]
fn every_key_of_a_text_part_is_used_harmless_or_refused() {
    let folders = checkpoints();
    let source = folders.iter().find(|it| it.ends_with("gemma3")).unwrap();
    let ids = Golden::read(&source.join("reference.safetensors")).ids("ids");
    let alone = outcome(source, &ids).unwrap();
    let whole = json!({
        "model_type": "gemma3", "text_config": config_of(source), "vision_config": {"depth": 1},
        "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 2],
        "image_token_index": 7, "boi_token_index": 8, "mm_tokens_per_image": 4,
        "initializer_range": 0.02, "transformers_version": "4.56.2", "hidden_size": 99,
    });
    let before = text_part(source, &whole, &ids, |_| {}).unwrap();
    assert!(before == alone, "the text part alone is another model");
    let mut paths = Vec::new();
    leaves(&whole, Vec::new(), &mut paths);
    for path in paths {
        let pointer = format!("/{}", path.join("/"));
        let own = whole.pointer(&pointer).unwrap();
        for value in others(own).into_iter().filter(|value| value != own) {
            let mut changed = whole.clone();
            *changed.pointer_mut(&pointer).unwrap() = value.clone();
            let name = path.join(".");
            let last = path.last().unwrap();
            let visit = |folder: &Path| {
                let Ok(after) = outcome(folder, &ids) else {
                    return;
                };
                let what = format!("{name} = {value}");
                let found = match ModelFile::open(folder).unwrap().keys().unwrap() {
                    keys if path[0] == "vision_config" => keys.iter().any(|it| it.name == path[0]),
                    keys => keys.iter().any(|it| it.name == name),
                };
                assert!(found, "nothing is said of {what}");
                if path[0] == "vision_config" || read_elsewhere(last) {
                    return assert!(after == before || last == "_name_or_path", "{what}");
                }
                match usage(folder, &name) {
                    KeyUsage::Used => assert!(after != before, "{what} changes nothing"),
                    _ => assert!(after == before, "{what} changes it"),
                }
            };
            let _ = text_part(source, &changed, &ids, visit);
        }
    }
}

/// What a checkpoint is whose tensors have the names of a text part.
fn text_part(
    source: &Path,
    config: &Value,
    ids: &[u32],
    visit: impl FnOnce(&Path),
) -> Result<Outcome, String> {
    let (_folder, path) = copied(source, config);
    let file = std::fs::read(source.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&rest[..length]).unwrap();
    let own = header.as_object().unwrap().iter();
    let own = own.map(|(name, tensor)| match name.strip_prefix("model.") {
        Some(name) => (format!("language_model.model.{name}"), tensor.clone()),
        None => (name.clone(), tensor.clone()),
    });
    let header = own.collect::<Value>().to_string();
    let data = &rest[length..];
    let file = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat();
    std::fs::write(path.join("model.safetensors"), file).unwrap();
    visit(&path);
    outcome(&path, ids)
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

//! Checkpoints this version cannot run, or that lie: refused by name, before anything is loaded.

use selfextend::{Error, LoadOptions, Model};
use serde_json::{Value, json};
use std::path::Path;

fn checkpoint(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/checkpoints")
        .join(name)
}

fn refused(path: &Path) -> Error {
    match Model::load(path, LoadOptions::default()) {
        Ok(_) => panic!("{} was loaded", path.display()),
        Err(error) => error,
    }
}

/// What loading a checkpoint says after its config.json is changed.
fn with_config(name: &str, change: impl Fn(&mut Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = checkpoint(name);
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let weights = "model.safetensors";
    std::fs::copy(source.join(weights), folder.path().join(weights)).unwrap();
    refused(folder.path()).to_string()
}

fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn an_unknown_model_type_is_named_with_the_known_ones() {
    let error = with_config("llama", |config| config["model_type"] = json!("mango"));
    says(
        &error,
        &["\"mango\"", "not supported", "llama", "gemma2", "gpt_neox"],
    );
    let error = with_config("llama", |config| config["model_type"] = Value::Null);
    says(&error, &["model_type"]);
}

#[test]
fn weights_in_parts_that_do_not_fit_are_refused() {
    for (name, tensor, words) in [
        ("gpt-oss-mxfp4", "gate_up_proj_scales", "has no"),
        ("llama-fp8", "q_proj.weight\"", "has no"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = checkpoint(name);
        std::fs::copy(
            source.join("config.json"),
            folder.path().join("config.json"),
        )
        .unwrap();
        let mut bytes = std::fs::read(source.join("model.safetensors")).unwrap();
        // Another name of the same length.
        let at = bytes
            .windows(tensor.len())
            .position(|it| it == tensor.as_bytes());
        bytes[at.unwrap()] = b'x';
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        says(&refused(folder.path()).to_string(), &[words]);
    }
    let error = with_config("llama-fp8", |config| {
        config["quantization_config"]["weight_block_size"] = json!([8, 8]);
    });
    says(&error, &["_scale_inv", "blocks of [8, 8]"]);
    let error = with_config("llama-fp8", |config| {
        config["quantization_config"]["fmt"] = json!("e5m2");
    });
    says(&error, &["quantization_config.fmt", "e5m2"]);
}

#[test]
fn families_that_are_known_say_what_is_missing() {
    for (name, words) in [
        ("deepseek_v2", "latent attention"),
        ("deepseek_v3", "latent attention"),
        ("ministral3", "llama_4_scaling_beta"),
        ("llama4_text", "attention within chunks"),
        ("gemma3n_text", "AltUp"),
        ("falcon", "ALiBi"),
        ("mamba", "recurrent state"),
    ] {
        let error = with_config("llama", |config| config["model_type"] = json!(name));
        says(&error, &[name, "missing", words]);
    }
}

#[test]
fn options_that_are_not_supported_are_named() {
    let cases = [
        (
            "llama",
            "hidden_act",
            json!("mish"),
            "hidden_act = \"mish\"",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"rope_type": "ntk-by-hand", "factor": 2.0}),
            "ntk-by-hand",
        ),
        ("phi3", "qk_layernorm", json!(true), "qk_layernorm"),
        (
            "gemma2",
            "layer_types",
            json!(["full_attention", "linear_attention", "full_attention"]),
            "linear_attention",
        ),
        (
            "llama-yarn",
            "rope_scaling",
            json!({"type": "yarn", "factor": 4.0, "extrapolation_factor": 0.7}),
            "rope_scaling.extrapolation_factor",
        ),
    ];
    for (name, key, value, expected) in cases {
        let error = with_config(name, |config| config[key] = value.clone());
        says(&error, &["not supported", expected]);
    }
}

#[test]
fn quantised_weights_are_refused_by_the_name_of_their_format() {
    let methods = [
        "gptq",
        "awq",
        "bitsandbytes",
        "fbgemm_fp8",
        "compressed-tensors",
        "aqlm",
        "hqq",
        "quanto",
        "torchao",
        "higgs",
        "eetq",
        "spqr",
        "vptq",
        "auto-round",
        "bitnet",
    ];
    let mut cases: Vec<(Value, &str)> = methods
        .iter()
        .map(|name| (json!({"quant_method": name, "bits": 4}), *name))
        .collect();
    cases.push((json!({"load_in_4bit": true}), "bitsandbytes"));
    cases.push((json!({"bits": 4, "group_size": 64}), "group_size"));
    for key in ["quantization_config", "quantization"] {
        for (value, name) in &cases {
            let error = with_config("qwen2", |config| config[key] = value.clone());
            says(&error, &["not supported", name, key, "GGUF", "BF16"]);
            let error = with_config("gemma3", |config| {
                let text = config.clone();
                *config = json!({"model_type": "gemma3", "text_config": text});
                config[key] = value.clone();
            });
            says(&error, &["not supported", name, key]);
            let error = with_config("gemma3", |config| {
                config[key] = value.clone();
                let text = config.clone();
                *config = json!({"model_type": "gemma3", "text_config": text});
            });
            says(
                &error,
                &["not supported", name, &format!("text_config.{key}")],
            );
        }
    }
}

#[test]
fn text_parts_that_are_not_known_are_named() {
    let nested = |outer: &str, inner: Value| {
        with_config("gemma3", |config| {
            let mut text = config.clone();
            text["model_type"] = inner.clone();
            *config = json!({"model_type": outer, "text_config": text});
        })
    };
    let error = nested("llava", json!("mamba"));
    says(
        &error,
        &["text_config.model_type", "mamba", "llava", "llama"],
    );
    let error = nested("gemma3", json!("gemma2"));
    says(&error, &["text_config.model_type", "gemma2", "gemma3_text"]);
    for other in ["qwen2_vl", "paligemma", "mllama"] {
        let error = nested(other, json!("gemma3_text"));
        says(&error, &["not supported", other, "gemma3"]);
    }
    for other in ["gemma3n", "llama4"] {
        let error = nested(other, json!("gemma3_text"));
        says(&error, &["not supported", other, "missing"]);
    }
    let error = with_config("gemma3", |config| config["model_type"] = json!("gemma3"));
    says(&error, &["text_config"]);
    // Each key counts wherever it is.
    let with = |place: &str, key: &str| {
        with_config("gemma3", |config| {
            let text = config.clone();
            *config = json!({"model_type": "gemma3", "text_config": text, "rope_scaling": {}});
            config.pointer_mut(place).unwrap()[key] = json!(0.7);
        })
    };
    says(
        &with("", "novel"),
        &["the key novel = 0.7", "--ignore-key novel"],
    );
    let error = with("/text_config", "novel");
    says(
        &error,
        &["text_config.novel = 0.7", "--ignore-key text_config.novel"],
    );
    let error = with("/text_config", "hidden_size");
    says(&error, &["text_config.hidden_size should be a size"]);
}

#[test]
fn sizes_that_lie_are_refused_by_name() {
    let cases = [
        ("hidden_size", json!(32), "embed_tokens"),
        ("vocab_size", json!(1 << 27), "embed_tokens"),
        ("intermediate_size", json!(30), "mlp."),
        ("num_hidden_layers", json!(3), "model.layers.2."),
        ("num_hidden_layers", json!(4_000_000), "num_hidden_layers"),
        ("hidden_size", json!(u64::MAX), "hidden_size"),
        ("hidden_size", json!(-1), "hidden_size"),
        ("hidden_size", json!("24"), "hidden_size"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "heads"),
        ("head_dim", json!(4_000_000_000u32), "head_dim"),
        ("rope_theta", json!(-1.0), "base"),
        (
            "max_position_embeddings",
            Value::Null,
            "max_position_embeddings",
        ),
    ];
    for (key, value, expected) in cases {
        let error = with_config("llama", |config| config[key] = value.clone());
        says(&error, &[expected]);
    }
}

/// A model run without one of its tensors would be another model.
#[test]
fn tensors_that_nothing_would_use_are_refused() {
    let error = with_config("qwen3", |config| config["model_type"] = json!("llama"));
    says(&error, &["k_norm.weight", "not supported"]);
}

#[test]
fn gguf_files_of_other_architectures_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let rename = |checkpoint_name: &str, from: &str, to: &str| {
        let mut bytes = std::fs::read(checkpoint(checkpoint_name).join("model.gguf")).unwrap();
        let at = |bytes: &[u8]| {
            bytes
                .windows(from.len())
                .position(|some| some == from.as_bytes())
        };
        while let Some(at) = at(&bytes) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        refused(&path).to_string()
    };
    let error = rename("gpt-oss-mxfp4", "gpt-oss", "gemma3n");
    says(&error, &["\"gemma3n\"", "missing", "AltUp"]);
    let error = rename("gemma2", "gemma2", "gemma9");
    says(
        &error,
        &["\"gemma9\"", "not supported", "gemma3", "gptneox"],
    );
    says(
        &rename("qwen3", "qwen3", "qwen2"),
        &["attn_q.bias", "missing"],
    );
    says(
        &rename("olmo2", "olmo2", "qwen3"),
        &["attn_norm.weight", "missing"],
    );
    says(
        &rename("llama", "blk.1.ffn_up", "blk.1.ffn_xx"),
        &["blk.1.ffn_up.weight", "missing"],
    );
}

/// A checkpoint's GGUF file with one more key, a 32-bit integer. A second key fills up to a multiple
/// of 32 bytes, so that tensors stay where they are from the end of the header.
fn with_key(name: &str, key: &str, value: u32) -> Vec<u8> {
    let bytes = std::fs::read(checkpoint(name).join("model.gguf")).unwrap();
    let pair = |key: &str, value: u32| {
        let length = (key.len() as u64).to_le_bytes();
        let number = [4u32.to_le_bytes(), value.to_le_bytes()].concat();
        [&length[..], key.as_bytes(), &number].concat()
    };
    let filler = |n| pair(&"x".repeat(n), 0);
    let own = pair(key, value);
    let fits = |n: &usize| (own.len() + filler(*n).len()).is_multiple_of(32);
    let more = [own.clone(), filler((1..33).find(fits).unwrap())].concat();
    let pairs = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
    [&bytes[..16], &pairs.to_le_bytes(), &more, &bytes[24..]].concat()
}

#[test]
fn gguf_options_that_a_family_does_not_have_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (name, architecture) in [
        ("stablelm", "stablelm"),
        ("phi2", "phi2"),
        ("pythia", "gptneox"),
    ] {
        let key = format!("{architecture}.attention.sliding_window");
        std::fs::write(&path, with_key(name, &key, 16)).unwrap();
        says(&refused(&path).to_string(), &[&key, "not supported"]);
    }
    let key = "llama.attention.sliding_window";
    std::fs::write(&path, with_key("llama", key, 16)).unwrap();
    assert!(Model::load(&path, LoadOptions::default()).is_ok());
}

#[test]
fn damaged_folders_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let error = || refused(folder.path()).to_string();
    says(&error(), &["config.json"]);
    put("config.json", b"{");
    says(&error(), &["config.json", "damaged"]);
    let source = checkpoint("llama");
    put(
        "config.json",
        &std::fs::read(source.join("config.json")).unwrap(),
    );
    says(&error(), &["cannot read", "model.safetensors"]);
    put("model.safetensors", b"short");
    says(&error(), &["not a safetensors file"]);
    put("model.safetensors", &[0xFF; 64]);
    says(&error(), &["not a safetensors file"]);
    let whole = std::fs::read(source.join("model.safetensors")).unwrap();
    put("model.safetensors", &whole[..whole.len() - 100]);
    says(&error(), &["cut off", "download it again"]);
    let mut header = whole.clone();
    header[8] = b'[';
    put("model.safetensors", &header);
    says(&error(), &["damaged header"]);
    put(
        "model.safetensors.index.json",
        br#"{"weight_map": {"a": "../../secret.safetensors"}}"#,
    );
    says(&error(), &["index.json", "secret"]);
    put("model.safetensors.index.json", b"{}");
    says(&error(), &["weight_map"]);
    put("model.safetensors", &whole);
    put("shard.safetensors", &whole);
    put(
        "model.safetensors.index.json",
        br#"{"weight_map": {"model.norm.weight": "shard.safetensors"}}"#,
    );
    says(&error(), &["model.safetensors", "index.json", "twice"]);
}

//! Every family, from both formats, against `transformers` and against SelfExtend's definition
//! inside it: see tools/make_checkpoints.py, which wrote the files.

mod common;

use common::{Golden, all_checkpoints, checkpoints};
use selfextend::{KvType, LoadOptions, Model, ModelFile, PositionMap};
use std::path::{Path, PathBuf};

/// The settings of the script.
const GROUP_SIZE: usize = 4;
const NEIGHBOR_WINDOW: usize = 12;

fn load(path: &Path) -> Model {
    // Products with blocks of 4 bits round activations, unless all is widened.
    let exact = path.to_string_lossy().contains("mxfp4");
    let options = LoadOptions::new().with_threads(1).with_exact(exact);
    Model::load(path, options).unwrap_or_else(|error| panic!("{error}"))
}

/// The files of each checkpoint, and what they should give. `SELFEXTEND_FAMILY=name` is for that one.
fn each(check: impl Fn(&str, &Model, &Golden)) {
    let mut folders = all_checkpoints();
    assert!(folders.len() >= 50, "checkpoints are missing");
    if let Ok(name) = std::env::var("SELFEXTEND_FAMILY") {
        folders.retain(|folder| folder.ends_with(&name));
    }
    for folder in folders {
        let golden = Golden::read(&folder.join("reference.safetensors"));
        let gguf = folder.join("model.gguf");
        let has_both = gguf.exists() && folder.join("config.json").exists();
        let paths = match gguf.exists() {
            true if has_both => vec![folder, gguf],
            true => vec![gguf],
            false => vec![folder],
        };
        for path in paths {
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
            check(&name.display().to_string(), &load(&path), &golden);
        }
    }
}

/// Logits of all tokens, in chunks, in a session of so much context.
fn logits(model: &Model, ids: &[u32], map: PositionMap, context: usize, chunk: usize) -> Vec<f32> {
    let mut options = common::options(model, map, KvType::F32, chunk);
    options.extension = options.extension.with_context(context);
    let mut session = model.session(options).unwrap();
    let mut all = Vec::new();
    let visit = |_, row: &[f32]| all.extend_from_slice(row);
    session.append_all(ids, visit).unwrap();
    all
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let errors = actual.iter().zip(expected).map(|(a, e)| (a - e).abs());
    let worst = errors.fold(0.0, f32::max);
    assert!(worst <= 1e-4, "{what}: off by {worst}");
}

#[test]
fn plain_logits_are_those_of_transformers() {
    each(|name, model, golden| {
        let ids = golden.ids("ids");
        for chunk in [72, 31, 1] {
            let all = logits(model, &ids, PositionMap::Plain, 1 << 20, chunk);
            assert_close(
                &format!("{name} in chunks of {chunk}"),
                &all,
                &golden.floats("logits"),
            );
        }
        if golden.has("short_logits") {
            let expected = golden.floats("short_logits");
            let some = &ids[..expected.len() / model.config().vocab];
            let all = logits(model, some, PositionMap::Plain, some.len(), 7);
            assert_close(&format!("{name} in a short context"), &all, &expected);
        }
    });
}

#[test]
fn selfextend_logits_are_those_of_its_definition() {
    let map = PositionMap::self_extend(GROUP_SIZE, NEIGHBOR_WINDOW).unwrap();
    each(|name, model, golden| {
        for chunk in [72, 31, 1] {
            let all = logits(model, &golden.ids("ids"), map, 1 << 20, chunk);
            let what = format!("{name} in chunks of {chunk}");
            assert_close(&what, &all, &golden.floats("selfextend_logits"));
        }
    });
}

/// A window that every layer has is switched off by SelfExtend unless it is to be kept.
#[test]
fn a_sliding_window_is_kept_where_that_is_asked_for() {
    let folder = checkpoints()
        .into_iter()
        .find(|it| it.ends_with("mistral"))
        .unwrap();
    let golden = Golden::read(&folder.join("reference.safetensors"));
    let options = LoadOptions::new()
        .with_threads(1)
        .with_keep_sliding_window(true);
    let model = Model::load(&folder, options).unwrap();
    // Its window is 17: with all 17 keys among the neighbours, keeping it is plain attention.
    let map = PositionMap::self_extend(GROUP_SIZE, 20).unwrap();
    let kept = logits(&model, &golden.ids("ids"), map, 1 << 20, 31);
    assert_close("kept", &kept, &golden.floats("logits"));
    let off = logits(&load(&folder), &golden.ids("ids"), map, 1 << 20, 31);
    let differs = off.iter().zip(&kept).any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(differs, "switched off, distant keys are seen");
}

/// Both formats of one checkpoint say the same of the model.
#[test]
fn both_formats_describe_the_same_model() {
    for folder in checkpoints() {
        let read = |path: &Path| ModelFile::open(path).unwrap().config().unwrap();
        let (folder_config, gguf) = (read(&folder), read(&folder.join("model.gguf")));
        let sizes = |config: &selfextend::config::ModelConfig| {
            let rope = &config.rope;
            (
                (
                    config.layers,
                    config.hidden,
                    config.feed_forward,
                    config.vocab,
                ),
                (
                    config.heads,
                    config.kv_heads,
                    config.head_dim,
                    rope.rotary_dim,
                ),
                (
                    config.norm,
                    config.parallel,
                    config.activation,
                    config.qk_norm,
                ),
                (
                    config.attention_soft_cap,
                    config.logit_soft_cap,
                    config.trained_window,
                    config.residual_scale,
                    config.embedding_scale,
                    config.qkv_limit,
                ),
                config.attention.clone(),
            )
        };
        if folder.ends_with("phi2") || folder.ends_with("phi3.5") {
            // What llama.cpp's converter does not write: nothing here depends on it.
            assert_eq!(sizes(&folder_config).0, sizes(&gguf).0);
        } else {
            assert_eq!(sizes(&folder_config), sizes(&gguf), "{}", folder.display());
        }
    }
}

/// What `inspect` says of an extension.
#[test]
fn an_extension_changes_layers_that_see_far_and_know_their_positions() {
    for (name, layers, changed) in [
        ("llama", 2, 2),
        // A window that every layer has is switched off.
        ("mistral", 2, 2),
        ("smollm3", 5, 4),
        ("gemma2", 3, 1),
        ("olmo3", 4, 1),
        ("cohere2", 5, 0),
        ("exaone4-local", 5, 0),
        ("exaone4", 2, 2),
        ("gpt-oss", 2, 1),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
        for path in [folder.join(name), folder.join(name).join("model.gguf")] {
            let config = ModelFile::open(&path).unwrap().config().unwrap();
            assert_eq!(config.layers, layers, "{}", path.display());
            assert_eq!(config.extended_layers(), changed, "{}", path.display());
        }
    }
}

/// Numbers that no model has are refused before anything is loaded, and with their names.
#[test]
fn factors_and_limits_that_no_model_has_are_refused() {
    for (name, key, value, words) in [
        ("granite", "logits_scaling", "0.0", "multiplies its logits"),
        (
            "granite",
            "residual_multiplier",
            "0.0",
            "multiplies its residuals",
        ),
        ("cohere", "logit_scale", "0.0", "multiplies its logits"),
        (
            "olmo",
            "clip_qkv",
            "-1.0",
            "cuts its queries and keys to -1",
        ),
        ("codegen", "n_head", "6", "6 heads are not 4 groups"),
        ("gptj", "rotary_dim", "null", "has no rotary_dim"),
        ("apertus", "hidden_act", "\"silu\"", "supported: xielu"),
        ("llama", "hidden_act", "\"xielu\"", "hidden_act = \"xielu\""),
    ] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
        let source = root.join(name);
        let text = std::fs::read_to_string(source.join("config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let weights = "model.safetensors";
        std::fs::copy(source.join(weights), folder.path().join(weights)).unwrap();
        let options = LoadOptions::new().with_threads(1);
        let error = Model::load(folder.path(), options).err();
        let error = error.unwrap_or_else(|| panic!("{name} with {key} = {value}"));
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

/// Options that a family does not have change nothing, as in `transformers`, which ignores them.
#[test]
fn options_of_other_families_change_nothing() {
    let config = |folder: &Path| ModelFile::open(folder).unwrap().config().unwrap();
    for name in ["llama", "stablelm", "phi2", "olmo2", "gemma", "pythia"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
        let source = root.join(name);
        let text = std::fs::read_to_string(source.join("config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let layers = json["num_hidden_layers"].as_u64().unwrap() as usize;
        json["sliding_window"] = 16.into();
        json["layer_types"] = vec!["sliding_attention"; layers].into();
        if name == "llama" {
            json["use_parallel_residual"] = true.into();
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let weights = "model.safetensors";
        std::fs::copy(source.join(weights), folder.path().join(weights)).unwrap();
        assert_eq!(config(folder.path()), config(&source), "{name}");
    }
}

/// The decoder and everything below it are independent of architectures, whose names are in the two
/// readers.
#[test]
fn architecture_names_are_in_the_readers_only() {
    let names = [
        "llama",
        "mistral",
        "qwen",
        "phi2",
        "phi3",
        "gemma",
        "stablelm",
        "olmo",
        "neox",
        "smollm3",
        "granite",
        "minicpm",
        "starcoder",
        "nemotron",
        "chatglm",
        "glm4",
        "cohere",
        "internlm",
        "exaone",
        "ernie",
        "seed_oss",
        "arcee",
        "helium",
        "gptj",
        "codegen",
        "persimmon",
        "gpt_oss",
        "gpt-oss",
        "hunyuan",
        "phimoe",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [
        "src/decoder.rs",
        "src/decoder",
        "src/routing.rs",
        "src/weights.rs",
        "src/weights",
        "src/config.rs",
        "src/model.rs",
        "src/model_file.rs",
        "src/session.rs",
        "src/backend",
        "../selfextend-attention/src",
    ];
    let mut files = Vec::new();
    for source in sources {
        rust_files(&root.join(source), &mut files);
    }
    assert!(files.len() > 20);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in code {
            let found = names
                .iter()
                .find(|name| line.to_lowercase().contains(*name));
            assert!(found.is_none(), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

fn rust_files(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        entries.for_each(|entry| rust_files(&entry.unwrap().path(), files));
    } else if path.extension().is_some_and(|it| it == "rs") {
        files.push(path.to_owned());
    }
}

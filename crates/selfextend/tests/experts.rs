//! Mixtures of experts in files: what is read in several spellings, and what is refused. That they
//! compute what `transformers` does is in `families.rs`.

mod common;

use common::gguf::{self, Field, Fields, Tensor, Tensors};
use selfextend::{Extension, LoadOptions, LogitRows, Model};
use selfextend::{Input, Phase};
use std::path::{Path, PathBuf};

fn checkpoint(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    root.join(name).join("model.gguf")
}

fn load(path: &Path, threads: usize) -> Result<Model, String> {
    let options = LoadOptions::new().with_threads(threads);
    Model::load(path, options).map_err(|error| error.to_string())
}

/// A checkpoint's GGUF file, changed.
fn changed(name: &str, change: impl Fn(&mut Fields, &mut Tensors)) -> Result<Model, String> {
    let (mut fields, mut tensors) = gguf::read(&checkpoint(name));
    change(&mut fields, &mut tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::write(&path, &fields, &tensors);
    load(&path, 1)
}

fn set(fields: &mut Fields, key: &str, value: Field) {
    let field = fields.iter_mut().find(|(name, _)| name == key);
    field.unwrap_or_else(|| panic!("no {key}")).1 = value;
}

fn logits(model: &Model) -> Vec<f32> {
    let ids: Vec<u32> = (0..40).map(|n| n * n % 61).collect();
    let mut session = model.session(Extension::plain(96, 96)).unwrap();
    let mut all = Vec::new();
    let visit = |_, row: &[f32]| all.extend_from_slice(row);
    session.append_all(&ids, visit).unwrap();
    all
}

/// Before llama.cpp merged the experts of a layer, each had a tensor of its own.
#[test]
fn a_tensor_for_each_expert_is_the_same_model() {
    let split = changed("mixtral", |_, tensors| {
        let whole = std::mem::take(tensors);
        for (name, tensor) in whole {
            let Some((start, _)) = name.split_once("_exps.weight") else {
                tensors.push((name, tensor));
                continue;
            };
            let (count, size) = (tensor.shape[0], tensor.bytes.len() / tensor.shape[0]);
            for n in 0..count {
                let bytes = tensor.bytes[n * size..][..size].to_vec();
                let shape = tensor.shape[1..].to_vec();
                let kind = tensor.kind;
                tensors.push((format!("{start}.{n}.weight"), Tensor { kind, shape, bytes }));
            }
        }
        assert!(
            tensors
                .iter()
                .any(|(name, _)| name == "blk.1.ffn_down.4.weight")
        );
    });
    let merged = load(&checkpoint("mixtral"), 1).unwrap();
    assert_eq!(logits(&split.unwrap()), logits(&merged));
}

#[test]
fn impossible_experts_are_refused() {
    let used = |count| {
        changed("qwen3-moe", move |fields, _| {
            set(fields, "qwen3moe.expert_used_count", Field::u32(count));
        })
    };
    let error = used(9).err().unwrap();
    assert!(error.contains("9 of 5 experts"), "{error}");
    let error = used(0).err().unwrap();
    assert!(error.contains("expert_used_count is 0"), "{error}");
    let error = changed("qwen3-moe", |fields, _| {
        set(fields, "qwen3moe.expert_count", Field::u32(6));
    });
    let error = error.err().unwrap();
    assert!(
        error.contains("ffn_gate_inp") || error.contains("_exps"),
        "{error}"
    );
    let error = changed("glm4-moe", |fields, _| {
        set(fields, "glm4moe.expert_gating_func", Field::u32(4));
    });
    let error = error.err().unwrap();
    assert!(error.contains("expert_gating_func = 4"), "{error}");
    let error = changed("qwen3-moe", |_, tensors| {
        tensors.retain(|(name, _)| name != "blk.2.ffn_up_exps.weight");
    });
    let error = error.err().unwrap();
    assert!(
        error.contains("blk.2.ffn_up_exps.weight is missing"),
        "{error}"
    );
}

#[test]
fn a_router_that_has_no_numbers_is_refused() {
    for (family, end) in [
        ("mixtral", "ffn_gate_inp.weight"),
        ("glm4-moe", "exp_probs_b.bias"),
    ] {
        let error = changed(family, |_, tensors| {
            let tensor = tensors.iter_mut().find(|(name, _)| name.ends_with(end));
            tensor.unwrap().1.bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        let error = error.err().unwrap();
        assert!(error.contains(end) && error.contains("NaN"), "{error}");
    }
}

/// Blocks that only guess ahead are counted with the others in a header, and not read.
#[test]
fn blocks_that_guess_ahead_are_left_out() {
    let whole = logits(&load(&checkpoint("glm4-moe"), 1).unwrap());
    let more = changed("glm4-moe", |fields, tensors| {
        set(fields, "glm4moe.block_count", Field::u32(3));
        fields.push(("glm4moe.nextn_predict_layers".into(), Field::u32(1)));
        let name = "blk.2.nextn.eh_proj.weight".to_owned();
        tensors.push((name, Tensor::f32(&[1, 8], &[0.5; 8])));
    });
    assert_eq!(logits(&more.unwrap()), whole);
}

/// What a sequence gets is bit for bit the same in chunks, beside others and on several threads.
#[test]
fn company_and_threads_change_nothing() {
    for name in [
        "mixtral",
        "qwen2-moe",
        "qwen3-moe",
        "olmoe",
        "granite-moe",
        "glm4-moe",
    ] {
        let models = [1, 3].map(|threads| load(&checkpoint(name), threads).unwrap());
        let ids = |seed: u32| {
            (0..50)
                .map(|n| (n * seed + n * n) % 61)
                .collect::<Vec<u32>>()
        };
        let texts = [ids(3), ids(7), ids(11)];
        let alone = texts.each_ref().map(|ids| {
            let mut session = models[0].session(Extension::plain(96, 96)).unwrap();
            let mut last = Vec::new();
            for chunk in ids.chunks(25) {
                let tokens = chunk;
                let logits = LogitRows::Last;
                let session = &mut session;
                let input = Input {
                    session,
                    tokens,
                    logits,
                };
                let visit = |_: usize, _: usize, row: &[f32]| last = row.to_vec();
                models[0]
                    .forward(Phase::Prefill, &mut [input], visit)
                    .unwrap();
            }
            last
        });
        for model in &models {
            let mut sessions = texts
                .each_ref()
                .map(|_| model.session(Extension::plain(96, 96)).unwrap());
            let mut inputs: Vec<Input> = sessions
                .iter_mut()
                .zip(&texts)
                .map(|(session, tokens)| Input {
                    session,
                    tokens,
                    logits: LogitRows::Last,
                })
                .collect();
            let mut together = [const { Vec::new() }; 3];
            let visit = |n: usize, _: usize, row: &[f32]| together[n] = row.to_vec();
            model.forward(Phase::Prefill, &mut inputs, visit).unwrap();
            assert!(together == alone, "{name}");
        }
    }
}

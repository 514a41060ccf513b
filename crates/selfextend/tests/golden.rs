//! The engine against the outputs of the SelfExtend authors' own code (`../shared/golden`), in
//! float32. Skipped, with a message, where the references or the model are absent.

mod common;

use common::{Golden, session, shared, smollm2};
use selfextend::sampling::{argmax, log_probability};
use selfextend::{KvType, LinearMode, LoadOptions, Model, PositionMap, Session};

/// One float32 implementation against another (`../shared/DESIGN.md`, section 6).
const TOLERANCE: f64 = 5e-4;

fn exact() -> LoadOptions {
    LoadOptions::new().with_linear(LinearMode::F32)
}

/// Negative log-likelihood of each token after the first, and the logits of the last `keep`.
fn score(session: &mut Session, ids: &[u32], keep: usize) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (mut nll, mut last) = (Vec::new(), Vec::new());
    session
        .append_all(ids, |at, logits| {
            if let Some(&next) = ids.get(at + 1) {
                nll.push(-log_probability(logits, next));
            }
            if at + keep >= ids.len() {
                last.push(logits.to_vec());
            }
        })
        .unwrap();
    (nll, last)
}

fn worst(what: &str, actual: impl IntoIterator<Item = f64>, expected: &[f32]) {
    let actual: Vec<f64> = actual.into_iter().collect();
    assert_eq!(actual.len(), expected.len(), "{what}");
    let worst = actual
        .iter()
        .zip(expected)
        .map(|(a, e)| (a - f64::from(*e)).abs())
        .fold(0.0, f64::max);
    println!("{what}: largest difference {worst:.1e}");
    assert!(worst <= TOLERANCE, "{what}: {worst}");
}

fn check_texts(name: &str, map: PositionMap) {
    let Some((golden, path)) = Golden::open(name).zip(smollm2()) else {
        return;
    };
    let model = Model::load(&path, exact()).unwrap();
    let ids = golden.ids("ids");
    // A chunk that divides nothing: boundaries fall everywhere.
    let mut session = session(&model, map, KvType::F32, 211);
    let (nll, last) = score(&mut session, &ids, 8);
    worst(&format!("{name} nll"), nll, &golden.floats("nll"));
    let last = last.concat().into_iter().map(f64::from);
    worst(
        &format!("{name} logits"),
        last,
        &golden.floats("logits_last8"),
    );
}

fn self_extend(group_size: usize, window: usize) -> PositionMap {
    PositionMap::self_extend(group_size, window).unwrap()
}

#[test]
fn short_texts() {
    check_texts("short_plain", PositionMap::Plain);
    check_texts("short_g2_w8", self_extend(2, 8));
    check_texts("short_g3_w10", self_extend(3, 10));
}

#[test]
fn medium_texts() {
    check_texts("medium_plain", PositionMap::Plain);
    check_texts("medium_g4_w256", self_extend(4, 256));
}

#[test]
fn greedy_decoding() {
    for (name, map) in [
        ("decode_plain", PositionMap::Plain),
        ("decode_g4_w32", self_extend(4, 32)),
    ] {
        let Some((golden, path)) = Golden::open(name).zip(smollm2()) else {
            return;
        };
        let model = Model::load(&path, exact()).unwrap();
        let mut session = session(&model, map, KvType::F32, 512);
        let mut logits = session.append(&golden.ids("prompt_ids")).unwrap();
        for (step, id) in golden.ids("new_ids").into_iter().enumerate() {
            if golden.has("top5_ids") {
                let top = &golden.ids("top5_ids")[step * 5..(step + 1) * 5];
                let actual = top.iter().map(|&id| f64::from(logits[id as usize]));
                worst(
                    &format!("{name} step {step}"),
                    actual,
                    &golden.floats("top5_logits")[step * 5..(step + 1) * 5],
                );
                let sum = f64::from(logits[id as usize]) - log_probability(&logits, id);
                worst(
                    &format!("{name} step {step} logsumexp"),
                    [sum],
                    &golden.floats("logsumexp")[step..step + 1],
                );
            }
            assert_eq!(argmax(&logits), id, "{name} step {step}");
            logits = session.append(&[id]).unwrap();
        }
    }
}

/// The default mode (weights as in the file, f16 cache), a q8_0 and a q4 cache on the same text, by
/// the mean. Four bits cost this small model 0.036 over 2,047 tokens, and 0.15 without their transform.
#[test]
fn default_settings_stay_close() {
    for (name, map) in [
        ("medium_plain", PositionMap::Plain),
        ("medium_g4_w256", self_extend(4, 256)),
    ] {
        let Some((golden, path)) = Golden::open(name).zip(smollm2()) else {
            return;
        };
        let model = Model::load(&path, LoadOptions::default()).unwrap();
        let mean = |nll: &[f64]| nll.iter().sum::<f64>() / nll.len() as f64;
        let expected: Vec<f64> = golden.floats("nll").into_iter().map(f64::from).collect();
        for (kv_type, most) in [
            (KvType::F16, 0.01),
            (KvType::Q8_0, 0.01),
            (KvType::Q4, 0.06),
        ] {
            let mut session = session(&model, map, kv_type, 512);
            let (nll, _) = score(&mut session, &golden.ids("ids"), 0);
            let error = mean(&nll) - mean(&expected);
            println!("{name} {kv_type:?}: mean nll differs by {error:.1e}");
            assert!(error.abs() <= most, "{name} {kv_type:?}: {error}");
        }
    }
}

/// stories260K past its window of 512: the paper's effect on a really trained model.
#[test]
fn stories_past_the_window() {
    let path = shared("models/stories260K/stories260K-f32.gguf");
    let Some((golden, path)) = Golden::open("stories260K_2048").zip(path) else {
        return;
    };
    let model = Model::load(&path, exact()).unwrap();
    let ids = golden.ids("ids");
    let cases = [
        ("plain", PositionMap::Plain),
        ("g4_w128", self_extend(4, 128)),
        ("g8_w256", self_extend(8, 256)),
    ];
    let mut tails = Vec::new();
    for (name, map) in cases {
        let expected = golden.floats(&format!("nll_{name}"));
        let mut tail = 0.0;
        for (ids, expected) in ids.chunks(2049).zip(expected.chunks(2048)) {
            let (nll, _) = score(&mut session(&model, map, KvType::F32, 300), ids, 0);
            tail += nll[1792..].iter().sum::<f64>() / 256.0 / 3.0;
            worst(&format!("stories260K {name}"), nll, expected);
        }
        tails.push(tail);
    }
    println!(
        "perplexity of the last 256 positions: {:.2?}",
        tails.iter().map(|t| t.exp()).collect::<Vec<_>>()
    );
    assert!(
        tails[1] < tails[0] - 0.3 && tails[2] < tails[0] - 0.3,
        "{tails:?}"
    );
}

/// Tiny random Llamas under their Hugging Face names, through a GGUF file written here.
#[test]
fn toy_models() {
    for name in ["toy_0", "toy_2", "toy_3", "toy_5"] {
        let Some(golden) = Golden::open(name) else {
            return;
        };
        common::check_toy(name, &golden, |what, logits, expected| {
            worst(what, logits.iter().map(|&x| f64::from(x)), expected);
        });
    }
}

/// The attention block alone: input after the norm, output after the projection.
#[test]
fn attention_blocks() {
    let Some((golden, path)) = Golden::open("short_g3_w10").zip(smollm2()) else {
        return;
    };
    for layer in [0, 29] {
        let input = golden.floats(&format!("attn{layer}_in"));
        let output = common::attention_block(&path, layer, self_extend(3, 10), &input);
        let expected = golden.floats(&format!("attn{layer}_out"));
        worst(
            &format!("attention block {layer}"),
            output.into_iter().map(f64::from),
            &expected,
        );
    }
}

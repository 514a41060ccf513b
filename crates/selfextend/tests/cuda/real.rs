//! What needs the real model, the authors' outputs or stories260K.

use crate::common::{self, Golden, session, shared, smollm2};
use crate::rule::{
    BYTES, F16, Report, all_logits, beyond, on_cpu, on_device, open, rows, self_extend,
};
use selfextend::sampling::{TokenScore, argmax, log_probability};
use selfextend::{Error, KvType, Model, PositionMap, Session};

/// The authors' toys; see `golden.rs`.
#[test]
fn toy_models() {
    let mut report = Report::default();
    let folder = tempfile::tempdir().unwrap();
    for name in ["toy_0", "toy_2", "toy_3", "toy_5"] {
        let Some(golden) = Golden::open(name) else {
            return;
        };
        let path = folder.path().join("toy.gguf");
        common::write_toy(&golden, &path);
        let Some(model) = on_device(&path) else {
            return;
        };
        for (case, options) in common::toy_cases(&golden, KvType::F16) {
            let actual = all_logits(
                &mut model.session(options.clone()).unwrap(),
                &golden.ids("ids"),
            );
            let expected = rows(&golden.floats(case), model.config().vocab);
            let what = format!("{name} {case} chunk {}", options.chunk);
            let limit = Report::rule(model.config().layers, F16);
            report.rows(&what, &actual, &expected, limit);
        }
    }
    report.end();
}

fn nll(session: &mut Session, ids: &[u32], keep: usize) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (mut nll, mut last) = (Vec::new(), Vec::new());
    let visit = &mut |at: usize, logits: &[f32]| {
        if let Some(&next) = ids.get(at + 1) {
            nll.push(-log_probability(logits, next));
        }
        if at + keep >= ids.len() {
            last.push(logits.to_vec());
        }
    };
    session.append_all(ids, visit).unwrap();
    (nll, last)
}

/// What the device makes of its logits is what the host makes of them.
#[test]
fn scores_are_those_of_the_logits() {
    let Some(path) = smollm2() else { return };
    let Some(model) = on_device(&path) else {
        return;
    };
    let ids: Vec<u32> = (0..300).map(|i| (i * i * 31 + 7) % 49_000).collect();
    let (seen, targets) = (&ids[..299], &ids[1..]);
    let open = || open(&model, self_extend(4, 64), 200);
    let rows = all_logits(&mut open(), seen).into_iter().zip(targets);
    let expected: Vec<_> = rows.map(|(row, &id)| TokenScore::new(&row, id)).collect();
    let mut actual = Vec::new();
    let visit = &mut |_, score| actual.push(score);
    open().score(seen, targets, visit).unwrap();
    assert_eq!(actual.len(), expected.len());
    let pairs = || actual.iter().zip(&expected);
    assert!(pairs().all(|(a, e)| a.is_top == e.is_top));
    let errors = pairs().map(|(a, e)| (a.log_probability - e.log_probability).abs());
    let worst = errors.fold(0.0, f64::max);
    // Of the same logits, the sums of 49152 exponentials in another order.
    eprintln!("scores: {worst:.2e} (limit 1e-4)");
    assert!(!beyond(worst, 1e-4), "{worst}");
}

/// The authors' outputs on the real model: logits by the rule; the loss of a token within 0.1, and
/// its mean within 0.01, which is what the CPU's default settings are held to.
#[test]
fn golden_texts() {
    let Some(path) = smollm2() else { return };
    let Some(model) = on_device(&path) else {
        return;
    };
    let mut report = Report::default();
    for (name, map) in [
        ("short_plain", PositionMap::Plain),
        ("short_g2_w8", self_extend(2, 8)),
        ("short_g3_w10", self_extend(3, 10)),
        ("medium_plain", PositionMap::Plain),
        ("medium_g4_w256", self_extend(4, 256)),
    ] {
        let Some(golden) = Golden::open(name) else {
            return;
        };
        let ids = golden.ids("ids");
        for chunk in [512, 211] {
            let (nll, last) = nll(&mut open(&model, map, chunk), &ids, 8);
            let expected = rows(&golden.floats("logits_last8"), model.config().vocab);
            let what = format!("{name} chunk {chunk}");
            let limit = Report::rule(model.config().layers, F16);
            report.rows(&format!("{what} logits"), &last, &expected, limit);
            let expected = golden.floats("nll");
            let errors = || nll.iter().zip(&expected).map(|(a, e)| a - f64::from(*e));
            let worst = errors().fold(0.0, |worst, error| error.abs().max(worst));
            let mean = errors().sum::<f64>() / expected.len() as f64;
            report.at_most(&format!("{what} nll of a token"), worst, 0.1);
            report.at_most(&format!("{what} mean nll"), mean, 0.01);
        }
    }
    report.end();
}

/// The same tokens as the authors' code, step by step; where two are as likely within the rule, the
/// test follows theirs.
#[test]
fn greedy_decoding() {
    let Some(path) = smollm2() else { return };
    let Some(model) = on_device(&path) else {
        return;
    };
    let mut report = Report::default();
    for (name, map) in [
        ("decode_plain", PositionMap::Plain),
        ("decode_g4_w32", self_extend(4, 32)),
    ] {
        let Some(golden) = Golden::open(name) else {
            return;
        };
        let mut session = open(&model, map, 512);
        let prompt = golden.ids("prompt_ids");
        let mut logits = session.append(&prompt).unwrap();
        let mut worst = 0.0f64;
        for id in golden.ids("new_ids") {
            let behind = logits[argmax(&logits) as usize] - logits[id as usize];
            worst = worst.max(f64::from(behind));
            logits = session.append(&[id]).unwrap();
        }
        report.at_most(
            &format!("{name}: the authors' token is behind by"),
            worst,
            0.1,
        );
    }
    report.end();
}

/// SmolLM2 on the GPU and in float32 on the CPU over the same book: a prefill, then steps.
#[test]
fn the_real_model_gives_the_logits_of_the_cpu() {
    let Some((path, golden)) = smollm2().zip(Golden::open("medium_plain")) else {
        return;
    };
    let Some(device) = on_device(&path) else {
        return;
    };
    let cpu = on_cpu(&path);
    let ids = golden.ids("ids");
    let ids = &ids[..ids.len().min(700)];
    let cut = ids.len() - 24;
    let mut report = Report::default();
    for map in [PositionMap::Plain, self_extend(4, 128)] {
        let run = |model: &Model, kv_type| {
            let mut session = session(model, map, kv_type, 300);
            let mut rows = all_logits(&mut session, &ids[..cut]).split_off(cut - 40);
            for id in &ids[cut..] {
                rows.extend(all_logits(&mut session, &[*id]));
            }
            rows
        };
        let layers = device.config().layers;
        let (actual, expected) = (run(&device, KvType::Q8_0), run(&cpu, KvType::Q8_0));
        let limit = Report::rule(layers, F16 + BYTES);
        report.rows(&format!("{map}, bytes"), &actual, &expected, limit);
        let (actual, expected) = (run(&device, KvType::F16), run(&cpu, KvType::F32));
        let limit = Report::rule(layers, F16);
        report.rows(&format!("{map}"), &actual, &expected, limit);
        // A decode step equals its row of a prefill.
        let whole = all_logits(&mut open(&device, map, 512), ids).split_off(cut);
        report.rows(&format!("{map}, steps"), &actual[40..], &whole, limit);
    }
    report.end();
}

/// A pass with more tokens than attend at once, one that is stopped in its middle, and what follows.
#[test]
fn long_passes() {
    let Some(path) = smollm2() else { return };
    let Some(model) = on_device(&path) else {
        return;
    };
    let ids: Vec<u32> = (0..6500).map(|i| (i * i * 31 + 7) % 49_000).collect();
    let mut report = Report::default();
    let limit = Report::rule(model.config().layers, F16);
    for map in [PositionMap::Plain, self_extend(4, 300)] {
        let last = |session: &mut Session, ids: &[u32]| vec![session.append(ids).unwrap()];
        let expected = last(&mut open(&model, map, 500), &ids);
        let mut session = open(&model, map, ids.len());
        let actual = last(&mut session, &ids);
        report.rows(&format!("{map} in one pass"), &actual, &expected, limit);
        // Half way through its layers.
        assert_eq!(session.truncate(6400), 6400);
        let mut layers = 0;
        let stopped = session.append_with(&ids[..90], |_| {
            layers += 1;
            if layers < 15 {
                Ok(())
            } else {
                Err(Error::Stopped)
            }
        });
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        assert_eq!(session.len(), 6400);
        let actual = last(&mut session, &ids[6400..]);
        report.rows(&format!("{map} after a stop"), &actual, &expected, limit);
    }
    report.end();
}

/// stories260K past its window of 512: the paper's effect, with losses of the authors' code.
#[test]
fn stories_past_the_window() {
    let path = shared("models/stories260K/stories260K-f32.gguf");
    let Some((golden, path)) = Golden::open("stories260K_2048").zip(path) else {
        return;
    };
    let Some(model) = on_device(&path) else {
        return;
    };
    let mut report = Report::default();
    for (name, map) in [
        ("plain", PositionMap::Plain),
        ("g4_w128", self_extend(4, 128)),
        ("g8_w256", self_extend(8, 256)),
    ] {
        let expected = golden.floats(&format!("nll_{name}"));
        for (ids, expected) in golden.ids("ids").chunks(2049).zip(expected.chunks(2048)) {
            let (nll, _) = nll(&mut open(&model, map, 300), ids, 0);
            let errors = || nll.iter().zip(expected).map(|(a, e)| a - f64::from(*e));
            let worst = errors().fold(0.0, |worst, error| error.abs().max(worst));
            let mean = errors().sum::<f64>() / expected.len() as f64;
            report.at_most(&format!("{name} nll of a token"), worst, 0.2);
            report.at_most(&format!("{name} mean nll"), mean, 0.01);
        }
    }
    report.end();
}

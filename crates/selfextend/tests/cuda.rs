//! The engine on a GPU (`--device cuda`), against the references of `golden.rs` and `families.rs`
//! and against the CPU in float32. Skipped, with a message, without a GPU or the feature `cuda`;
//! with `SELFEXTEND_CUDA=required` that fails instead.
//!
//! The error rule. A rounding to 16 bits moves a number by at most `u` relatively, `u` being 2^-11
//! for f16 and 2^-8 for bf16. A layer rounds its weights and its activations some ten times (fewer
//! in passes of at most eight rows, whose linear layers round nothing: a decode step is held to its
//! row of a prefill by the same rule, not bit for bit), and
//! what it adds to the residual stream is about as large as what is there, so errors that add up at
//! random grow with the square root of the layers: logits, less the mean of their row, are off by at
//! most `FACTOR * u * sqrt(layers + 2)` of their size, both as root mean squares over all rows. A row
//! by itself may be off by `ROW` times as much: where a query hesitates between two keys, a softmax
//! turns a small error of a score into a large one.

mod common;

use candle_core::quantized::GgmlDType;
use common::{Golden, checkpoints, session, shared, smollm2, write_tiny};
use selfextend::gguf::{GgufFile, TensorInfo};
use selfextend::method::table::METHODS;
use selfextend::sampling::{TokenScore, argmax, log_probability};
use selfextend::{
    Device, Error, Input, KvType, LoadOptions, LogitRows, Method, Model, Phase, PositionMap,
    QueryScaling, Session, SessionOptions,
};
use std::path::Path;

const FACTOR: f64 = 6.0;
const ROW: f64 = 3.0;
const F16: f64 = 1.0 / 2048.0;
const BF16: f64 = 1.0 / 256.0;
/// What a cache of bytes adds to `u` against another: of some ten roundings of a layer two are to
/// bytes, of the keys and of the values, which moves a number by at most 1/254 of the largest of its
/// block. Both sides round to bytes, and numbers that differ a little may come to differ by a byte:
/// four roundings of ten. (On the CPU bytes move the logits of SmolLM2 by 0.026, which this rule,
/// for one side, has at 0.06; those of the tiny model by 0.0024, at 0.02.)
const BYTES: f64 = 0.632 / 254.0;

fn options(device: Device) -> LoadOptions {
    LoadOptions {
        exact: device == Device::Cpu,
        device,
        ..Default::default()
    }
}

/// A model on the first GPU; `None`, with a word about it, where there is none.
fn on_device(path: &Path) -> Option<Model> {
    match Model::load(path, options(Device::Cuda(0))) {
        Ok(model) => Some(model),
        Err(Error::Device(reason))
            if reason.contains("no NVIDIA driver") || reason.contains("has no CUDA") =>
        {
            let required = std::env::var("SELFEXTEND_CUDA").is_ok_and(|it| it == "required");
            assert!(!required, "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn on_cpu(path: &Path) -> Model {
    Model::load(path, options(Device::Cpu)).unwrap()
}

fn maps() -> [PositionMap; 3] {
    [PositionMap::Plain, self_extend(4, 16), self_extend(7, 30)]
}

fn self_extend(group_size: usize, window: usize) -> PositionMap {
    PositionMap::self_extend(group_size, window).unwrap()
}

fn open(model: &Model, map: PositionMap, chunk: usize) -> Session {
    session(model, map, KvType::F16, chunk)
}

fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let visit = &mut |_, row: &[f32]| rows.push(row.to_vec());
    session.append_all(ids, &mut |_| Ok(()), visit).unwrap();
    rows
}

/// Also of what is no number.
fn beyond(error: f64, limit: f64) -> bool {
    error.is_nan() || error > limit
}

/// What was off, told at the end, so that one run of a test says everything.
#[derive(Default)]
struct Report {
    failed: Vec<String>,
}

impl Report {
    fn rule(layers: usize, unit: f64) -> f64 {
        FACTOR * unit * (layers as f64 + 2.0).sqrt()
    }

    /// Holds rows of logits against others by the rule: all together, and the worst.
    fn rows(&mut self, what: &str, actual: &[Vec<f32>], expected: &[Vec<f32>], limit: f64) {
        if actual.len() != expected.len() {
            let counts = format!("{} rows for {}", actual.len(), expected.len());
            return self.failed.push(format!("{what}: {counts}"));
        }
        let (mut worst, mut at, mut most) = (0.0, 0, 0.0f64);
        let (mut all_errors, mut all_sizes) = (0.0, 0.0);
        for (row, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let (actual, expected) = (wide(actual), wide(expected));
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            let size: f64 = expected.iter().map(|e| (e - mean).powi(2)).sum();
            let errors = || actual.iter().zip(&expected).map(|(a, e)| (a - e).abs());
            let error: f64 = errors().map(|error| error * error).sum();
            let ratio = (error / size).sqrt();
            most = errors().fold(most, f64::max);
            (all_errors, all_sizes) = (all_errors + error, all_sizes + size);
            if beyond(ratio, worst) {
                (worst, at) = (ratio, row);
            }
            if ratio.is_nan() {
                break;
            }
        }
        let all = (all_errors / all_sizes).sqrt();
        self.at_most(&format!("{what}: relative error"), all, limit);
        let row = format!("{what}: of row {at} (largest difference {most:.1e}), relative error");
        self.at_most(&row, worst, ROW * limit);
    }

    fn at_most(&mut self, what: &str, value: f64, limit: f64) {
        let line = format!("{what}: {value:.2e} (limit {limit:.1e})");
        println!("{line}");
        if beyond(value.abs(), limit) {
            self.failed.push(line);
        }
    }

    fn end(self) {
        let failed = self.failed.join("\n");
        assert!(failed.is_empty(), "beyond the rule:\n{failed}");
    }
}

/// Rows of flat logits.
fn rows(logits: &[f32], vocab: usize) -> Vec<Vec<f32>> {
    logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

/// A tiny model's text.
fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i * 7 + i / 3) % VOCAB).collect()
}

const VOCAB: u32 = 50;

/// Those that have kernels on a GPU.
const K_QUANTS: [GgmlDType; 4] = [
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// A tiny model on the GPU and on the CPU.
fn tiny(dtype: GgmlDType) -> Option<(Model, Model)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny(&path, dtype, VOCAB as usize);
    Some((on_device(&path)?, on_cpu(&path)))
}

#[test]
fn every_weight_format_gives_the_logits_of_the_cpu() {
    use GgmlDType::{BF16, F16, F32, Q2K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let mut report = Report::default();
    for dtype in [
        [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K].as_slice(),
        &K_QUANTS,
    ]
    .concat()
    {
        let Some((device, cpu)) = tiny(dtype) else {
            return;
        };
        let unit = if dtype == BF16 { self::BF16 } else { self::F16 };
        for map in maps() {
            let expected = all_logits(&mut session(&cpu, map, KvType::F32, 256), &text(256));
            for chunk in [256, 100, 3, 1] {
                let actual = all_logits(&mut open(&device, map, chunk), &text(256));
                let what = format!("{dtype:?} {map} chunk {chunk}");
                report.rows(&what, &actual, &expected, Report::rule(2, unit));
            }
        }
    }
    report.end();
}

/// Weights take on the device what they take in the file, but for gaps between the parts of a
/// matrix and for scales that the device keeps in bytes.
#[test]
fn packed_weights_stay_packed() {
    use GgmlDType::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let check = |path: &Path| {
        let Some(model) = on_device(path) else {
            return;
        };
        let file = GgufFile::open(path).unwrap();
        let matrices = || file.tensors().filter(|tensor| tensor.format != "F32");
        let in_file: usize = matrices().map(|tensor| tensor.bytes).sum();
        // Q3_K is widened to the 4 bits of Q4_0.
        let wide = |tensor: &TensorInfo| match tensor.format.as_str() {
            "Q3_K" => tensor.elements * 37 / 64,
            _ => tensor.bytes * 33 / 32,
        };
        let most: usize = matrices().map(|tensor| wide(&tensor) + 1024).sum();
        let held = model.weight_bytes();
        println!(
            "{}: {held} bytes of weights, {in_file} in the file",
            path.display()
        );
        assert!((in_file..=most).contains(&held), "{}", path.display());
    };
    let folder = tempfile::tempdir().unwrap();
    for dtype in [[Q4_0, Q4_1, Q5_0, Q5_1, Q8_0].as_slice(), &K_QUANTS].concat() {
        let path = folder.path().join(format!("{dtype:?}.gguf"));
        write_tiny(&path, dtype, VOCAB as usize);
        check(&path);
    }
    if let Some(path) = smollm2() {
        check(&path);
    }
}

/// Every method of the table, in chunks and then token by token, far enough for every region.
#[test]
fn every_method_gives_the_logits_of_the_cpu() {
    let Some((device, cpu)) = tiny(GgmlDType::F16) else {
        return;
    };
    let mut report = Report::default();
    let mut seen = 0;
    let context = 250;
    for entry in METHODS {
        let options = entry.name.parse::<Method>().map_err(|e| e.to_string());
        let options = options.and_then(|it| it.options(64, context).map_err(|e| e.to_string()));
        let options = match options {
            Ok(options) => SessionOptions {
                query_scaling: QueryScaling::LogN { base: 64 },
                ..options
            },
            Err(error) => {
                println!("{} needs more than its name: {error}", entry.name);
                continue;
            }
        };
        seen += 1;
        let run = |model: &Model, kv_type| {
            let mut session = model.session(SessionOptions {
                kv_type,
                chunk: 70,
                ..options
            });
            let text = text(context as u32);
            let mut rows = all_logits(&mut session, &text[..230]);
            for token in &text[230..] {
                rows.extend(all_logits(&mut session, &[*token]));
            }
            rows
        };
        let (actual, expected) = (run(&device, KvType::F16), run(&cpu, KvType::F32));
        report.rows(entry.name, &actual, &expected, Report::rule(2, F16));
    }
    assert!(seen >= 10, "{seen} methods were run");
    report.end();
}

/// Keys and values as bytes, on both sides. A pass reads its own tokens as they are stored too, so
/// chunks change nothing beyond the rule.
#[test]
fn caches_of_bytes_give_the_logits_of_the_cpu() {
    let Some((device, cpu)) = tiny(GgmlDType::F16) else {
        return;
    };
    let (mut report, limit) = (Report::default(), Report::rule(2, F16 + BYTES));
    let text = text(1500);
    for map in maps() {
        let run = |model: &Model, chunk| {
            let mut session = session(model, map, KvType::Q8_0, chunk);
            let rows = all_logits(&mut session, &text);
            (rows, session.cache_bytes())
        };
        let (expected, _) = run(&cpu, 512);
        let (whole, bytes) = run(&device, 512);
        report.rows(&format!("{map}"), &whole, &expected, limit);
        for chunk in [100, 3, 1] {
            let what = format!("{map} chunk {chunk}");
            report.rows(&what, &run(&device, chunk).0, &whole, limit);
        }
        let mut halves = open(&device, map, 512);
        all_logits(&mut halves, &text);
        let ratio = bytes as f64 / halves.cache_bytes() as f64;
        println!("{map}: {ratio:.2} of the bytes of a cache in f16");
        // 34 bytes for 32 numbers, but rings as they are.
        assert!(ratio < if map == PositionMap::Plain { 0.54 } else { 0.8 });
    }
    report.end();
}

/// Through several growths of the cache, and with a chunk larger than the session's.
#[test]
fn long_sequences_grow() {
    let Some((device, cpu)) = tiny(GgmlDType::F16) else {
        return;
    };
    let mut report = Report::default();
    let text = text(5000);
    for map in [
        PositionMap::Plain,
        self_extend(100, 48),
        self_extend(90, 700),
    ] {
        let expected = all_logits(&mut session(&cpu, map, KvType::F32, 512), &text);
        let mut growing = open(&device, map, 300);
        let mut actual = all_logits(&mut growing, &text[..4000]);
        let mut rest = Vec::new();
        let mut input = Input {
            session: &mut growing,
            tokens: &text[4000..],
            logits: LogitRows::All,
        };
        let inputs = std::slice::from_mut(&mut input);
        let visit = &mut |_: usize, _: usize, row: &[f32]| rest.push(row.to_vec());
        device.forward(inputs, &mut |_| Ok(()), visit).unwrap();
        actual.extend(rest);
        let what = format!("{map}, 5000 tokens");
        report.rows(&what, &actual, &expected, Report::rule(2, F16));
        println!("{what}: {} bytes of cache", growing.cache_bytes());
    }
    report.end();
}

#[test]
fn truncating_and_forking_continue_like_a_fresh_run() {
    let Some((device, _)) = tiny(GgmlDType::F16) else {
        return;
    };
    let (mut report, text) = (Report::default(), text(400));
    for map in maps() {
        let mut fresh = open(&device, map, 64);
        all_logits(&mut fresh, &text[..100]);
        let expected = all_logits(&mut fresh, &text[100..200]);
        let mut long = open(&device, map, 64);
        all_logits(&mut long, &text[..100]);
        all_logits(&mut long, &text[50..90]);
        let mut fork = long.fork();
        for (name, session) in [("truncated", &mut long), ("forked", &mut fork)] {
            assert_eq!(session.truncate(100), 100, "{map} {name}");
            let actual = all_logits(session, &text[100..200]);
            let what = format!("{map} {name}");
            report.rows(&what, &actual, &expected, Report::rule(2, F16));
        }
        // The fork goes its own way.
        all_logits(&mut long, &text[..100]);
        assert_eq!((long.len(), fork.len()), (300, 200));
        // Either all that was asked for is left, or nothing: never keys that are gone.
        let left = long.truncate(60);
        assert!(left == 60 || left == 0, "{map}: {left} left");
        let actual = all_logits(&mut long, &text[left..200]);
        let mut fresh = open(&device, map, 64);
        let expected = all_logits(&mut fresh, &text[..200]).split_off(left);
        let what = format!("{map} truncated far, {left} left");
        report.rows(&what, &actual, &expected, Report::rule(2, F16));
    }
    report.end();
}

/// Sequences of several maps and lengths in one pass, prefill and decode mixed.
#[test]
fn sequences_in_one_pass_equal_each_alone() {
    let Some((device, _)) = tiny(GgmlDType::F16) else {
        return;
    };
    let (mut report, text) = (Report::default(), text(300));
    let [plain, near, far] = maps();
    let cases = [
        (plain, 1),
        (near, 9),
        (near, 70),
        (far, 200),
        (plain, 3),
        (far, 2),
    ];
    let start = |(map, n): (PositionMap, usize)| {
        let mut session = open(&device, map, 256);
        all_logits(&mut session, &text[..n]);
        session
    };
    for step in [1, 40] {
        let alone: Vec<_> = cases
            .iter()
            .map(|&(map, n)| all_logits(&mut start((map, n)), &text[n..n + step]))
            .collect();
        let mut sessions: Vec<Session> = cases.iter().map(|&case| start(case)).collect();
        let mut inputs: Vec<Input> = sessions
            .iter_mut()
            .zip(cases)
            .map(|(session, (_, n))| Input {
                session,
                tokens: &text[n..n + step],
                logits: LogitRows::All,
            })
            .collect();
        let mut together = vec![Vec::new(); cases.len()];
        let visit = &mut |input: usize, _, row: &[f32]| together[input].push(row.to_vec());
        let phase = if step == 1 {
            Phase::Decode
        } else {
            Phase::Prefill
        };
        device
            .forward_in(phase, &mut inputs, &mut |_| Ok(()), visit)
            .unwrap();
        for (n, (together, alone)) in together.iter().zip(&alone).enumerate() {
            let what = format!("sequence {n} of a batch, {step} tokens");
            report.rows(&what, together, alone, Report::rule(2, F16));
        }
    }
    report.end();
}

#[test]
fn what_a_device_cannot_do_is_refused() {
    let Some((device, _)) = tiny(GgmlDType::F16) else {
        return;
    };
    let mut wide = session(&device, PositionMap::Plain, KvType::F32, 16);
    let error = wide.append(&[1, 2], &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("16 bits"), "{error}");
    assert!(wide.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny(&path, GgmlDType::F16, 50);
    let load = |options| Model::load(&path, options).err().unwrap().to_string();
    let exact = load(LoadOptions {
        exact: true,
        ..options(Device::Cuda(0))
    });
    assert!(exact.contains("float32"), "{exact}");
    let absent = load(options(Device::Cuda(99)));
    assert!(absent.contains("cuda"), "{absent}");
    // A stopped pass leaves the session as it was.
    let mut session = open(&device, self_extend(4, 16), 16);
    let stopped = session.append(&text(40), &mut |done| match done {
        0 => Ok(()),
        _ => Err(Error::Stopped),
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(session.len(), 16);
    let mut report = Report::default();
    let actual = all_logits(&mut session, &text(60)[16..]);
    let whole = all_logits(&mut open(&device, self_extend(4, 16), 60), &text(60));
    report.rows("after a stop", &actual, &whole[16..], Report::rule(2, F16));
    report.end();
}

/// Every family, from both formats, as in `families.rs`.
#[test]
fn families() {
    let mut report = Report::default();
    for folder in checkpoints() {
        let golden = Golden::read(&folder.join("reference.safetensors"));
        for path in [folder.clone(), folder.join("model.gguf")] {
            let Some(model) = on_device(&path) else {
                return;
            };
            let name = path.strip_prefix(folder.parent().unwrap()).unwrap();
            let is_bf16 = name.display().to_string().contains("bfloat16");
            let limit = Report::rule(model.config().layers, if is_bf16 { BF16 } else { F16 });
            let ids = golden.ids("ids");
            for (what, map) in [
                ("logits", PositionMap::Plain),
                ("selfextend_logits", self_extend(4, 12)),
            ] {
                let expected = rows(&golden.floats(what), model.config().vocab);
                for chunk in [72, 31, 1] {
                    let actual = all_logits(&mut open(&model, map, chunk), &ids);
                    let what = format!("{} {map} chunk {chunk}", name.display());
                    report.rows(&what, &actual, &expected, limit);
                }
            }
        }
    }
    report.end();
}

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
            let actual = all_logits(&mut model.session(options), &golden.ids("ids"));
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
    session.append_all(ids, &mut |_| Ok(()), visit).unwrap();
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
    open().score(seen, targets, &mut |_| Ok(()), visit).unwrap();
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
        let mut logits = session.append(&prompt, &mut |_| Ok(())).unwrap();
        let mut worst = 0.0f64;
        for id in golden.ids("new_ids") {
            let behind = logits[argmax(&logits) as usize] - logits[id as usize];
            worst = worst.max(f64::from(behind));
            logits = session.append(&[id], &mut |_| Ok(())).unwrap();
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
        let last = |session: &mut Session, ids: &[u32]| {
            vec![session.append(ids, &mut |_| Ok(())).unwrap()]
        };
        let expected = last(&mut open(&model, map, 500), &ids);
        let mut session = open(&model, map, ids.len());
        let actual = last(&mut session, &ids);
        report.rows(&format!("{map} in one pass"), &actual, &expected, limit);
        // Half way through its layers.
        let _ = session.truncate(6400);
        let mut layers = 0;
        let stopped = session.append(&ids[..90], &mut |_| {
            layers += 1;
            if layers < 15 {
                Ok(())
            } else {
                Err(Error::Stopped)
            }
        });
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        let left = session.len();
        assert!(left == 6400 || left == 0, "{left}");
        let actual = last(&mut session, &ids[left..]);
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

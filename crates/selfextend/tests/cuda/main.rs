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
#[path = "../common/mod.rs"]
mod common;
mod interrupted;
mod real;
mod rule;

use common::{Golden, checkpoints, session, smollm2, write_tiny};
use rule::{
    BF16, BYTES, F16, K_QUANTS, Report, VOCAB, all_logits, maps, on_device, open, options, rows,
    self_extend, text, tiny,
};
use selfextend::gguf::GgufFile;
use selfextend::method::table::METHODS;
use selfextend::{
    Device, Error, Input, KvType, LinearMode, LogitRows, Method, Model, PAGE, Phase, PositionMap,
    QueryScaling, Session, SessionOptions, TensorFormat, TensorInfo,
};
use std::path::Path;

#[test]
fn every_weight_format_gives_the_logits_of_the_cpu() {
    use TensorFormat::{BF16, F16, F32, Q2K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
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
    use TensorFormat::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
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
    let Some((device, cpu)) = tiny(TensorFormat::F16) else {
        return;
    };
    let mut report = Report::default();
    let mut seen = 0;
    let context = 250;
    for entry in METHODS {
        let options = entry.name.parse::<Method>().map_err(|e| e.to_string());
        let options = options.and_then(|it| it.resolve(64, context).map_err(|e| e.to_string()));
        let extension = match options {
            Ok(extension) => extension.with_query_scaling(QueryScaling::LogN { base: 64 }),
            Err(error) => {
                println!("{} needs more than its name: {error}", entry.name);
                continue;
            }
        };
        seen += 1;
        let run = |model: &Model, kv_type| {
            let options = SessionOptions::new(extension.clone());
            let options = options.with_kv_type(kv_type).with_chunk(70);
            let mut session = model.session(options).unwrap();
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
    let Some((device, cpu)) = tiny(TensorFormat::F16) else {
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
    let Some((device, cpu)) = tiny(TensorFormat::F16) else {
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
        device.forward(Phase::ByLength, inputs, visit).unwrap();
        actual.extend(rest);
        let what = format!("{map}, 5000 tokens");
        report.rows(&what, &actual, &expected, Report::rule(2, F16));
        println!("{what}: {} bytes of cache", growing.cache_bytes());
    }
    report.end();
}

/// What is reserved is within what blocks and rings are said to take, and nothing is added to it.
#[test]
fn reserved_room_is_all_a_sequence_takes() {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
        return;
    };
    let tokens = 1400;
    for map in maps() {
        for kv_type in [KvType::F16, KvType::Q8_0] {
            let mut session = session(&device, map, kv_type, 300);
            session.reserve(tokens).unwrap();
            let bytes = session.cache_bytes();
            let said = device.session_bytes(session.options()).unwrap();
            assert!(bytes <= said.of(tokens), "{map} {kv_type:?}");
            all_logits(&mut session, &text(tokens as u32));
            assert_eq!(session.cache_bytes(), bytes, "{map} {kv_type:?}");
            assert_eq!(
                session.fork().unwrap().cache_bytes(),
                bytes,
                "{map} {kv_type:?}"
            );
        }
    }
}

#[test]
fn truncating_and_forking_continue_like_a_fresh_run() {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
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
        let mut fork = long.fork().unwrap();
        for (name, session) in [("truncated", &mut long), ("forked", &mut fork)] {
            assert_eq!(session.truncate(100), 100, "{map} {name}");
            let actual = all_logits(session, &text[100..200]);
            let what = format!("{map} {name}");
            report.rows(&what, &actual, &expected, Report::rule(2, F16));
        }
        // The fork goes its own way.
        all_logits(&mut long, &text[..100]);
        assert_eq!((long.len(), fork.len()), (300, 200));
        // To where rings have been overwritten.
        for left in [190, 3] {
            assert_eq!(long.truncate(left), left, "{map}");
            let actual = all_logits(&mut long, &text[left..left + 100]);
            let mut fresh = open(&device, map, 64);
            all_logits(&mut fresh, &text[..left]);
            let expected = all_logits(&mut fresh, &text[left..left + 100]);
            let what = format!("{map} truncated to {left}");
            report.rows(&what, &actual, &expected, Report::rule(2, F16));
        }
    }
    report.end();
}

/// A session that takes over blocks of another's prompt, the last of them in part, goes on like one
/// that read it. Under every method: some derive a window of keys, some the first keys of all.
#[test]
fn blocks_of_others_continue_like_a_fresh_run() {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
        return;
    };
    let (mut report, text) = (Report::default(), text(700));
    let prefix = 2 * PAGE + 28;
    for entry in METHODS {
        let method = entry.name.parse::<Method>();
        let Ok(extension) = method.and_then(|it| it.resolve(64, text.len())) else {
            continue;
        };
        for (kv_type, unit) in [(KvType::F16, F16), (KvType::Q8_0, F16 + BYTES)] {
            let options = SessionOptions::new(extension.clone());
            let options = options.with_kv_type(kv_type).with_chunk(70);
            let open = || device.session(options.clone()).unwrap();
            let mut first = open();
            all_logits(&mut first, &text[..prefix + 40]);
            let mut next = open();
            for number in 0..3 {
                let block = first.block(number).unwrap();
                assert_eq!(block.bytes(), first.block_bytes());
                let bytes = block.to_bytes().unwrap();
                assert!(next.read_block(&bytes[1..]).unwrap().is_none());
                let block = next.read_block(&bytes).unwrap().unwrap();
                let tokens = PAGE.min(prefix - number * PAGE);
                next.push_block(&block, tokens).unwrap();
            }
            assert!(first.block(3).is_none() && next.len() == prefix);
            drop(first);
            let mut fresh = open();
            all_logits(&mut fresh, &text[..prefix]);
            let [actual, expected] = [&mut next, &mut fresh].map(|session| {
                let mut rows = all_logits(session, &text[prefix..690]);
                for token in &text[690..] {
                    rows.extend(all_logits(session, &[*token]));
                }
                rows
            });
            let what = format!("{} {kv_type:?} from blocks", entry.name);
            report.rows(&what, &actual, &expected, Report::rule(2, unit));
        }
    }
    report.end();
}

/// Sequences of several maps and lengths in one pass, prefill and decode mixed.
#[test]
fn sequences_in_one_pass_equal_each_alone() {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
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
        device.forward(phase, &mut inputs, visit).unwrap();
        for (n, (together, alone)) in together.iter().zip(&alone).enumerate() {
            let what = format!("sequence {n} of a batch, {step} tokens");
            report.rows(&what, together, alone, Report::rule(2, F16));
        }
    }
    report.end();
}

#[test]
fn what_a_device_cannot_do_is_refused() {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
        return;
    };
    let wide = common::options(&device, PositionMap::Plain, KvType::F32, 16);
    let error = device.session(wide).err().unwrap();
    assert!(error.to_string().contains("16 bits"), "{error}");
    let small = common::options(&device, PositionMap::Plain, KvType::Q4, 16);
    let error = device.session(small).err().unwrap();
    assert!(error.to_string().contains("q4"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny(&path, TensorFormat::F16, 50);
    let load = |options| Model::load(&path, options).err().unwrap().to_string();
    for (linear, named) in [(LinearMode::F32, "float32"), (LinearMode::Fast, "8-bit")] {
        let refused = load(options(Device::Cuda(0)).with_linear(linear));
        assert!(refused.contains(named), "{refused}");
    }
    let absent = load(options(Device::Cuda(99)));
    assert!(absent.contains("cuda"), "{absent}");
    // A stopped pass leaves the session as it was.
    let mut session = open(&device, self_extend(4, 16), 16);
    let stopped = session.append_with(&text(40), |done| match done {
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
            if rule::on_cpu(&path).config().experts.is_some() {
                let refused = Model::load(&path, options(Device::Cuda(0))).err().unwrap();
                let said = refused.to_string();
                let absent = said.contains("no NVIDIA driver") || said.contains("has no CUDA");
                assert!(absent || said.contains("mixtures of experts"), "{said}");
                continue;
            }
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

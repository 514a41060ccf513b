//! A pass that ends early, with an error or in a panic, at whatever layer, leaves its sessions bit
//! for bit as they were.

mod common;

use common::{checkpoints, extensions, write_tiny_with};
use selfextend::method::table::METHODS;
use selfextend::{
    Error, Input, KvType, LoadOptions, LogitRows, Method, Model, PAGE, Phase, Session,
    SessionOptions, TensorFormat,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Pass = (Phase, usize);

/// What each session reads: across the windows of every method, its pages and its evictions.
const PASSES: [Pass; 11] = [
    (Phase::Prefill, 120),
    (Phase::Decode, 1),
    (Phase::ByLength, 4),
    (Phase::Prefill, 3),
    (Phase::Decode, 1),
    (Phase::Prefill, 250),
    (Phase::ByLength, 2),
    (Phase::Decode, 1),
    (Phase::Prefill, 290),
    (Phase::Decode, 1),
    (Phase::ByLength, 4),
];
/// What is interrupted.
const SHAPES: [Pass; 4] = [
    (Phase::Decode, 1),
    (Phase::ByLength, 4),
    (Phase::Prefill, 2),
    (Phase::Prefill, 90),
];
const CONTEXT: usize = 800;
const KV_TYPES: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4];

fn token(i: usize) -> u32 {
    ((i * i * 7 + i / 3) % 61) as u32
}

/// Models of several layers: of two kinds, and with sliding windows.
fn models() -> Vec<Model> {
    let wanted = |path: &std::path::PathBuf| path.ends_with("smollm3") || path.ends_with("gemma3");
    let paths = checkpoints().into_iter().filter(wanted);
    let load = |path| Model::load(path, LoadOptions::new().with_threads(1)).unwrap();
    let models: Vec<Model> = paths.map(load).collect();
    assert!(models.len() == 2 && models.iter().all(|it| it.config().layers >= 5));
    models
}

/// Every model and method, each with some storage, plain attention and SelfExtend with all. Passes of
/// one model wait for each other, so each thread has its own.
fn everywhere(check: impl Fn(&Model, SessionOptions, &str) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let check_some = &|thread: usize| {
        let mut cases = 0;
        for model in models() {
            for (n, extension) in extensions(&model, CONTEXT).into_iter().enumerate() {
                let with_all = ["plain", "selfextend"].contains(&METHODS[n].name);
                let some = KV_TYPES.iter().enumerate();
                for (_, &kv_type) in some.filter(|(k, _)| with_all || n % KV_TYPES.len() == *k) {
                    cases += 1;
                    if cases % threads == thread {
                        let layers = model.config().layers;
                        let what = format!("{layers} layers, {extension} {kv_type:?}");
                        let options = SessionOptions::new(extension.clone());
                        check(&model, options.with_kv_type(kv_type), &what);
                    }
                }
            }
        }
        assert_eq!(cases, 2 * (METHODS.len() + 2 * (KV_TYPES.len() - 1)));
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|thread| drop(scope.spawn(move || check_some(thread))));
    });
}

/// One pass over tokens that follow the session's; all logits.
fn pass(session: &mut Session, (phase, count): Pass) -> Vec<Vec<f32>> {
    let tokens: Vec<u32> = (session.len()..session.len() + count).map(token).collect();
    let model = session.model().clone();
    let mut rows = Vec::new();
    let visit = &mut |_: usize, _: usize, row: &[f32]| rows.push(row.to_vec());
    let mut inputs = [input(session, &tokens)];
    model.forward(phase, &mut inputs, visit).unwrap();
    rows
}

fn input<'a>(session: &'a mut Session, tokens: &'a [u32]) -> Input<'a> {
    Input {
        session,
        tokens,
        logits: LogitRows::All,
    }
}

/// How a pass ends early.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With an error before a layer.
    Error(usize),
    /// In a panic before a layer.
    Panic(usize),
    /// In a panic after the last layer, where logits are handed out.
    PanicAfterwards,
}

/// A pass over other tokens than the session will read, ended early.
fn interrupt(sessions: &mut [&mut Session], (phase, count): Pass, end: End) {
    let lengths: Vec<usize> = sessions.iter().map(|session| session.len()).collect();
    let tokens: Vec<u32> = (0..count).map(|i| token(5 * i + 2)).collect();
    let model = sessions[0].model().clone();
    let mut inputs: Vec<Input> = sessions.iter_mut().map(|it| input(it, &tokens)).collect();
    let on_layer = |layer| match end {
        End::Error(at) if layer == at => Err(Error::Stopped),
        End::Panic(at) if layer == at => std::panic::resume_unwind(Box::new("on purpose")),
        _ => Ok(()),
    };
    let visit = |_: usize, _: usize, _: &[f32]| std::panic::resume_unwind(Box::new("on purpose"));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        model.forward_with(phase, &mut inputs, on_layer, visit)
    }));
    match end {
        End::Error(_) => assert!(matches!(ended, Ok(Err(Error::Stopped)))),
        End::Panic(_) | End::PanicAfterwards => assert!(ended.is_err()),
    }
    let after: Vec<usize> = sessions.iter().map(|session| session.len()).collect();
    assert_eq!(after, lengths);
}

/// Every way a pass of a model can end early.
fn ends(model: &Model) -> Vec<End> {
    let layers = 0..model.config().layers;
    let panics = layers.clone().map(End::Panic).chain([End::PanicAfterwards]);
    layers.map(End::Error).chain(panics).collect()
}

/// A session at each point of the passes, and the logits of those passes.
fn reference(model: &Model, options: &SessionOptions) -> (Vec<Session>, Vec<Vec<Vec<f32>>>) {
    let mut session = model.session(options.clone()).unwrap();
    let run = PASSES.map(|it| (session.fork().unwrap(), pass(&mut session, it)));
    run.into_iter().unzip()
}

#[test]
fn a_pass_that_ends_at_any_layer_leaves_its_session_as_it_was() {
    everywhere(|model, options, what| {
        let (starts, expected) = reference(model, &options);
        for (at, start) in starts.iter().enumerate() {
            for (n, end) in ends(model).into_iter().enumerate() {
                // Errors interrupt every shape, panics one of them.
                let some = SHAPES.iter().enumerate();
                let some = some.filter(|(k, _)| matches!(end, End::Error(_)) || (at + n) % 4 == *k);
                for (_, &shape) in some {
                    let mut session = start.fork().unwrap();
                    interrupt(&mut [&mut session], shape, end);
                    for next in at..PASSES.len().min(at + 2) {
                        let same = pass(&mut session, PASSES[next]) == expected[next];
                        assert!(same, "{what}: {shape:?} before {at}, {end:?}, pass {next}");
                    }
                }
            }
        }
    });
}

#[test]
fn interruptions_in_a_row_leave_a_session_as_it_was() {
    everywhere(|model, options, what| {
        let (_, expected) = reference(model, &options);
        let mut session = model.session(options).unwrap();
        for (at, &next) in PASSES.iter().enumerate() {
            let mut all = ends(model);
            all.rotate_left(at % model.config().layers);
            for (n, end) in all.into_iter().enumerate() {
                interrupt(&mut [&mut session], SHAPES[(n + at) % SHAPES.len()], end);
            }
            let same = pass(&mut session, next) == expected[at];
            assert!(same, "{what}: pass {at}");
        }
    });
}

#[test]
fn an_interrupted_session_is_truncated_forked_and_shared_like_any_other() {
    everywhere(|model, options, what| {
        let (starts, expected) = reference(model, &options);
        let model_ends = ends(model);
        for (at, start) in starts.iter().enumerate().skip(1) {
            for (n, shape) in SHAPES.into_iter().enumerate() {
                let end = model_ends[(3 * at + n) % model_ends.len()];
                let what = format!("{what}: {shape:?} before {at}, {end:?}");
                let mut session = start.fork().unwrap();
                interrupt(&mut [&mut session], shape, end);
                // A fork, while the first goes its own way.
                let mut fork = session.fork().unwrap();
                pass(&mut session, (Phase::Decode, 1));
                assert!(pass(&mut fork, PASSES[at]) == expected[at], "{what}: fork");
                for left in [start.len() - 1, start.len() / 2, 0] {
                    let mut never = start.fork().unwrap();
                    let mut session = start.fork().unwrap();
                    interrupt(&mut [&mut session], shape, end);
                    assert_eq!(session.truncate(left), never.truncate(left), "{what}");
                    interrupt(&mut [&mut session], shape, end);
                    for next in [(Phase::Decode, 1), (Phase::Prefill, 20), (Phase::Decode, 1)] {
                        let same = pass(&mut session, next) == pass(&mut never, next);
                        assert!(same, "{what}: truncated to {left}, {next:?}");
                    }
                }
                // Blocks of an interrupted session, for one that was interrupted itself.
                let Some(block) = start.fork().unwrap().block(0) else {
                    continue;
                };
                let tokens = PAGE.min(start.len()) - 1;
                let mut never = model.session(options.clone()).unwrap();
                never.push_block(&block, tokens).unwrap();
                let mut source = start.fork().unwrap();
                interrupt(&mut [&mut source], shape, end);
                let mut session = model.session(options.clone()).unwrap();
                interrupt(&mut [&mut session], shape, end);
                let bytes = source.block(0).unwrap().to_bytes().unwrap();
                let block = session.read_block(&bytes).unwrap().unwrap();
                session.push_block(&block, tokens).unwrap();
                for next in [(Phase::Decode, 1), (Phase::Prefill, 20)] {
                    let same = pass(&mut session, next) == pass(&mut never, next);
                    assert!(same, "{what}: from a block, {next:?}");
                }
            }
        }
    });
}

#[test]
fn every_session_of_an_interrupted_pass_is_as_it_was() {
    everywhere(|model, options, what| {
        let (starts, expected) = reference(model, &options);
        for (n, end) in ends(model).into_iter().enumerate() {
            for (k, shape) in SHAPES.into_iter().enumerate() {
                let mut sessions: Vec<_> = starts.iter().map(|it| it.fork().unwrap()).collect();
                let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
                interrupt(&mut all, shape, end);
                let at = (n * SHAPES.len() + k) % sessions.len();
                let same = pass(&mut sessions[at], PASSES[at]) == expected[at];
                assert!(same, "{what}: {shape:?}, {end:?}, session {at}");
            }
        }
    });
}

/// Logits that are no numbers end a pass after its last layer, and what it stored is no number
/// either: nothing of it may reach a later pass, also not with a weight of zero.
#[test]
fn a_pass_without_numbers_leaves_its_session_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let bad = 61;
    for poison in [f32::NAN, f32::INFINITY] {
        write_tiny_with(&path, TensorFormat::F32, 62, |tensors| {
            let clean = tensors[0].1.clone();
            let row = 256 * size_of::<f32>();
            let embedding = &mut tensors[0].1.bytes[bad * row..][..4];
            embedding.copy_from_slice(&poison.to_le_bytes());
            tensors.push(("output.weight".into(), clean));
        });
        let model = Model::load(&path, LoadOptions::new().with_threads(1)).unwrap();
        for name in ["plain", "selfextend", "streaming-llm", "lm-infinite"] {
            let extension = name.parse::<Method>().unwrap();
            let extension = extension.resolve(64, CONTEXT).unwrap();
            for kv_type in KV_TYPES {
                let options = SessionOptions::new(extension.clone()).with_kv_type(kv_type);
                let (starts, expected) = reference(&model, &options);
                for (at, start) in starts.iter().enumerate() {
                    for (n, (phase, count)) in SHAPES.into_iter().enumerate() {
                        let mut session = start.fork().unwrap();
                        let mut tokens: Vec<u32> = (0..count).map(token).collect();
                        tokens[count - 1] = bad as u32;
                        let refused = if n % 2 == 0 {
                            let inputs = &mut [input(&mut session, &tokens)];
                            model.forward(phase, inputs, |_, _, _| {})
                        } else {
                            session.score(&tokens, &tokens, |_, _| {})
                        };
                        assert!(
                            matches!(refused, Err(Error::NotFinite { .. })),
                            "{refused:?}"
                        );
                        assert_eq!(session.len(), start.len());
                        for next in at..PASSES.len().min(at + 2) {
                            let same = pass(&mut session, PASSES[next]) == expected[next];
                            assert!(same, "{name} {kv_type:?}: {count} before {at}, pass {next}");
                        }
                    }
                }
            }
        }
    }
}

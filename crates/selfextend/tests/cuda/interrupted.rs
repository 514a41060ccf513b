//! Passes that end early on a GPU, at whatever layer, as in `../interrupted.rs`.
//!
//! The same passes in the same company run the same kernels there too, so what follows an
//! interruption is held to the bit, not to the rule. Each pass is compared with one of a session that
//! was never interrupted and took part in everything else: forks have the room of their source.

use crate::rule::{VOCAB, text, tiny};
use selfextend::method::table::METHODS;
use selfextend::{
    Error, Input, KvType, LogitRows, Method, Model, PAGE, Phase, Session, SessionOptions,
    TensorFormat,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Tokens of each pass: few (recorded, later a graph) and many.
const PASSES: [usize; 12] = [120, 1, 1, 1, 4, 3, 250, 2, 1, 290, 1, 4];
/// Tokens of what is interrupted.
const SHAPES: [usize; 4] = [1, 4, 20, 300];
const CONTEXT: usize = 1000;

/// How a pass ends early: before a layer, or where logits are handed out.
#[derive(Debug, Clone, Copy)]
enum End {
    Error(usize),
    Panic(usize),
    PanicAfterwards,
}

fn input<'a>(session: &'a mut Session, tokens: &'a [u32]) -> Input<'a> {
    Input {
        session,
        tokens,
        logits: LogitRows::All,
    }
}

fn pass(session: &mut Session, count: usize) -> Vec<Vec<f32>> {
    let from = session.len();
    let tokens = &text((from + count) as u32)[from..];
    let model = session.model().clone();
    let mut rows = Vec::new();
    let visit = &mut |_: usize, _: usize, row: &[f32]| rows.push(row.to_vec());
    model
        .forward(Phase::ByLength, &mut [input(session, tokens)], visit)
        .unwrap();
    rows
}

fn interrupt(session: &mut Session, count: usize, end: End) {
    let tokens: Vec<u32> = (0..count as u32).map(|i| (7 * i + 3) % VOCAB).collect();
    let (model, len) = (session.model().clone(), session.len());
    let on_layer = |layer| match end {
        End::Error(at) if layer == at => Err(Error::Stopped),
        End::Panic(at) if layer == at => resume_unwind(Box::new("on purpose")),
        _ => Ok(()),
    };
    let visit = |_: usize, _: usize, _: &[f32]| resume_unwind(Box::new("on purpose"));
    let inputs = &mut [input(session, &tokens)];
    let ended = catch_unwind(AssertUnwindSafe(|| {
        model.forward_with(Phase::ByLength, inputs, on_layer, visit)
    }));
    match end {
        End::Error(_) => assert!(matches!(ended, Ok(Err(Error::Stopped)))),
        End::Panic(_) | End::PanicAfterwards => assert!(ended.is_err()),
    }
    assert_eq!(session.len(), len);
}

fn ends(model: &Model) -> Vec<End> {
    let layers = 0..model.config().layers;
    let panics = layers.clone().map(End::Panic).chain([End::PanicAfterwards]);
    layers.map(End::Error).chain(panics).collect()
}

/// Calls `check` for every method and storage.
fn everywhere(check: impl Fn(&Model, SessionOptions, &str)) {
    let Some((device, _)) = tiny(TensorFormat::F16) else {
        return;
    };
    let mut seen = 0;
    for entry in METHODS {
        let Ok(method) = entry.name.parse::<Method>() else {
            continue;
        };
        // Some need a larger window to reach this far; LongRoPE needs a file, DPE its scales.
        let tried = (0..5).map(|n| method.resolve(64 << n, CONTEXT));
        let Some(extension) = tried.into_iter().find_map(Result::ok) else {
            println!("{} needs more than its name", entry.name);
            continue;
        };
        seen += 1;
        for kv_type in [KvType::F16, KvType::Q8_0] {
            let options = SessionOptions::new(extension.clone()).with_kv_type(kv_type);
            check(&device, options, &format!("{} {kv_type:?}", entry.name));
        }
    }
    assert!(seen + 2 >= METHODS.len(), "{seen} methods were run");
}

/// Room for everything, so that no cache moves in one session and not in the other.
fn open(model: &Model, options: &SessionOptions) -> Session {
    let mut session = model.session(options.clone()).unwrap();
    session.reserve(CONTEXT).unwrap();
    session
}

#[test]
fn a_pass_that_ends_at_any_layer_leaves_its_session_as_it_was() {
    everywhere(|model, options, what| {
        let (mut alone, mut often) = (open(model, &options), open(model, &options));
        for (at, count) in PASSES.into_iter().enumerate() {
            let start = alone.fork().unwrap();
            let expected = pass(&mut alone, count);
            for (n, end) in ends(model).into_iter().enumerate() {
                let shape = SHAPES[(at + n) % SHAPES.len()];
                let what = format!("{what}: {shape} tokens before pass {at}, {end:?}");
                let mut session = start.fork().unwrap();
                interrupt(&mut session, shape, end);
                assert!(pass(&mut session, count) == expected, "{what}");
                // Several in a row.
                interrupt(&mut often, shape, end);
            }
            assert!(pass(&mut often, count) == expected, "{what}: pass {at}");
        }
    });
}

/// Interrupted, then truncated, forked or continued from blocks.
#[test]
fn an_interrupted_session_goes_on_like_any_other() {
    everywhere(|model, options, what| {
        let mut start = open(model, &options);
        for count in PASSES {
            pass(&mut start, count);
        }
        for (n, end) in ends(model).into_iter().enumerate() {
            for shape in SHAPES {
                let what = format!("{what}: {shape} tokens, {end:?}");
                for left in [start.len() - 1, start.len() / 2, 3] {
                    let mut never = start.fork().unwrap();
                    let mut session = start.fork().unwrap();
                    interrupt(&mut session, shape, end);
                    assert_eq!(session.truncate(left), never.truncate(left), "{what}");
                    interrupt(&mut session, shape, end);
                    let mut fork = session.fork().unwrap();
                    for count in [1, 20, 1 + n % 4] {
                        let expected = pass(&mut never, count);
                        assert!(pass(&mut session, count) == expected, "{what}: {left}");
                        assert!(pass(&mut fork, count) == expected, "{what}: fork at {left}");
                    }
                }
                let (mut never, mut session) = (open(model, &options), open(model, &options));
                never
                    .push_block(&start.block(0).unwrap(), PAGE - 1)
                    .unwrap();
                let mut source = start.fork().unwrap();
                interrupt(&mut source, shape, end);
                interrupt(&mut session, shape, end);
                let block = source.block(0).unwrap();
                session.push_block(&block, PAGE - 1).unwrap();
                for count in [1, 20] {
                    let same = pass(&mut session, count) == pass(&mut never, count);
                    assert!(same, "{what}: from a block");
                }
            }
        }
    });
}

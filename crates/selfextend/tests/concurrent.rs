//! One model, called from the tasks of a caller's own threads.

mod common;

use common::{checkpoints, session};
use rayon::prelude::*;
use selfextend::{Input, KvType, LoadOptions, LogitRows, Model, Phase, PositionMap, Session};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const TOKENS: [u32; 24] = [
    5, 17, 33, 2, 60, 41, 8, 8, 19, 27, 3, 50, 11, 44, 6, 38, 29, 1, 55, 12, 47, 22, 9, 31,
];

fn model(threads: usize) -> Model {
    let path = checkpoints().into_iter().find(|it| it.ends_with("qwen2"));
    Model::load(path.unwrap(), LoadOptions::new().with_threads(threads)).unwrap()
}

fn new_session(model: &Model) -> Session {
    session(model, PositionMap::Plain, KvType::F32, 64)
}

/// Fails instead of waiting for ever.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    let result = receiver.recv_timeout(Duration::from_secs(60));
    result.expect("the passes wait for each other")
}

fn read(session: &mut Session) -> Vec<f32> {
    session.append(&TOKENS).unwrap()
}

#[test]
fn sessions_in_the_tasks_of_a_callers_pool() {
    ends(|| {
        for (own, callers) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 4)] {
            let model = model(own);
            let expected = read(&mut new_session(&model));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(callers);
            let pool = pool.build().unwrap();
            let mut sessions: Vec<Session> = (0..16).map(|_| new_session(&model)).collect();
            for _ in 0..3 {
                let work = |session: &mut Session| {
                    let _ = session.truncate(0);
                    assert_eq!(read(session), expected);
                };
                pool.install(|| sessions.par_iter_mut().for_each(work));
                // Tasks that wait all at once.
                pool.scope(|scope| {
                    for session in &mut sessions {
                        scope.spawn(|_| work(session));
                    }
                });
            }
        }
    });
}

#[test]
fn sessions_in_the_models_own_tasks() {
    ends(|| {
        for threads in [1, 2, 4] {
            let model = model(threads);
            let expected = read(&mut new_session(&model));
            let sessions: Vec<Session> = (0..16).map(|_| new_session(&model)).collect();
            model.for_each(sessions, |mut session| {
                assert_eq!(read(&mut session), expected)
            });
        }
    });
}

#[test]
fn a_pass_within_the_callback_of_another() {
    ends(|| {
        for threads in [1, 2] {
            let model = model(threads);
            let expected = read(&mut new_session(&model));
            let (mut outer, mut inner) = (new_session(&model), new_session(&model));
            let input = Input {
                session: &mut outer,
                tokens: &TOKENS,
                logits: LogitRows::Last,
            };
            let visit = |_: usize, _: usize, logits: &[f32]| {
                assert_eq!(logits, expected);
                assert_eq!(read(&mut inner), expected);
            };
            model.forward(Phase::ByLength, &mut [input], visit).unwrap();
            assert_eq!((outer.len(), inner.len()), (TOKENS.len(), TOKENS.len()));
        }
    });
}

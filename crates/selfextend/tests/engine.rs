//! Invariants of whole passes, on tiny random models written and read back by the tests.

mod common;

use common::{session, write_tiny};
use selfextend::sampling::TokenScore;
use selfextend::{
    Error, Extension, Frequencies, Input, KvType, LinearMode, LoadOptions, LogitRows, Model, PAGE,
    Phase, PositionMap, Session, TensorFormat,
};
use selfextend_attention::rope::Factors;

const VOCAB: usize = 50;

/// A tiny model in each weight format, and a text four times its window.
fn models() -> Vec<(TensorFormat, Model, Vec<u32>)> {
    models_of(LinearMode::Rounded)
}

/// Models of every format.
fn models_of(linear: LinearMode) -> Vec<(TensorFormat, Model, Vec<u32>)> {
    use TensorFormat::{BF16, F16, F32, Q4_0, Q4_1, Q5_0, Q5_1, Q6K, Q8_0};
    let folder = tempfile::tempdir().unwrap();
    let load = |dtype| {
        let path = folder.path().join("tiny.gguf");
        write_tiny(&path, dtype, VOCAB);
        let options = LoadOptions::new().with_threads(2).with_linear(linear);
        let model = Model::load(&path, options).unwrap();
        let text = (0..256u32)
            .map(|i| (i * i * 7 + i / 3) % VOCAB as u32)
            .collect();
        (dtype, model, text)
    };
    [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q6K]
        .into_iter()
        .map(load)
        .collect()
}

fn maps() -> [PositionMap; 3] {
    let self_extend = |g, w| PositionMap::self_extend(g, w).unwrap();
    [PositionMap::Plain, self_extend(4, 16), self_extend(7, 30)]
}

fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let visit = &mut |_, row: &[f32]| rows.push(row.to_vec());
    session.append_all(ids, visit).unwrap();
    rows
}

/// Rounding in another order, on logits of magnitude 10 or so: of floats, or of activations that
/// quantised weights meet with 15 bits: 2^-15 of the largest, in every product of every layer.
fn limit(weights: TensorFormat) -> f32 {
    match weights {
        TensorFormat::F32 | TensorFormat::F16 | TensorFormat::BF16 => 2e-4,
        _ => 4e-3,
    }
}

fn assert_close(actual: &[Vec<f32>], expected: &[Vec<f32>], limit: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (row, (a, e)) in actual.iter().zip(expected).enumerate() {
        let worst = a
            .iter()
            .zip(e)
            .map(|(a, e)| (a - e).abs())
            .fold(0.0, f32::max);
        assert!(worst <= limit, "{what}: row {row} differs by {worst}");
    }
}

#[test]
fn any_chunks_and_single_steps_give_the_same_logits() {
    let packed = models().into_iter().map(|model| (limit(model.0), model));
    let exact = models_of(LinearMode::F32).into_iter();
    let exact = exact.map(|model| (limit(TensorFormat::F32), model));
    for (limit, (dtype, model, text)) in packed.chain(exact) {
        for map in maps() {
            let whole = all_logits(&mut session(&model, map, KvType::F32, 256), &text);
            for chunk in [1, 3, 50, 100] {
                let logits = all_logits(&mut session(&model, map, KvType::F32, chunk), &text);
                let what = format!("{dtype:?} {map:?} chunk {chunk}");
                assert_close(&logits, &whole, limit, &what);
            }
        }
    }
}

/// Scores are what the logits of the same pass say.
#[test]
fn scores_are_those_of_the_logits() {
    for (dtype, model, text) in models() {
        let (seen, targets) = (&text[..255], &text[1..]);
        let open = || session(&model, maps()[1], KvType::F32, 150);
        let logits = all_logits(&mut open(), seen);
        let mut scores = Vec::new();
        let visit = &mut |token: usize, score: TokenScore| {
            assert_eq!(token, scores.len());
            scores.push(score);
        };
        let mut scored = open();
        scored.score(seen, targets, visit).unwrap();
        let expected = logits.iter().zip(targets);
        let expected: Vec<_> = expected
            .map(|(row, &target)| TokenScore::new(row, target))
            .collect();
        assert_eq!(scores, expected, "{dtype:?}");
        assert!(scores.iter().any(|score| !score.is_top));
        let refused = open().score(&seen[..1], &[VOCAB as u32], |_, _| {});
        assert!(matches!(refused, Err(Error::Token { .. })), "{refused:?}");
    }
}

#[test]
fn quantised_weights_stand_for_their_own_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny(&path, TensorFormat::Q4_1, VOCAB);
    let text: Vec<u32> = (0..40).collect();
    let [exact, packed] = [LinearMode::F32, LinearMode::Rounded].map(|linear| {
        let options = LoadOptions::new().with_threads(1).with_linear(linear);
        let model = Model::load(&path, options).unwrap();
        all_logits(
            &mut session(&model, PositionMap::Plain, KvType::F32, 40),
            &text,
        )
    });
    let limit = limit(TensorFormat::Q4_1);
    assert_close(&packed, &exact, limit, "Q4_1 against its widened self");
}

#[test]
fn truncating_and_forking_continue_like_a_fresh_run() {
    for (dtype, model, text) in models() {
        for map in maps() {
            let start = |chunk| session(&model, map, KvType::F16, chunk);
            let mut fresh = start(64);
            all_logits(&mut fresh, &text[..100]);
            let expected = all_logits(&mut fresh, &text[100..200]);
            let mut long = start(64);
            all_logits(&mut long, &text[..100]);
            all_logits(&mut long, &text[50..190]);
            let mut fork = long.fork().unwrap();
            for session in [&mut long, &mut fork] {
                assert_eq!(session.truncate(100), 100);
                assert_eq!(
                    all_logits(session, &text[100..200]),
                    expected,
                    "{dtype:?} {map:?}"
                );
            }
        }
    }
}

#[test]
fn sequences_in_one_pass_equal_each_alone() {
    let lens = [1, 9, 70];
    for (dtype, model, text) in models() {
        for map in maps() {
            let open = || session(&model, map, KvType::F32, 256);
            let alone: Vec<_> = lens
                .iter()
                .map(|&n| all_logits(&mut open(), &text[..n]))
                .collect();
            let mut sessions = lens.map(|_| open());
            let mut inputs: Vec<Input> = sessions
                .iter_mut()
                .zip(lens)
                .map(|(session, n)| Input {
                    session,
                    tokens: &text[..n],
                    logits: LogitRows::All,
                })
                .collect();
            let mut together = vec![Vec::new(); 3];
            let visit = &mut |input: usize, _, row: &[f32]| together[input].push(row.to_vec());
            model.forward(Phase::ByLength, &mut inputs, visit).unwrap();
            for (n, (together, alone)) in together.iter().zip(&alone).enumerate() {
                let what = format!("{dtype:?} {map:?} sequence {n}");
                assert_close(together, alone, limit(dtype), &what);
            }
        }
    }
}

#[test]
fn a_refused_or_stopped_pass_leaves_the_session_as_it_was() {
    let (_, model, text) = models().remove(0);
    let mut session = session(&model, PositionMap::Plain, KvType::F32, 16);
    let expected = all_logits(&mut session.fork().unwrap(), &text[..30]);
    let error = session.append(&[1, VOCAB as u32]).unwrap_err();
    assert!(matches!(error, Error::Token { position: 1, .. }), "{error}");
    let error = session
        .append_with(&text[..10], |_| Err(Error::Stopped))
        .unwrap_err();
    assert!(matches!(error, Error::Stopped) && session.is_empty());
    assert_eq!(all_logits(&mut session, &text[..30]), expected);
}

/// Appends the tokens of several sessions in one pass; returns each one's last logits.
fn together(phase: Phase, parts: &mut [(&mut Session, &[u32])]) -> Vec<Vec<f32>> {
    let model = parts[0].0.model().clone();
    let mut inputs: Vec<Input> = parts
        .iter_mut()
        .map(|(session, tokens)| Input {
            session,
            tokens,
            logits: LogitRows::Last,
        })
        .collect();
    let mut last = vec![Vec::new(); inputs.len()];
    let visit = &mut |input: usize, _, row: &[f32]| last[input] = row.to_vec();
    model.forward(phase, &mut inputs, visit).unwrap();
    last
}

/// On the CPU to the byte: whole blocks, and rings once a step was decoded.
#[test]
fn what_a_session_takes_is_known_before_it_is_opened() {
    let (_, model, text) = models().remove(0);
    for map in maps() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4] {
            let options = common::options(&model, map, kv_type, 512);
            let said = model.session_bytes(&options).unwrap();
            let mut session = model.session(options).unwrap();
            assert_eq!(session.cache_bytes(), 0, "{map} {kv_type:?}");
            session.append(&text.repeat(2)[..300]).unwrap();
            session.append(&[1]).unwrap();
            assert_eq!(session.cache_bytes(), said.of(301), "{map} {kv_type:?}");
            assert_eq!(said.block, session.block_bytes(), "{map} {kv_type:?}");
            assert_eq!(said.full(), said.of(1 << 20), "{map} {kv_type:?}");
        }
    }
}

#[test]
fn what_a_model_cannot_run_is_refused_before_anything_is_appended() {
    let mut models = models();
    let (_, other, _) = models.remove(1);
    let (_, model, _) = models.remove(0);
    let extension = Extension::plain(64, 100);
    let few = Frequencies::Factors(Factors::new(&[1.0, 2.0], 1.0).unwrap());
    let unfit = extension.clone().with_frequencies(few);
    let error = model.session(unfit.clone()).err().unwrap();
    assert!(matches!(error, Error::Attention(_)), "{error}");
    assert!(model.session_bytes(&unfit.into()).is_err());
    // A session of another model in a pass.
    let mut session = other.session(extension).unwrap();
    let input = Input {
        session: &mut session,
        tokens: &[1, 2],
        logits: LogitRows::Last,
    };
    let error = model.forward(Phase::ByLength, &mut [input], |_, _, _| {});
    assert!(matches!(error, Err(Error::OtherModel)), "{error:?}");
    assert!(session.is_empty());
}

/// What a server does, against what one request alone gets: bit for bit the same, however prompts
/// are cut, whatever decodes beside them, and from shared blocks.
#[test]
fn phases_do_not_depend_on_company() {
    let cuts: [&[usize]; 4] = [&[300], &[1, 2, 297], &[256, 44], &[3, 120, 130, 7, 40]];
    let fast = models_of(LinearMode::Fast).into_iter();
    let fast = fast.filter(|(dtype, ..)| matches!(dtype, TensorFormat::Q4_1 | TensorFormat::Q6K));
    for (dtype, model, text) in models().into_iter().chain(fast) {
        let prompt = text.repeat(2);
        for map in maps() {
            for kv_type in [KvType::F16, KvType::Q8_0, KvType::Q4] {
                let open = || session(&model, map, kv_type, 512);
                let what = format!("{dtype:?} {map:?} {kv_type:?}");
                let mut alone = open();
                let mut expected = together(Phase::Prefill, &mut [(&mut alone, &prompt[..300])]);
                let mut cached = open();
                let block = alone.block(0).unwrap();
                cached.push_block(&block, PAGE - 6).unwrap();
                for n in 0..12 {
                    let step = [prompt[300 + n]];
                    expected.extend(together(Phase::Decode, &mut [(&mut alone, &step)]));
                }

                let mut sequences = cuts.map(|_| open());
                for (session, cut) in sequences.iter_mut().zip(cuts) {
                    let mut at = 0;
                    for n in cut {
                        let mut other = open();
                        let pair = &mut [
                            (&mut other, &prompt[..5 + n % 3]),
                            (&mut *session, &prompt[at..at + n]),
                        ];
                        let last = together(Phase::Prefill, pair).remove(1);
                        at += n;
                        if at == 300 {
                            assert_eq!(last, expected[0], "{what} cut {cut:?}");
                        }
                    }
                }
                let rest = &prompt[PAGE - 6..300];
                let last = together(Phase::Prefill, &mut [(&mut cached, rest)]);
                assert_eq!(last[0], expected[0], "{what} from a shared block");

                let mut sequences: Vec<Session> = sequences.into_iter().chain([cached]).collect();
                // Nine more, so that the batch is more than eight.
                let more: Vec<_> = (0..9).map(|_| sequences[0].fork().unwrap()).collect();
                sequences.extend(more);
                for n in 0..12 {
                    let step = [prompt[300 + n]];
                    let mut parts: Vec<_> = sequences.iter_mut().map(|s| (s, &step[..])).collect();
                    for logits in together(Phase::Decode, &mut parts) {
                        assert_eq!(logits, expected[n + 1], "{what} step {n}");
                    }
                }
            }
        }
    }
}

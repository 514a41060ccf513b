//! Decode steps that are taken together, and answers whose tokens are guessed, against one step at a
//! time: bit for bit the same.

mod common;

use common::{checkpoints, extensions, shared, write_tiny};
use selfextend::{
    Error, Finish, GenerateOptions, KvType, LinearMode, LoadOptions, MOST_STEPS, Model,
    PositionMap, Sampling, Session, SessionOptions, TensorFormat, TextModel,
};
use std::path::Path;

const CONTEXT: usize = 800;
const KV_TYPES: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4];
/// What passes read: tokens that stay, and tokens that are taken back. Across pages, panels and the
/// windows of every method.
const PASSES: [(usize, usize); 8] = [
    (1, 0),
    (3, 2),
    (MOST_STEPS, 0),
    (1, MOST_STEPS - 1),
    (0, 7),
    (5, 4),
    (9, 3),
    (2, 14),
];

fn token(i: usize) -> u32 {
    ((i * i * 7 + i / 3) % 61) as u32
}

fn steps(session: &mut Session, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let visit = |_, row: &[f32]| rows.push(row.to_vec());
    session.append_steps(tokens, visit).unwrap();
    rows
}

/// Reads a prompt, and then the passes, beside a session that reads the same one by one.
fn check(model: &Model, options: SessionOptions, prompt: usize, what: &str) {
    let mut alone = model.session(options).unwrap();
    let prompt: Vec<u32> = (0..prompt).map(token).collect();
    alone.append(&prompt).unwrap();
    let mut together = alone.fork().unwrap();
    for (n, (right, wrong)) in PASSES.into_iter().enumerate() {
        let at = alone.len();
        let mut tokens: Vec<u32> = (at..at + right).map(token).collect();
        let expected: Vec<Vec<f32>> = (tokens.iter())
            .map(|token| match n % 2 {
                0 => alone.append(&[*token]).unwrap(),
                _ => steps(&mut alone, &[*token]).remove(0),
            })
            .collect();
        tokens.extend((0..wrong).map(|i| token(11 * i + 5)));
        let rows = steps(&mut together, &tokens);
        assert!(rows[..right] == expected, "{what}: pass {n}");
        assert_eq!(together.truncate(at + right), at + right, "{what}");
    }
    let next: Vec<u32> = (0..40).map(token).collect();
    let same = together.append(&next).unwrap() == alone.append(&next).unwrap();
    assert!(same, "{what}: what follows");
}

#[test]
fn steps_of_every_method_are_single_steps() {
    let wanted = |path: &std::path::PathBuf| path.ends_with("smollm3") || path.ends_with("gemma3");
    for path in checkpoints().into_iter().filter(wanted) {
        let model = Model::load(&path, LoadOptions::new().with_threads(2)).unwrap();
        for (n, extension) in extensions(&model, CONTEXT).into_iter().enumerate() {
            for (k, kv_type) in KV_TYPES.into_iter().enumerate() {
                let what = format!("{} {extension} {kv_type:?}", path.display());
                let options = SessionOptions::new(extension.clone()).with_kv_type(kv_type);
                // Pages end at other places of the passes.
                check(&model, options, 236 + 7 * ((n + k) % 5), &what);
            }
        }
    }
}

#[test]
fn steps_of_every_family_are_single_steps() {
    let self_extend = PositionMap::self_extend(4, 16).unwrap();
    for (n, path) in checkpoints().into_iter().enumerate() {
        let model = Model::load(&path, LoadOptions::new().with_threads(2)).unwrap();
        for (k, map) in [PositionMap::Plain, self_extend].into_iter().enumerate() {
            let what = format!("{} {map}", path.display());
            let kv_type = KV_TYPES[(n + k) % KV_TYPES.len()];
            check(
                &model,
                common::options(&model, map, kv_type, 512),
                50,
                &what,
            );
        }
    }
}

#[test]
fn steps_of_every_kind_of_weights_are_single_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for format in TensorFormat::ALL {
        write_tiny(&path, format, 61);
        for linear in [LinearMode::Rounded, LinearMode::Fast, LinearMode::F32] {
            let options = LoadOptions::new().with_threads(2).with_linear(linear);
            let model = Model::load(&path, options).unwrap();
            let map = PositionMap::self_extend(4, 16).unwrap();
            let options = common::options(&model, map, KvType::F16, 512);
            check(&model, options, 50, &format!("{format:?} {linear:?}"));
        }
    }
}

#[test]
fn more_steps_than_a_pass_takes_are_refused() {
    let path = checkpoints().remove(0);
    let model = Model::load(path, LoadOptions::new()).unwrap();
    let mut session = common::session(&model, PositionMap::Plain, KvType::F16, 512);
    let refused = session.append_steps(&[1; MOST_STEPS + 1], |_, _| {});
    assert!(matches!(
        refused,
        Err(Error::Steps {
            asked: 17,
            most: 16
        })
    ));
    assert!(session.is_empty());
}

/// What an answer came to: pieces, tokens, its end, and what the session does next.
#[derive(Debug, PartialEq)]
struct Outcome {
    pieces: Vec<String>,
    tokens: Vec<u32>,
    text: String,
    finish: Finish,
    held: usize,
    next: Vec<f32>,
}

/// An answer to a prompt, of which at most `most` pieces are read, and how many guesses were right.
fn answer(
    model: &TextModel,
    prompt: &str,
    context: usize,
    options: &GenerateOptions,
    most: usize,
) -> (Outcome, usize) {
    let mut session = model.session(context).unwrap();
    let mut answer = model.answer(&mut session, prompt, options).unwrap();
    let pieces = answer.by_ref().take(most).map(Result::unwrap).collect();
    let generation = answer.into_generation();
    let held = session.len();
    let outcome = Outcome {
        pieces,
        tokens: generation.tokens,
        text: generation.text,
        finish: generation.finish,
        held,
        next: if held < context {
            session.append(&[7]).unwrap()
        } else {
            Vec::new()
        },
    };
    let speculated = generation.speculated;
    assert_eq!(speculated.is_some(), options.speculate);
    let right = speculated.map_or(0, |it| it.accepted);
    (outcome, right)
}

fn stories() -> Option<TextModel> {
    let path = shared("models/stories260K/stories260K-f32.gguf")?;
    Some(TextModel::load(Path::new(&path), LoadOptions::new().with_threads(2)).unwrap())
}

#[test]
fn guesses_change_no_answer() {
    let Some(model) = stories() else {
        return;
    };
    let story = "Lily and Tom went to the park. They saw a big dog. The dog was happy. ";
    let prompts = [story.repeat(12), story.to_owned(), "Once".to_owned()];
    let warm = |seed| {
        Sampling::new()
            .with_temperature(0.8)
            .with_top_p(0.9)
            .with_seed(seed)
    };
    let penalised = Sampling::new()
        .with_repetition_penalty(1.1)
        .with_frequency_penalty(0.1)
        .with_temperature(0.3);
    let samplings = [Sampling::new(), warm(1), warm(2), penalised];
    let mut right = 0;
    for (n, prompt) in prompts.iter().enumerate() {
        for (k, sampling) in samplings.iter().enumerate() {
            let options = GenerateOptions::new()
                .with_max_tokens(120)
                .with_sampling(sampling.clone());
            let stopped = options.clone().with_stop(["dog was", "\n"]);
            for (options, context, most) in [
                (&options, 2048, 1000),
                (&options, 2048, 1 + 5 * k),
                (&stopped, 2048, 1000),
                // The prompt has some 300 tokens.
                (&options, 512 - 170 * n + k, 1000),
            ] {
                let what = format!("prompt {n}, sampling {k}, context {context}, {most} pieces");
                let tokens = model.encode_prompt(prompt).unwrap().len();
                if tokens >= context {
                    continue;
                }
                let (plain, _) = answer(&model, prompt, context, options, most);
                let guessing = options.clone().with_speculate(true);
                let (guessed, accepted) = answer(&model, prompt, context, &guessing, most);
                assert_eq!(guessed, plain, "{what}");
                right += accepted;
            }
        }
    }
    // Much of this is repeated: were nothing ever guessed, nothing would have been tested. How many are
    // depends on what passes take on this machine.
    assert!(right > 0);
}

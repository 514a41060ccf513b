//! The front door, and the examples that the documentation points to, on a small trained model.
//! Skipped, with a message, where it is absent.

#[allow(dead_code)]
#[path = "../examples/answer.rs"]
mod answer;
mod common;
#[allow(dead_code)]
#[path = "../examples/long_document.rs"]
mod long_document;

use selfextend::{Error, Finish, GenerateOptions, Sampling, TextModel, generate};
use std::ops::ControlFlow;

/// The trained window of the model.
const WINDOW: usize = 512;
const PROMPT: &str = "Once upon a time, there was a little";

fn path() -> Option<String> {
    let path = common::shared("models/stories260K/stories260K-f32.gguf")?;
    Some(path.display().to_string())
}

#[test]
fn a_question_is_answered() {
    let Some(model) = path() else {
        return;
    };
    let mut out = Vec::new();
    answer::answer(&model, PROMPT, &mut out).unwrap();
    // A storyteller without a chat template continues the text. Without the beginning-of-text token
    // it would start with other words.
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(" girl named"), "{text}");
    assert!(answer::answer("no/such/model.gguf", "", &mut Vec::new()).is_err());
}

#[test]
fn a_document_beyond_the_trained_window_is_continued() {
    let Some(model) = path() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("story.txt").display().to_string();
    let story = "Lily and Tom went to the park. They saw a big dog. The dog was happy. ";
    std::fs::write(&file, story.repeat(40)).unwrap();
    let mut out = Vec::new();
    long_document::ask(&model, &file, "Lily said, \"", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let letters = text.chars().filter(|c| c.is_ascii_alphabetic()).count();
    assert!(letters > 100, "{text}");
}

#[test]
fn pieces_are_what_the_callback_gets_and_each_answer_stands_alone() {
    let Some(path) = path() else {
        return;
    };
    let model = TextModel::open(&path).unwrap();
    let options = GenerateOptions::new().with_max_tokens(30);
    let mut session = model.session(WINDOW).unwrap();
    let mut answer = model.answer(&mut session, PROMPT, &options).unwrap();
    let pieces: Vec<String> = answer.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(answer.finish(), Some(&Finish::MaxTokens));
    assert!(answer.next().is_none());
    let generation = answer.into_generation();
    assert!(pieces.len() > 10 && pieces.concat() == generation.text);
    assert_eq!(generation.tokens.len(), 30);

    let prompt = model.encode_prompt(PROMPT).unwrap();
    assert_eq!(prompt[0], model.tokenizer.bos().unwrap());
    let mut other = model.session(WINDOW).unwrap();
    let logits = other.append(&prompt).unwrap();
    let mut heard = Vec::new();
    let called = generate(
        &mut other,
        &model.tokenizer,
        &prompt,
        logits,
        &options,
        |piece| {
            heard.push(piece.to_owned());
            ControlFlow::Continue(())
        },
    );
    assert_eq!(called.unwrap().tokens, generation.tokens);
    assert_eq!(heard, pieces);

    // The same session again: nothing of the first answer is left.
    let again = model.answer(&mut session, PROMPT, &options).unwrap();
    let again: Vec<String> = again.collect::<Result<_, _>>().unwrap();
    assert_eq!(again, pieces);

    // An answer that is dropped leaves what was appended, and another one can follow.
    let mut broken = model.answer(&mut session, PROMPT, &options).unwrap();
    assert_eq!(broken.next().unwrap().unwrap(), pieces[0]);
    assert_eq!(broken.into_generation().finish, Finish::Stopped);
    assert_eq!(session.len(), prompt.len());
}

#[test]
fn an_answer_ends_where_the_context_is_full() {
    let Some(path) = path() else {
        return;
    };
    let model = TextModel::open(&path).unwrap();
    let prompt = model.encode_prompt(PROMPT).unwrap();
    let mut session = model.session(prompt.len() + 5).unwrap();
    let options = GenerateOptions::new().with_max_tokens(30);
    let mut answer = model.answer(&mut session, PROMPT, &options).unwrap();
    answer.by_ref().for_each(|piece| drop(piece.unwrap()));
    let generation = answer.into_generation();
    assert_eq!(generation.finish, Finish::ContextFull);
    // The last one was drawn from the logits of a full context.
    assert_eq!(generation.tokens.len(), 6);
    let mut short = model.session(3).unwrap();
    let refused = model.answer(&mut short, PROMPT, &options).err().unwrap();
    assert!(matches!(refused, Error::ContextFull { .. }), "{refused}");
    assert!(model.session(0).is_err());
    let nothing = model.answer_tokens(&mut short, &[], &options).err();
    assert!(matches!(nothing, Some(Error::EmptyPrompt)));
}

#[test]
fn a_session_beyond_the_trained_window_is_extended() {
    let Some(path) = path() else {
        return;
    };
    let model = TextModel::open(&path).unwrap();
    assert!(!model.session(WINDOW).unwrap().extension().extends());
    let long = model.session(4 * WINDOW).unwrap();
    let words = long.extension().to_string();
    assert!(words.starts_with("SelfExtend, group size"), "{words}");
}

/// As in transformers, the repetition penalty counts the prompt: a token that would come next, and
/// stands in the prompt, does not come.
#[test]
fn the_repetition_penalty_counts_the_prompt() {
    let Some(path) = path() else {
        return;
    };
    let model = TextModel::open(&path).unwrap();
    let answer = |tokens: &[u32], most: usize, penalty: f32| {
        let sampling = Sampling::new().with_repetition_penalty(penalty);
        let options = GenerateOptions::new()
            .with_max_tokens(most)
            .with_sampling(sampling);
        let mut session = model.session(WINDOW).unwrap();
        let mut answer = model.answer_tokens(&mut session, tokens, &options).unwrap();
        answer.by_ref().for_each(|piece| drop(piece.unwrap()));
        answer.into_generation().tokens
    };
    let mut prompt = model.encode_prompt(PROMPT).unwrap();
    for token in answer(&prompt, 60, 1.0) {
        if prompt.contains(&token) {
            break;
        }
        prompt.push(token);
    }
    assert!(prompt.contains(&answer(&prompt, 1, 1.0)[0]));
    assert!(!prompt.contains(&answer(&prompt, 1, 100.0)[0]));
}

#[test]
fn a_prompt_with_its_own_beginning_of_text_gets_no_second_one() {
    let Some(path) = path() else {
        return;
    };
    let model = TextModel::open(&path).unwrap();
    let bos = model.tokenizer.bos().unwrap();
    let plain = model.encode("Once").unwrap();
    assert_eq!(plain[0], bos);
    assert_eq!(model.encode_with_special("<s>Once").unwrap(), plain);
    assert_eq!(model.encode_with_special("Once").unwrap(), plain);
    assert!(model.encode("<s>Once").unwrap().len() > plain.len());
}

//! Drafts of several sequences, apart and in company.

use super::*;
use crate::error::Error;
use crate::sampling::argmax;
use crate::test_support::{checkpoint, damaged};
use crate::{Extension, Model, Session};

fn text(seed: usize, len: usize) -> Vec<u32> {
    let token = |i: usize| ((i * i * 7 + seed * i + i / 3) % 23 + i % 3 + 1) as u32;
    (0..len).map(token).collect()
}

/// One sequence of a pass, whose tokens are drawn greedily.
struct Sequence {
    session: Session,
    speculation: Speculation,
    /// The text, of which the session lacks the last token.
    text: Vec<u32>,
}

impl Sequence {
    fn new(model: &Model, prompt: &[u32], draft: Option<&DraftModel>) -> Self {
        let mut session = model.session(Extension::plain(96, 1000)).unwrap();
        let drawn = argmax(&session.append(prompt).unwrap());
        let mut speculation = Speculation::new(prompt, false, draft.map(Draft::new));
        speculation.saw(drawn);
        Self {
            session,
            speculation,
            text: [prompt, &[drawn]].concat(),
        }
    }

    /// Reads the last token and guesses after it, and takes the wrong ones back.
    fn step(&mut self, guesses: &[u32]) {
        let last = *self.text.last().unwrap();
        let mut drawn = Vec::new();
        let visit = |_, row: &[f32]| drawn.push(argmax(row));
        let tokens = [&[last], guesses].concat();
        self.session.append_steps(&tokens, visit).unwrap();
        let right = guesses.iter().zip(&drawn).take_while(|(a, b)| a == b);
        for token in &drawn[..=right.count()] {
            self.text.push(*token);
            self.speculation.saw(*token);
        }
        let len = self.text.len() - 1;
        assert_eq!(self.session.truncate(len), len);
    }
}

/// The guesses before each of some passes, which are made.
fn passes(
    sequences: &mut [Sequence],
    costs: &mut Costs,
    most: usize,
    count: usize,
) -> Vec<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let guessing = sequences.iter_mut().map(|sequence| Guessing {
            speculation: Some(&mut sequence.speculation),
            most,
        });
        let guesses = guess(&mut guessing.collect::<Vec<_>>(), costs, &|| {});
        for (sequence, guesses) in sequences.iter_mut().zip(&guesses) {
            sequence.step(guesses);
        }
        all.push(guesses);
    }
    all
}

fn counts(guesses: &[Vec<Vec<u32>>]) -> Vec<Vec<usize>> {
    let lengths = |pass: &Vec<Vec<u32>>| pass.iter().map(Vec::len).collect();
    guesses.iter().map(lengths).collect()
}

fn greedy(model: &Model, prompt: &[u32], len: usize) -> Vec<u32> {
    let mut alone = Sequence::new(model, prompt, None);
    while alone.text.len() < len {
        alone.step(&[]);
    }
    alone.text
}

#[test]
fn texts_are_read_in_chunks_and_shared() {
    let model = checkpoint("llama");
    let draft = DraftModel::of(model.clone());
    let prompts = [text(0, 40), text(0, 40), text(5, 40)];
    let mut sequences = prompts
        .each_ref()
        .map(|it| Sequence::new(&model, it, Some(&draft)));
    // 41 tokens, of which a step reads 16: 25 are read before.
    let mut costs = Costs::known(0.001, 0.001, 13);
    let seen = passes(&mut sequences, &mut costs, 10, 11);
    let first = |n: usize| seen.iter().position(|pass| !pass[n].is_empty()).unwrap();
    // The second takes over what the first one has read.
    assert!(first(0) == 1 && first(1) == 1, "{:?}", counts(&seen));
    assert!((3..=5).contains(&first(2)), "{:?}", counts(&seen));
    for (sequence, prompt) in sequences.iter().zip(&prompts) {
        let alone = greedy(&model, prompt, sequence.text.len());
        assert!(alone.starts_with(&sequence.text));
        // The model guesses for itself.
        assert!(
            sequence.text.len() > 41 + 11 + 12,
            "{}",
            sequence.text.len()
        );
    }
}

#[test]
fn drafts_that_do_not_pay_rest_ever_longer() {
    let model = checkpoint("llama");
    let draft = DraftModel::of(checkpoint("qwen2"));
    let prompt = text(3, 30);
    let mut sequences = [Sequence::new(&model, &prompt, Some(&draft))];
    let mut costs = Costs::known(0.2, 0.1, 100);
    let seen = counts(&passes(&mut sequences, &mut costs, 800, 400));
    let tries = |passes: &[Vec<usize>]| passes.iter().filter(|pass| pass[0] > 0).count();
    assert!(tries(&seen[..50]) > 0);
    assert!(tries(&seen) < 60 && tries(&seen[200..]) < 20, "{seen:?}");
    // One that costs more than the model does is not asked at all.
    let mut sequences = [Sequence::new(&model, &prompt, Some(&draft))];
    let seen = counts(&passes(
        &mut sequences,
        &mut Costs::known(0.1, 1.5, 100),
        800,
        40,
    ));
    assert_eq!(tries(&seen), 0);
}

#[test]
fn a_long_text_is_not_read_for_a_short_answer() {
    let model = checkpoint("llama");
    let draft = DraftModel::of(model.clone());
    let tries = |most: usize| {
        let mut sequences = [Sequence::new(&model, &text(1, 500), Some(&draft))];
        let seen = passes(&mut sequences, &mut Costs::known(0.01, 0.01, 600), most, 2);
        seen.concat().concat().len()
    };
    assert_eq!(tries(10), 0);
    assert!(tries(400) > 0);
}

/// Its other sequences go on, and so does the text.
#[test]
fn a_draft_that_fails_is_left_out_alone() {
    let model = checkpoint("qwen2");
    let draft = DraftModel::of(damaged("qwen2"));
    let with_zero = [text(2, 20), vec![0], text(4, 20)].concat();
    for prompts in [
        [with_zero, text(6, 41)],
        [text(2, 10), [&text(7, 10)[..], &[0]].concat()],
    ] {
        let mut sequences = prompts
            .each_ref()
            .map(|it| Sequence::new(&model, it, Some(&draft)));
        let mut costs = Costs::known(0.001, 0.001, 100);
        let seen = passes(&mut sequences, &mut costs, 200, 6);
        let right: usize = seen
            .iter()
            .map(|pass| pass[0].len().max(pass[1].len()))
            .sum();
        assert!(right > 0);
        let faults = sequences
            .each_ref()
            .map(|it| it.speculation.fault().is_some());
        assert_eq!(faults, prompts.each_ref().map(|it| it.contains(&0)));
        for (sequence, prompt) in sequences.iter().zip(&prompts) {
            let alone = greedy(&model, prompt, sequence.text.len());
            assert!(alone.starts_with(&sequence.text));
        }
    }
}

#[test]
fn a_token_that_the_draft_cannot_read_ends_its_guesses() {
    let model = checkpoint("llama");
    let mut draft = DraftModel::of(checkpoint("llama"));
    draft.proposed = 5;
    let mut sequences = [Sequence::new(&model, &text(0, 10), Some(&draft))];
    let mut costs = Costs::known(0.001, 0.001, 100);
    let seen = passes(&mut sequences, &mut costs, 100, 3);
    // Only what the model could draw is proposed.
    assert!(seen.concat().concat().iter().all(|&token| token < 5));
    let mut speculation = Speculation::new(&[1, 61], false, Some(Draft::new(&draft)));
    speculation.saw(3);
    let sequence = Guessing {
        speculation: Some(&mut speculation),
        most: 100,
    };
    assert_eq!(guess(&mut [sequence], &mut costs, &|| {}), [[0u32; 0]]);
    assert!(speculation.fault().is_none());
}

/// A session without room is an error of the draft, not of the text.
#[test]
fn its_window_is_extended() {
    let draft = DraftModel::of(checkpoint("llama"));
    let trained = draft.model().config().trained_window;
    let context = |needed| {
        let options = draft.options(needed)?;
        Ok::<_, Error>((options.extension.context(), options.extension.extends()))
    };
    assert_eq!(context(1).unwrap(), (trained, false));
    assert_eq!(context(trained).unwrap(), (trained, false));
    assert_eq!(context(trained + 1).unwrap(), (2 * trained, true));
    assert_eq!(context(9 * trained).unwrap(), (16 * trained, true));
}

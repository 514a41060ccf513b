//! Needle-driven perplexity: LongRoPE2 (arXiv 2502.20082, section 3.2). A fact is hidden far back in
//! the user's own text and asked for at its end; only the likelihood of the answer counts.

use crate::error::{CliError, Result};
use crate::interrupt;
use crate::progress::LayerCount;
use selfextend::profile::Losses;
use selfextend::{Session, TextModel};
use selfextend_eval::random::Random;

/// Tokens before the question whose likelihood is that of the text.
const TEXT_TOKENS: usize = 128;

const NAMES: [&str; 8] = ["Anna", "Tom", "Lily", "Ben", "Sara", "Max", "Mia", "Sam"];
const THINGS: [&str; 8] = [
    "red ball",
    "blue hat",
    "old book",
    "green car",
    "small dog",
    "big box",
    "white cat",
    "new toy",
];

/// Samples from a piece of text.
pub struct Needles<'a> {
    model: &'a TextModel,
    text: &'a [u32],
    context: usize,
    seed: u64,
}

/// One sample.
struct Sample {
    tokens: Vec<u32>,
    /// The first token of the text whose likelihood counts.
    text_from: usize,
    /// The first token of the question.
    question: usize,
    /// The first token of the answer.
    answer: usize,
}

impl<'a> Needles<'a> {
    pub fn new(model: &'a TextModel, text: &'a [u32], context: usize, seed: u64) -> Self {
        Self {
            model,
            text,
            context,
            seed,
        }
    }

    /// Sample `number`; the depths of the needles cycle through the text.
    fn sample(&self, number: usize) -> Result<Sample> {
        let mut random = Random::new(self.seed.wrapping_add(number as u64));
        let mut pick = |of: usize| random.below(of as u64) as usize;
        let (name, thing) = (NAMES[pick(8)], THINGS[pick(8)]);
        let encode = |text: &str| {
            let tokens = self.model.tokenizer.encode(text);
            tokens.map_err(|error| CliError::from(selfextend::Error::from(error)))
        };
        let needle = encode(&format!(
            " {name} hid the {thing}. Remember: {name} hid the {thing}. "
        ))?;
        let question = encode(&format!("\nWhat did {name} hide? {name} hid the"))?;
        let answer = encode(&format!(" {thing}."))?;
        let bos = self.model.encode("")?;
        let fixed = bos.len() + needle.len() + question.len() + answer.len();
        let room = self
            .context
            .checked_sub(fixed)
            .filter(|&room| room >= 2 * TEXT_TOKENS);
        let room = room.ok_or_else(|| {
            CliError::usage(format!(
                "a context of {} tokens has no room for a needle; use {} or more",
                self.context,
                fixed + 2 * TEXT_TOKENS
            ))
        })?;
        // Depths 1/8, 3/8, ... of the first three quarters: always far from the question.
        let depth = (2 * (number % 4) + 1) as f64 / 8.0 * 0.75;
        let before = (room as f64 * depth) as usize;
        let start = pick(self.text.len());
        let haystack = |from: usize, count: usize| {
            let around = self.text.iter().cycle();
            around.skip(start + from).take(count).copied()
        };
        let mut tokens = bos;
        tokens.extend(haystack(0, before));
        tokens.extend(needle);
        tokens.extend(haystack(before, room - before));
        let asked = tokens.len();
        tokens.extend(question);
        let answered = tokens.len();
        tokens.extend(answer);
        Ok(Sample {
            tokens,
            text_from: asked - TEXT_TOKENS,
            question: asked,
            answer: answered,
        })
    }

    /// Whether the context has room for a needle, before anything is measured.
    ///
    /// # Errors
    /// A usage error with the smallest context that has.
    pub fn check(&self) -> Result<()> {
        self.sample(0).map(drop)
    }

    /// What a session loses on sample `number`; `progress` gets the share that is done.
    pub fn losses(
        &self,
        session: &mut Session,
        number: usize,
        progress: &mut (dyn FnMut(f64) + Send),
    ) -> Result<Losses> {
        let sample = self.sample(number)?;
        let (tokens, first) = (&sample.tokens, sample.text_from - 1);
        let (layers, chunk) = (session.model().config().layers, session.options().chunk);
        let mut count = LayerCount::new(tokens.len(), chunk, layers);
        let mut heard = |done: usize| {
            if interrupt::asked() {
                return Err(selfextend::Error::Stopped);
            }
            progress(count.layer(done) as f64 / tokens.len() as f64);
            Ok(())
        };
        session.append_with(&tokens[..first], &mut heard)?;
        let (mut text, mut needle) = (Vec::new(), Vec::new());
        let last = tokens.len() - 1;
        session.score_with(
            &tokens[first..last],
            &tokens[first + 1..],
            |done| heard(first + done),
            |row, score| {
                let next = first + row + 1;
                if next >= sample.answer {
                    needle.push(-score.log_probability);
                } else if next < sample.question {
                    text.push(-score.log_probability);
                }
            },
        )?;
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        Ok(Losses {
            needle: mean(&needle),
            text: mean(&text),
        })
    }
}

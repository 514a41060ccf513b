//! Puts one sample to the model under one method.

use super::observer::Observer;
use super::reader::{Reader, stop_if};
use crate::cost::Speed;
use crate::error::Result;
use crate::memory::PeakMemory;
use crate::record::{ChoiceOutcome, LIKELIHOOD_BLOCK, Outcome, Record, Told};
use crate::sample::{Ask, Choice, RightAnswer, Sample, Score};
use selfextend::sampling::TokenScore;
use selfextend::{GenerateOptions, Method, TextModel, generate};
use std::ops::ControlFlow;
use std::time::Instant;

/// Measures samples, one after another.
pub(super) struct Measurement<'a> {
    model: &'a TextModel,
    speed: Speed,
    /// Operations done so far.
    operations: f64,
}

/// What one sample is measured with.
struct Current<'a> {
    reader: &'a mut Reader,
    observer: &'a mut dyn Observer,
    record: &'a mut Record,
}

/// A question.
struct Question<'a> {
    prompt: &'a [u32],
    max_tokens: usize,
    stop: &'a [String],
    expected: &'a [String],
    answer: &'a RightAnswer,
    score: &'a Score,
}

impl<'a> Measurement<'a> {
    pub(super) fn new(model: &'a TextModel, speed: Speed) -> Self {
        Self {
            model,
            speed,
            operations: 0.0,
        }
    }

    /// Fills a record with what a method makes of a sample.
    ///
    /// # Errors
    /// The engine's, and [`selfextend::Error::Stopped`] if the observer asks for that.
    pub(super) fn measure(
        &mut self,
        sample: &Sample,
        method: &Method,
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<()> {
        let passages = sample.passages(method);
        record.tokens = passages.iter().map(|passage| passage.tokens.len()).sum();
        record.cut = sample.cut(method);
        let memory = PeakMemory::start();
        let mut current = Current {
            reader,
            observer,
            record,
        };
        let outcome = match &sample.ask {
            Ask::Answer {
                max_tokens,
                stop,
                expected,
                answer,
                score,
                ..
            } => {
                let question = Question {
                    prompt: sample.prompt(method),
                    max_tokens: *max_tokens,
                    stop,
                    expected,
                    answer,
                    score,
                };
                self.answer(&question, &mut current)?
            }
            Ask::Likelihood { tokens, from } => self.likelihood(tokens, *from, &mut current)?,
            Ask::Choice { choices, gold } => {
                let choices = choices.iter();
                let outcomes = choices.map(|choice| self.choice(choice, &mut current));
                Outcome::Choice {
                    gold: *gold,
                    choices: outcomes.collect::<Result<_>>()?,
                }
            }
        };
        record.outcome = outcome;
        record.cache_bytes = reader.session().cache_bytes();
        record.peak_bytes = memory.bytes().filter(|_| memory.is_fresh());
        Ok(())
    }

    fn answer(&mut self, question: &Question, current: &mut Current) -> Result<Outcome> {
        let prompt = question.prompt;
        let logits = self.read(prompt, current)?;
        let start = Instant::now();
        let options = GenerateOptions::new()
            .with_max_tokens(question.max_tokens)
            .with_stop(question.stop.to_vec());
        let Current {
            reader, observer, ..
        } = current;
        let mut on_text = |_: &str| {
            if observer.stop() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let tokenizer = &self.model.tokenizer;
        let answer = generate(
            reader.session(),
            tokenizer,
            prompt,
            logits,
            &options,
            &mut on_text,
        )?;
        stop_if(observer.stop())?;
        current.record.decode_s = start.elapsed().as_secs_f64();
        let positions = prompt.len()..prompt.len() + question.max_tokens;
        self.advance(self.speed.decode_operations(positions), current);
        let told = match &*question.answer.tokens {
            [] => None,
            _ => Some(tell(prompt, question.answer, current)?),
        };
        Ok(Outcome::Answer {
            score: (question.score)(&answer.text),
            text: answer.text,
            tokens: answer.tokens.len(),
            expected: question.expected.to_vec(),
            told,
        })
    }

    /// Reads tokens that other samples may share; returns the logits of the last one.
    fn read(&mut self, tokens: &[u32], current: &mut Current) -> Result<Vec<f32>> {
        let start = Instant::now();
        let (speed, finished) = (self.speed, self.operations);
        let Current {
            reader, observer, ..
        } = current;
        let (logits, read) = reader.prompt(tokens, &mut |done| {
            observer.progress(finished + speed.prefill_operations(0..done));
            stop_if(observer.stop())
        })?;
        current.record.read += read;
        current.record.prefill_s += start.elapsed().as_secs_f64();
        let positions = tokens.len() - read..tokens.len();
        self.advance(speed.prefill_operations(positions), current);
        Ok(logits)
    }

    /// Scores each of `targets` after the tokens read and those of `tokens` up to its place.
    fn score(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        current: &mut Current,
    ) -> Result<Vec<TokenScore>> {
        let start = Instant::now();
        let (speed, finished) = (self.speed, self.operations);
        let Current {
            reader, observer, ..
        } = current;
        let first = reader.session().len();
        let scores = reader.score(tokens, targets, &mut |done| {
            observer.progress(finished + speed.prefill_operations(first..first + done));
            stop_if(observer.stop())
        })?;
        current.record.read += tokens.len();
        current.record.prefill_s += start.elapsed().as_secs_f64();
        let positions = first..first + tokens.len();
        self.advance(speed.prefill_operations(positions), current);
        Ok(scores)
    }

    fn advance(&mut self, operations: f64, current: &mut Current) {
        self.operations += operations;
        current.observer.progress(self.operations);
    }

    fn likelihood(
        &mut self,
        tokens: &[u32],
        from: usize,
        current: &mut Current,
    ) -> Result<Outcome> {
        self.read(&tokens[..from - 1], current)?;
        let (seen, targets) = (&tokens[from - 1..tokens.len() - 1], &tokens[from..]);
        let scores = self.score(seen, targets, current)?;
        let mut blocks = vec![(0, 0.0); tokens.len().div_ceil(LIKELIHOOD_BLOCK)];
        for (n, score) in scores.iter().enumerate() {
            let block = &mut blocks[(from + n) / LIKELIHOOD_BLOCK];
            *block = (block.0 + 1, block.1 - score.log_probability);
        }
        Ok(Outcome::Likelihood {
            from,
            count: scores.len(),
            nll: -log_likelihood(&scores),
            block: LIKELIHOOD_BLOCK,
            blocks,
        })
    }

    fn choice(&mut self, choice: &Choice, current: &mut Current) -> Result<ChoiceOutcome> {
        let (seen, last) = split(&choice.prompt);
        self.read(seen, current)?;
        let targets = &choice.continuation;
        let scores = self.score(&before(last, targets), targets, current)?;
        Ok(ChoiceOutcome {
            log_likelihood: log_likelihood(&scores),
            characters: choice.characters,
            bytes: choice.bytes,
            greedy: scores.iter().all(|score| score.is_top),
        })
    }
}

/// How likely an answer is after a prompt, which was just read. Not part of the cost of a sample: of
/// the prompt only some tokens are read again.
fn tell(prompt: &[u32], answer: &RightAnswer, current: &mut Current) -> Result<Told> {
    let Current {
        reader, observer, ..
    } = current;
    // Moved in: only by itself can it go to another thread.
    let observer = &mut **observer;
    let mut progress = move |_| stop_if(observer.stop());
    let (seen, last) = split(prompt);
    reader.prompt(seen, &mut progress)?;
    let told = [&*answer.lead, &*answer.tokens].concat();
    let scores = reader.score(&before(last, &told), &told, &mut progress)?;
    let scores = &scores[answer.lead.len()..];
    Ok(Told {
        tokens: scores.len(),
        nll: -log_likelihood(scores),
        top: scores.iter().filter(|score| score.is_top).count(),
        left_at: scores.iter().position(|score| !score.is_top),
    })
}

/// A prompt without its last token, and that token, which is read together with what continues it.
fn split(prompt: &[u32]) -> (&[u32], u32) {
    let (last, seen) = prompt.split_last().unwrap_or((&0, &[]));
    (seen, *last)
}

/// The tokens before each of some targets.
fn before(last: u32, targets: &[u32]) -> Vec<u32> {
    let seen = &targets[..targets.len().saturating_sub(1)];
    [&[last], seen].concat()
}

/// The sum of the log-probabilities.
fn log_likelihood(scores: &[TokenScore]) -> f64 {
    scores.iter().map(|score| score.log_probability).sum()
}

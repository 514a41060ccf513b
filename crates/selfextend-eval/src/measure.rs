//! Puts one sample to the model under one method.

use crate::cost::Work;
use crate::error::{EvalError, Result};
use crate::memory::PeakMemory;
use crate::reader::{Reader, stop_if};
use crate::record::{ChoiceOutcome, Outcome, Record};
use crate::runner::{BLOCK, Observer, Runner, parts, record};
use crate::sample::{Ask, Choice, Sample};
use selfextend::sampling::TokenScore;
use selfextend::{GenerateOptions, Method, generate};
use std::ops::ControlFlow;
use std::time::Instant;

/// A run that goes on.
pub(crate) struct Run<'a> {
    pub(crate) runner: &'a Runner<'a>,
    pub(crate) work: Work,
    pub(crate) decode_weight: f64,
    /// Work done so far.
    pub(crate) finished: f64,
}

impl Run<'_> {
    /// What a method makes of a sample.
    ///
    /// # Errors
    /// The engine's, and a stop that was asked for.
    pub(crate) fn sample(
        &mut self,
        index: usize,
        method: &Method,
        reader: &mut Reader,
        observer: &mut dyn Observer,
    ) -> Result<Record> {
        let sample = &self.runner.samples[index];
        let nothing = Outcome::Unreachable {
            reason: String::new(),
        };
        let mut record = record(sample, index, &method.to_string(), nothing);
        let read = parts(sample, method);
        record.tokens = read.iter().map(|(tokens, _)| tokens.len()).sum();
        record.cut = sample.cut(method);
        let memory = PeakMemory::start();
        record.outcome = match &sample.ask {
            Ask::Answer { .. } => self.answer(sample, method, reader, observer, &mut record)?,
            Ask::Likelihood { tokens, from } => {
                self.likelihood(tokens, *from, reader, observer, &mut record)?
            }
            Ask::Choice { choices, gold } => {
                let outcomes = choices
                    .iter()
                    .map(|choice| self.choice(choice, reader, observer, &mut record));
                Outcome::Choice {
                    gold: *gold,
                    choices: outcomes.collect::<Result<_>>()?,
                }
            }
        };
        record.cache_bytes = reader.session().cache_bytes();
        record.peak_bytes = memory.bytes().filter(|_| memory.is_fresh());
        Ok(record)
    }

    fn answer(
        &mut self,
        sample: &Sample,
        method: &Method,
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<Outcome> {
        let Ask::Answer {
            max_tokens,
            stop,
            expected,
            score,
            ..
        } = &sample.ask
        else {
            return Err(EvalError::settings("not a question"));
        };
        let prompt = sample.prompt(method);
        let logits = self.read(prompt, reader, observer, record)?;
        let start = Instant::now();
        let options = GenerateOptions::new()
            .with_max_tokens(*max_tokens)
            .with_stop(stop.clone());
        let tokenizer = &self.runner.model.tokenizer;
        let mut on_text = |_: &str| match observer.stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let answer = generate(reader.session(), tokenizer, logits, &options, &mut on_text)?;
        stop_if(observer.stop())?;
        record.decode_s = start.elapsed().as_secs_f64();
        let decode = self.work.span(prompt.len(), prompt.len() + max_tokens);
        self.finished += decode * self.decode_weight;
        observer.progress(self.finished);
        Ok(Outcome::Answer {
            score: score(&answer.text),
            text: answer.text,
            tokens: answer.tokens.len(),
            expected: expected.clone(),
        })
    }

    /// Reads tokens that other samples may share; returns the logits of the last one.
    fn read(
        &mut self,
        tokens: &[u32],
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<Vec<f32>> {
        let start = Instant::now();
        let (work, finished) = (self.work, self.finished);
        let (logits, read) = reader.prompt(tokens, &mut |done| {
            observer.progress(finished + work.span(0, done));
            stop_if(observer.stop())
        })?;
        self.finished += work.span(tokens.len() - read, tokens.len());
        observer.progress(self.finished);
        record.read += read;
        record.prefill_s += start.elapsed().as_secs_f64();
        Ok(logits)
    }

    /// Scores each of `targets` after the tokens read and those of `tokens` up to its place.
    fn score(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<Vec<TokenScore>> {
        let start = Instant::now();
        let (work, finished) = (self.work, self.finished);
        let first = reader.session().len();
        let scores = reader.score(tokens, targets, &mut |done| {
            observer.progress(finished + work.span(first, first + done));
            stop_if(observer.stop())
        })?;
        self.finished += work.span(first, first + tokens.len());
        observer.progress(self.finished);
        record.read += tokens.len();
        record.prefill_s += start.elapsed().as_secs_f64();
        Ok(scores)
    }

    fn likelihood(
        &mut self,
        tokens: &[u32],
        from: usize,
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<Outcome> {
        self.read(&tokens[..from - 1], reader, observer, record)?;
        let (seen, targets) = (&tokens[from - 1..tokens.len() - 1], &tokens[from..]);
        let scores = self.score(seen, targets, reader, observer, record)?;
        let mut blocks = vec![(0, 0.0); tokens.len().div_ceil(BLOCK)];
        for (n, score) in scores.iter().enumerate() {
            let block = &mut blocks[(from + n) / BLOCK];
            *block = (block.0 + 1, block.1 - score.log_probability);
        }
        Ok(Outcome::Likelihood {
            from,
            count: scores.len(),
            nll: -sum(&scores),
            block: BLOCK,
            blocks,
        })
    }

    fn choice(
        &mut self,
        choice: &Choice,
        reader: &mut Reader,
        observer: &mut dyn Observer,
        record: &mut Record,
    ) -> Result<ChoiceOutcome> {
        let (body, last) = choice.split();
        self.read(body, reader, observer, record)?;
        let targets = &choice.continuation;
        let mut seen = vec![last];
        seen.extend(&targets[..targets.len() - 1]);
        let scores = self.score(&seen, targets, reader, observer, record)?;
        Ok(ChoiceOutcome {
            log_likelihood: sum(&scores),
            bytes: choice.bytes,
            greedy: scores.iter().all(|score| score.is_top),
        })
    }
}

/// Of the log-probabilities.
fn sum(scores: &[TokenScore]) -> f64 {
    scores.iter().map(|score| score.log_probability).sum()
}

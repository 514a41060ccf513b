//! BABILong (Kuratov et al., arXiv 2406.10149): the facts of bAbI's stories, in their order, between
//! the sentences of books; prompts and scores as in the authors' code (github.com/booydar/babilong).
//!
//! Four things differ: all lengths ask the same questions (there: other ones at each), noise starts at
//! a drawn sentence of a book and goes on from there (there: in another book), sentences are told
//! apart by their full stops (there: by Punkt), and texts end with a whole sentence.

mod prompts;
mod story;
mod task;

pub use self::task::BabiTask;

use self::prompts::Prompt;
use self::story::{Story, stories};
use super::data::{read_text, stem};
use super::fit::fit_units;
use super::haystack::sentences;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::label_match;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};
use std::path::{Path, PathBuf};

/// The shortest sentence of noise, in tokens.
const SHORTEST: usize = 10;
/// Tokens for instructions and examples, which the authors leave free.
const INSTRUCTIONS: usize = 300;

/// A sweep over tasks and lengths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BabiLong {
    /// The tasks.
    pub tasks: Vec<BabiTask>,
    /// bAbI's files, named as in its archive, or folders of them, of which the tests are read.
    pub facts: Vec<PathBuf>,
    /// The books that hide them.
    pub books: Vec<PathBuf>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Questions of a task at each length.
    pub samples: usize,
    /// Seed of everything drawn.
    pub seed: u64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl BabiLong {
    /// All tasks, 25 questions each with seed 42, and the authors' 20 tokens for an answer.
    pub fn new(facts: Vec<PathBuf>, books: Vec<PathBuf>, lengths: Vec<usize>) -> Self {
        Self {
            tasks: BabiTask::ALL.map(|(_, task)| task).to_vec(),
            facts,
            books,
            lengths,
            samples: 25,
            seed: 42,
            max_tokens: 20,
        }
    }

    /// The samples, task by task, the shortest length first.
    ///
    /// # Errors
    /// Files that cannot be read or are missing, fewer questions than samples, lengths too short for
    /// a task.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let noise = self.noise(prompter)?;
        let mut samples = Vec::new();
        for &task in &self.tasks {
            let drawn = self.drawn(task)?;
            for &length in &self.lengths {
                for (number, story) in drawn.iter().enumerate() {
                    samples.push(self.sample(prompter, &noise, (task, length, number), story)?);
                }
            }
        }
        Ok(samples)
    }

    /// The file of a task.
    fn file(&self, task: BabiTask) -> Result<PathBuf> {
        let prefix = format!("{}_", task.name());
        let is_task = |path: &Path| stem(path).starts_with(&prefix);
        for path in &self.facts {
            let failed = EvalError::reading(path);
            if !std::fs::metadata(path).map_err(&failed)?.is_dir() {
                if is_task(path) {
                    return Ok(path.clone());
                }
                continue;
            }
            for entry in std::fs::read_dir(path).map_err(&failed)? {
                let file = entry.map_err(&failed)?.path();
                if is_task(&file) && stem(&file).ends_with("_test") {
                    return Ok(file);
                }
            }
        }
        Err(EvalError::settings(format!(
            "there is no file {prefix}... for the task {} among bAbI's files given",
            task.name()
        )))
    }

    /// The questions of a task, in an order that the seed gives: of those that the authors ask at
    /// the shortest length, where a story may have a fact for 8 tokens of text.
    fn drawn(&self, task: BabiTask) -> Result<Vec<Story>> {
        let path = self.file(task)?;
        let shortest = self.lengths.iter().copied().min().unwrap_or(0);
        let most = shortest.saturating_sub(INSTRUCTIONS) / 8;
        let mut all = stories(&path)?;
        all.retain(|story| story.facts.len() < most);
        if all.len() < self.samples {
            let reason = format!(
                "{} samples of {shortest} tokens need as many questions that fit, it holds {}",
                self.samples,
                all.len()
            );
            return Err(EvalError::file(&path, reason));
        }
        let drawn = Random::new(self.seed).sample(all.len(), self.samples);
        Ok(drawn.into_iter().map(|n| all[n].clone()).collect())
    }

    /// The sentences of the books that are long enough.
    fn noise(&self, prompter: &Prompter) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for path in &self.books {
            for sentence in sentences(&read_text(path)?) {
                // Far more characters than tokens make a count needless.
                let is_long = sentence.len() > 16 * SHORTEST
                    || prompter.continuation("", &format!(" {sentence}"))?.len() >= SHORTEST;
                if is_long {
                    all.push(sentence.to_owned());
                }
            }
        }
        if all.is_empty() {
            return Err(EvalError::settings(
                "the books hold no sentence that is long enough to hide facts",
            ));
        }
        Ok(all)
    }

    fn sample(
        &self,
        prompter: &Prompter,
        noise: &[String],
        (task, length, number): (BabiTask, usize, usize),
        story: &Story,
    ) -> Result<Sample> {
        let prompt = Prompt::new(task, &story.question)?;
        // The same draws for every size; only the noise grows.
        let mut random = Random::new(
            self.seed
                .wrapping_mul(1_000_003)
                .wrapping_add(number as u64),
        );
        let start = random.below(noise.len() as u64) as usize;
        let mut depths: Vec<f64> = story.facts.iter().map(|_| random.share()).collect();
        depths.sort_by(f64::total_cmp);
        let answer = prompt.told(prompter, &story.answer)?;
        let room = self.max_tokens.max(answer.len());
        let limit = length.saturating_sub(room);
        let found = fit_units(limit, task.name(), 30, |units| {
            let noise: Vec<&str> = noise
                .iter()
                .map(String::as_str)
                .cycle()
                .skip(start)
                .take(units)
                .collect();
            let context = hidden(&story.facts, &depths, &noise);
            let tokens = prompter.tokens(&prompt.text(&context), "")?;
            Ok(((), tokens))
        })?;
        let (expected, question) = (story.answer.clone(), story.question.clone());
        let labels = prompts::LABELS.map(str::to_owned);
        Ok(Sample {
            id: format!("{}/{length}/{number}", task.name()),
            tags: Tags::from([
                ("task".into(), task.name().into()),
                ("length".into(), length.into()),
            ]),
            context: length,
            ask: Ask::Answer {
                prompt: found.tokens,
                without_extension: None,
                max_tokens: self.max_tokens,
                stop: Vec::new(),
                expected: vec![expected.clone()],
                answer,
                score: Box::new(move |text| label_match(text, &expected, &question, &labels)),
            },
        })
    }
}

/// Facts in their order, each before the sentence at its share of the noise.
fn hidden(facts: &[String], depths: &[f64], noise: &[&str]) -> String {
    let places = (noise.len() + 1) as f64;
    let mut facts = facts
        .iter()
        .zip(depths)
        .map(|(fact, depth)| ((places * depth) as usize, fact))
        .peekable();
    let mut parts: Vec<&str> = Vec::new();
    for n in 0..=noise.len() {
        while let Some((_, fact)) = facts.next_if(|(place, _)| *place <= n) {
            parts.push(fact);
        }
        parts.extend(noise.get(n));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn facts_keep_their_order(
            mut depths in prop::collection::vec(0.0f64..1.0, 1..20),
            count in 0usize..40,
        ) {
            depths.sort_by(f64::total_cmp);
            let facts: Vec<String> = (0..depths.len()).map(|n| format!("F{n}.")).collect();
            let noise: Vec<String> = (0..count).map(|n| format!("n{n}.")).collect();
            let noise: Vec<&str> = noise.iter().map(String::as_str).collect();
            let text = hidden(&facts, &depths, &noise);
            let words: Vec<&str> = text.split(' ').collect();
            prop_assert_eq!(words.len(), facts.len() + count);
            let only = |first: char| words.iter().filter(move |word| word.starts_with(first));
            prop_assert!(only('F').eq(facts.iter()));
            prop_assert!(only('n').eq(noise.iter()));
        }
    }
}

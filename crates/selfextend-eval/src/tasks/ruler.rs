//! RULER's synthetic tasks that need no data set (Hsieh et al., arXiv 2404.06654), with the
//! settings of its `synthetic.yaml` and its prompts, for the tokenizer of the model at hand.
//!
//! Two things differ from the original: words come from the petname lists (there: wonderwords),
//! and the essays of haystacks from the user's own text files.

mod needles;
mod question;
mod words;

use self::needles::{Haystack, Needles};
use self::question::Question;
use super::data::read_text;
use super::fit::fit;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::string_match_all;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};
use std::path::PathBuf;
use std::str::FromStr;

/// A sweep over tasks and lengths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ruler {
    /// The tasks.
    pub tasks: Vec<RulerTask>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Samples of a task at each length.
    pub samples: usize,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Text files for the haystacks of essays; the other tasks do not need them.
    pub essays: Vec<PathBuf>,
}

/// A task of RULER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulerTask {
    /// One needle in repeated noise.
    NiahSingle1,
    /// One needle in essays.
    NiahSingle2,
    /// One needle in essays, its value a UUID.
    NiahSingle3,
    /// One of four needles in essays.
    NiahMultikey1,
    /// One needle among needles.
    NiahMultikey2,
    /// One needle among needles, keys and values UUIDs.
    NiahMultikey3,
    /// Four values of one key.
    NiahMultivalue,
    /// Four keys at once.
    NiahMultiquery,
    /// Variables assigned from one another.
    Vt,
    /// The ten most common words of a list.
    Cwe,
    /// The three most frequent coded words.
    Fwe,
}

impl RulerTask {
    /// Every task, with its name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("niah_single_1", Self::NiahSingle1),
        ("niah_single_2", Self::NiahSingle2),
        ("niah_single_3", Self::NiahSingle3),
        ("niah_multikey_1", Self::NiahMultikey1),
        ("niah_multikey_2", Self::NiahMultikey2),
        ("niah_multikey_3", Self::NiahMultikey3),
        ("niah_multivalue", Self::NiahMultivalue),
        ("niah_multiquery", Self::NiahMultiquery),
        ("vt", Self::Vt),
        ("cwe", Self::Cwe),
        ("fwe", Self::Fwe),
    ];

    /// Its name, as RULER writes it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, task)| *task == self);
        found.map_or("", |(name, _)| name)
    }

    /// Whether it hides its needles in essays.
    pub fn needs_essays(self) -> bool {
        self.needles()
            .is_some_and(|needles| needles.haystack == Haystack::Essay)
    }

    /// Tokens of an answer.
    fn max_tokens(self) -> usize {
        match self {
            Self::Vt => 30,
            Self::Cwe => 120,
            Self::Fwe => 50,
            _ => 128,
        }
    }

    fn needles(self) -> Option<Needles> {
        use Haystack::{Essay, Needle, Noise};
        let needles = |haystack, uuid_keys, uuid_values, keys, values, queries| {
            Some(Needles {
                haystack,
                uuid_keys,
                uuid_values,
                keys,
                values,
                queries,
            })
        };
        match self {
            Self::NiahSingle1 => needles(Noise, false, false, 1, 1, 1),
            Self::NiahSingle2 => needles(Essay, false, false, 1, 1, 1),
            Self::NiahSingle3 => needles(Essay, false, true, 1, 1, 1),
            Self::NiahMultikey1 => needles(Essay, false, false, 4, 1, 1),
            Self::NiahMultikey2 => needles(Needle, false, false, 1, 1, 1),
            Self::NiahMultikey3 => needles(Needle, true, true, 1, 1, 1),
            Self::NiahMultivalue => needles(Essay, false, false, 1, 4, 1),
            // One key for each query.
            Self::NiahMultiquery => needles(Essay, false, false, 4, 1, 4),
            _ => None,
        }
    }
}

impl FromStr for RulerTask {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, task)| *task).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
            EvalError::settings(format!(
                "there is no task {text:?} of RULER; tasks: {}",
                names.join(", ")
            ))
        })
    }
}

impl Ruler {
    /// One sample of each task at each length, with seed 0 and without essays.
    pub fn new(tasks: Vec<RulerTask>, lengths: Vec<usize>) -> Self {
        Self {
            tasks,
            lengths,
            samples: 1,
            seed: 0,
            essays: Vec::new(),
        }
    }

    /// The samples, task by task, the shortest length first.
    ///
    /// # Errors
    /// Tasks that need essays where none are given, lengths too short for a task.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let essays = self.read_essays()?;
        let mut samples = Vec::new();
        for &task in &self.tasks {
            for &length in &self.lengths {
                for number in 0..self.samples {
                    samples.push(self.sample(prompter, task, length, number, &essays)?);
                }
            }
        }
        Ok(samples)
    }

    fn read_essays(&self) -> Result<Vec<String>> {
        if let Some(task) = self.tasks.iter().find(|task| task.needs_essays())
            && self.essays.is_empty()
        {
            return Err(EvalError::settings(format!(
                "{} hides its needles in essays: name text files for them, or leave the task out",
                task.name()
            )));
        }
        let texts = self.essays.iter().map(|path| read_text(path));
        let text = texts.collect::<Result<Vec<_>>>()?.join(" ");
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    fn sample(
        &self,
        prompter: &Prompter,
        task: RulerTask,
        length: usize,
        number: usize,
        essays: &[String],
    ) -> Result<Sample> {
        let max_tokens = task.max_tokens();
        let found = fit(length.saturating_sub(max_tokens), task.name(), |units| {
            // The same draws for every size; only the filler grows.
            let random = Random::new(
                self.seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(number as u64),
            );
            let question = question(task, units, length, random, essays)?;
            let tokens = prompter.tokens(&question.text, &question.prefix)?;
            Ok((question, tokens))
        })?;
        let Question {
            prefix, expected, ..
        } = found.made;
        // The lists of the other tasks may be told in many ways.
        let answer = match task.needles() {
            Some(_) => prompter.continuation(&prefix, &format!(" {}", expected.join(", ")))?,
            None => Vec::new(),
        };
        let answers = expected.clone();
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
                max_tokens,
                stop: Vec::new(),
                expected,
                answer,
                score: Box::new(move |answer| string_match_all(answer, &answers)),
            },
        })
    }
}

/// A task's question with `units` of filler.
fn question(
    task: RulerTask,
    units: usize,
    length: usize,
    mut random: Random,
    essays: &[String],
) -> Result<Question> {
    match task.needles() {
        Some(needles) => Ok(needles.question(units, &mut random, essays)),
        None if task == RulerTask::Vt => Ok(words::variables(units, &mut random)),
        None if task == RulerTask::Cwe => words::common(units, length, &mut random),
        None => Ok(words::frequent(units, length, &mut random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn essays() -> Vec<String> {
        let text = "Some people build things. Others talk! Do they know? It is not easy to say, and so on.";
        text.split_whitespace().map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn answers_are_there_once_and_reproducible(
            task in 0usize..8,
            units in 0usize..400,
            seed: u64,
        ) {
            let (_, task) = RulerTask::ALL[task];
            let made = || question(task, units, 4096, Random::new(seed), &essays()).unwrap();
            let first = made();
            prop_assert_eq!(&first, &made());
            for answer in &first.expected {
                prop_assert_eq!(first.text.matches(&**answer).count(), 1, "{} in {}", answer, first.text);
                prop_assert_eq!(first.prefix.matches(&**answer).count(), 0);
            }
        }
    }

    #[test]
    fn prompts_are_the_originals() {
        let made = question(RulerTask::NiahMultikey3, 2, 4096, Random::new(1), &[]).unwrap();
        // As in RULER's own niah_multikey_3.
        assert!(made.text.starts_with("A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you about the uuid afterwards.\nOne of the special magic uuids for "));
        assert!(made.text.contains("\nWhat is the special magic uuid for "));
        assert!(made.prefix.starts_with(" The special magic uuid for "));
        assert!(made.prefix.ends_with(" mentioned in the provided text is"));
        let made = question(
            RulerTask::NiahMultiquery,
            100,
            4096,
            Random::new(1),
            &essays(),
        )
        .unwrap();
        assert!(
            made.text
                .starts_with("Some special magic numbers are hidden")
                && made.expected.len() == 4
        );
        assert!(made.prefix.ends_with("mentioned in the provided text are"));
    }

    #[test]
    fn names_are_read_and_written() {
        for (name, task) in RulerTask::ALL {
            assert_eq!(
                (name.parse::<RulerTask>().unwrap(), task.name()),
                (task, name)
            );
        }
        let error = "qa_1".parse::<RulerTask>().unwrap_err().to_string();
        assert!(error.contains("cwe"), "{error}");
    }
}

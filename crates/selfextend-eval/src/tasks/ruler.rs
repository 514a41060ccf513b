//! RULER's thirteen tasks (Hsieh et al., arXiv 2404.06654), with the settings of its `synthetic.yaml`
//! and its prompts, for the tokenizer of the model at hand.
//!
//! Two things differ from the original: words come from the petname lists (there: wonderwords), and
//! the essays of haystacks and the questions about documents from the user's own files. `answers`
//! says what else differs for those.

mod answers;
mod needles;
mod question;
mod words;

use self::answers::Library;
use self::needles::{Haystack, Needles};
use self::question::Question;
use super::data::read_text;
use super::fit::fit_units;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::{string_match_all, string_match_part};
use crate::random::Random;
use crate::sample::{Ask, Sample, Score, Tags};
use std::path::{Path, PathBuf};
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
    /// The questions of `qa_1`, a file in SQuAD's format.
    pub squad: Option<PathBuf>,
    /// The questions of `qa_2`, a file in HotpotQA's format.
    pub hotpot: Option<PathBuf>,
}

/// What a task needs beside its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulerData {
    /// Text files that hide its needles.
    Essays,
    /// A file in SQuAD's format.
    Squad,
    /// A file in HotpotQA's format.
    Hotpot,
}

impl RulerData {
    /// What the task does with it, and what to name.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Essays => "hides its needles in essays: name text files for them",
            Self::Squad => "asks the questions of a file in SQuAD's format: name one",
            Self::Hotpot => "asks the questions of a file in HotpotQA's format: name one",
        }
    }
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
    /// Questions about a paragraph among others.
    Qa1,
    /// Questions about several paragraphs among others.
    Qa2,
}

impl RulerTask {
    /// Every task, with its name.
    pub const ALL: [(&'static str, Self); 13] = [
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
        ("qa_1", Self::Qa1),
        ("qa_2", Self::Qa2),
    ];

    /// Its name, as RULER writes it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, task)| *task == self);
        found.map_or("", |(name, _)| name)
    }

    /// What it needs beside its settings.
    pub fn needs(self) -> Option<RulerData> {
        match self {
            Self::Qa1 => Some(RulerData::Squad),
            Self::Qa2 => Some(RulerData::Hotpot),
            _ => {
                let in_essays = self.needles()?.haystack == Haystack::Essay;
                in_essays.then_some(RulerData::Essays)
            }
        }
    }

    /// Tokens of an answer.
    fn max_tokens(self) -> usize {
        match self {
            Self::Vt => 30,
            Self::Cwe => 120,
            Self::Fwe => 50,
            Self::Qa1 | Self::Qa2 => 32,
            _ => 128,
        }
    }

    /// Tokens that a unit of its filler takes, roughly: a document, or a word or line.
    fn tokens_a_unit(self) -> usize {
        match self {
            Self::Qa1 | Self::Qa2 => 200,
            _ => 10,
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
            squad: None,
            hotpot: None,
        }
    }

    /// Whether its settings name some data.
    pub fn has(&self, data: RulerData) -> bool {
        match data {
            RulerData::Essays => !self.essays.is_empty(),
            RulerData::Squad => self.squad.is_some(),
            RulerData::Hotpot => self.hotpot.is_some(),
        }
    }

    /// The samples, task by task, the shortest length first.
    ///
    /// # Errors
    /// Tasks that need files where none are given, fewer questions than samples, lengths too short
    /// for a task.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let data = self.read()?;
        let mut samples = Vec::new();
        for &task in &self.tasks {
            for &length in &self.lengths {
                for number in 0..self.samples {
                    samples.push(self.sample(prompter, task, length, number, &data)?);
                }
            }
        }
        Ok(samples)
    }

    fn read(&self) -> Result<Data> {
        for (task, data) in self
            .tasks
            .iter()
            .filter_map(|task| Some((task, task.needs()?)))
        {
            if !self.has(data) {
                let (name, reason) = (task.name(), data.reason());
                return Err(EvalError::settings(format!(
                    "{name} {reason}, or leave the task out"
                )));
            }
        }
        let texts = self.essays.iter().map(|path| read_text(path));
        let text = texts.collect::<Result<Vec<_>>>()?.join(" ");
        let library = |task, path: &Option<PathBuf>, read: fn(&Path) -> Result<Library>| {
            let asked = path.as_deref().filter(|_| self.tasks.contains(&task));
            let Some(path) = asked else {
                return Ok(Library::default());
            };
            let library = read(path)?;
            if library.len() < self.samples {
                let (len, samples) = (library.len(), self.samples);
                let reason = format!("{samples} samples need as many questions, it holds {len}");
                return Err(EvalError::file(path, reason));
            }
            Ok(library)
        };
        Ok(Data {
            essays: text.split_whitespace().map(str::to_owned).collect(),
            squad: library(RulerTask::Qa1, &self.squad, Library::squad)?,
            hotpot: library(RulerTask::Qa2, &self.hotpot, Library::hotpot)?,
        })
    }

    fn sample(
        &self,
        prompter: &Prompter,
        task: RulerTask,
        length: usize,
        number: usize,
        data: &Data,
    ) -> Result<Sample> {
        let place = (length, number);
        let made = |units| question(task, units, place, self.seed, data);
        // The same for every size.
        let Question {
            prefix, expected, ..
        } = made(0)?;
        let told = match task {
            // Several are right: the first is told.
            RulerTask::Qa1 | RulerTask::Qa2 => Some(expected[0].clone()),
            // The lists of the other tasks may be told in many ways.
            _ => task.needles().map(|_| expected.join(", ")),
        };
        let answer = match told {
            Some(told) => prompter.continuation(&prefix, &format!(" {told}"))?,
            None => Vec::new(),
        };
        let max_tokens = task.max_tokens();
        let limit = length.saturating_sub(max_tokens.max(answer.len()));
        let found = fit_units(limit, task.name(), task.tokens_a_unit(), |units| {
            let question = made(units)?;
            let tokens = prompter.tokens(&question.text, &question.prefix)?;
            Ok((question.expected, tokens))
        })?;
        let expected = found.made;
        let answers = expected.clone();
        let score: Score = match task {
            RulerTask::Qa1 | RulerTask::Qa2 => {
                Box::new(move |answer| string_match_part(answer, &answers))
            }
            _ => Box::new(move |answer| string_match_all(answer, &answers)),
        };
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
                answer: answer.into(),
                score,
            },
        })
    }
}

/// What was read for the tasks.
#[derive(Debug, Default)]
struct Data {
    /// Words.
    essays: Vec<String>,
    squad: Library,
    hotpot: Library,
}

/// A task's question, the so-manieth at a length, with `units` of filler.
fn question(
    task: RulerTask,
    units: usize,
    (length, number): (usize, usize),
    seed: u64,
    data: &Data,
) -> Result<Question> {
    // The same draws for every size; only the filler grows.
    let random = &mut Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    match (task, task.needles()) {
        (_, Some(needles)) => Ok(needles.question(units, random, &data.essays)),
        (RulerTask::Vt, _) => Ok(words::variables(units, random)),
        (RulerTask::Cwe, _) => words::common(units, length, random),
        (RulerTask::Qa1, _) => Ok(data.squad.question(units, number, seed)),
        (RulerTask::Qa2, _) => Ok(data.hotpot.question(units, number, seed)),
        _ => Ok(words::frequent(units, length, random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn essays() -> Data {
        let text = "Some people build things. Others talk! Do they know? It is not easy to say, and so on.";
        Data {
            essays: text.split_whitespace().map(str::to_owned).collect(),
            ..Data::default()
        }
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
            let made = || question(task, units, (4096, 0), seed, &essays()).unwrap();
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
        let multikey = RulerTask::NiahMultikey3;
        let made = question(multikey, 2, (4096, 0), 1, &Data::default()).unwrap();
        // As in RULER's own niah_multikey_3.
        assert!(made.text.starts_with("A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you about the uuid afterwards.\nOne of the special magic uuids for "));
        assert!(made.text.contains("\nWhat is the special magic uuid for "));
        assert!(made.prefix.starts_with(" The special magic uuid for "));
        assert!(made.prefix.ends_with(" mentioned in the provided text is"));
        let multiquery = RulerTask::NiahMultiquery;
        let made = question(multiquery, 100, (4096, 0), 1, &essays()).unwrap();
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
        let error = "qa_3".parse::<RulerTask>().unwrap_err().to_string();
        assert!(error.contains("cwe"), "{error}");
    }
}

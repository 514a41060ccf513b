//! RULER's synthetic tasks that need no other data set (Hsieh et al., arXiv 2404.06654), with the
//! settings of its `synthetic.yaml` and its prompts, for the tokenizer of the model at hand.
//!
//! Unlike the original, words come from the petname lists (wonderwords are the original's), and
//! the essays of its haystacks from the user's own text files.

mod words;

use super::passkey::FILLER;
use super::{Prompter, fit, read_text};
use crate::error::{EvalError, Result};
use crate::metrics::string_match_all;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};
use std::path::PathBuf;
use std::str::FromStr;

/// A sweep over tasks and lengths.
#[derive(Debug, Clone)]
pub struct Ruler {
    /// The tasks.
    pub tasks: Vec<RulerTask>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Samples of a task at each length.
    pub samples: usize,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Texts for the haystacks of essays; tasks that need none run without.
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
            // As many keys as are asked for.
            Self::NiahMultiquery => needles(Essay, false, false, 4, 1, 4),
            _ => None,
        }
    }
}

impl FromStr for RulerTask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, task)| *task).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!(
                "no task of RULER here is called {text:?}; tasks: {}",
                names.join(", ")
            )
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haystack {
    Noise,
    Essay,
    Needle,
}

/// The settings of a needle task.
#[derive(Debug, Clone, Copy)]
struct Needles {
    haystack: Haystack,
    uuid_keys: bool,
    uuid_values: bool,
    keys: usize,
    values: usize,
    queries: usize,
}

/// A prompt, the words its answer begins with, and what is right.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    text: String,
    prefix: String,
    expected: Vec<String>,
}

impl Ruler {
    /// The samples, task by task, the shortest length first.
    ///
    /// # Errors
    /// Tasks with essays but none given, lengths too short for a task.
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
                "{} hides its needles in essays: name texts for it (--essays), or leave it out",
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
            // The same draws for every size: only the filler grows.
            let random = Random::new(
                self.seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(number as u64),
            );
            let made = make(task, units, length, random, essays)?;
            let tokens = prompter.tokens(&made.text, &made.prefix)?;
            Ok((made, tokens))
        })?;
        let expected = found.made.expected;
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
                score: Box::new(move |answer| string_match_all(answer, &answers)),
            },
        })
    }
}

/// A task's prompt with so many units of filler.
fn make(
    task: RulerTask,
    units: usize,
    length: usize,
    mut random: Random,
    essays: &[String],
) -> Result<Made> {
    match task.needles() {
        Some(needles) => needles.make(units, &mut random, essays),
        None if task == RulerTask::Vt => Ok(words::variables(units, &mut random)),
        None if task == RulerTask::Cwe => words::common(units, length, &mut random),
        None => Ok(words::frequent(units, length, &mut random)),
    }
}

impl Needles {
    fn make(self, units: usize, random: &mut Random, essays: &[String]) -> Result<Made> {
        let kind = if self.uuid_values { "uuid" } else { "number" };
        let needle = |key: &str, value: &str| {
            format!("One of the special magic {kind}s for {key} is: {value}.")
        };
        let (mut keys, mut values, mut hidden) = (Vec::<String>::new(), Vec::new(), Vec::new());
        while keys.len() < self.keys {
            let key = self.key(random);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for key in &keys {
            let own: Vec<String> = (0..self.values).map(|_| self.value(random)).collect();
            hidden.extend(own.iter().map(|value| needle(key, value)));
            values.push(own);
        }
        random.shuffle(&mut hidden);
        let asked = random.sample(self.keys, self.queries);
        // Draws that do not depend on the size: the needles keep their depths.
        let depths: Vec<f64> = random
            .sample(40, hidden.len())
            .iter()
            .map(|&n| n as f64 / 39.0)
            .collect();
        let context = match self.haystack {
            Haystack::Essay => in_essays(&hidden, &depths, units, essays),
            Haystack::Noise => {
                let lines = vec![FILLER.to_owned(); units];
                in_lines(&hidden, &depths, lines)
            }
            Haystack::Needle => {
                let lines = (0..units).map(|_| {
                    let mut key = self.key(random);
                    while keys.contains(&key) {
                        key = self.key(random);
                    }
                    needle(&key, &self.value(random))
                });
                in_lines(&hidden, &depths, lines.collect())
            }
        };
        let query = listed(&asked.iter().map(|&n| &*keys[n]).collect::<Vec<_>>());
        let expected: Vec<String> = asked.iter().flat_map(|&n| values[n].clone()).collect();
        Ok(question(
            kind,
            expected.len() == 1,
            &context,
            &query,
            expected,
        ))
    }

    fn key(self, random: &mut Random) -> String {
        if self.uuid_keys {
            uuid(random)
        } else {
            words::key(random)
        }
    }

    fn value(self, random: &mut Random) -> String {
        if self.uuid_values {
            uuid(random)
        } else {
            words::number(random, 7)
        }
    }
}

/// RULER's prompt, in the singular where one value is asked for.
fn question(kind: &str, single: bool, context: &str, query: &str, expected: Vec<String>) -> Made {
    let text = match single {
        true => format!(
            "A special magic {kind} is hidden within the following text. Make sure to memorize it. \
             I will quiz you about the {kind} afterwards.\n{context}\nWhat is the special magic \
             {kind} for {query} mentioned in the provided text?"
        ),
        false => format!(
            "Some special magic {kind}s are hidden within the following text. Make sure to \
             memorize it. I will quiz you about the {kind}s afterwards.\n{context}\nWhat are all \
             the special magic {kind}s for {query} mentioned in the provided text?"
        ),
    };
    let (s, verb) = if single { ("", "is") } else { ("s", "are") };
    let prefix =
        format!(" The special magic {kind}{s} for {query} mentioned in the provided text {verb}");
    Made {
        text,
        prefix,
        expected,
    }
}

/// Needles between whole sentences of so many words of essay.
fn in_essays(needles: &[String], depths: &[f64], words: usize, essays: &[String]) -> String {
    let words: Vec<&str> = essays
        .iter()
        .cycle()
        .take(words)
        .map(String::as_str)
        .collect();
    let ends = words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.ends_with(['.', '!', '?']));
    let mut ends: Vec<usize> = ends.map(|(n, _)| n + 1).collect();
    ends.insert(0, 0);
    let mut places: Vec<(usize, &String)> = needles
        .iter()
        .zip(depths)
        .map(|(needle, depth)| (ends[((ends.len() - 1) as f64 * depth) as usize], needle))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    let (mut parts, mut from) = (Vec::<&str>::new(), 0);
    for (place, needle) in places {
        parts.extend(&words[from..place]);
        parts.push(needle);
        from = place;
    }
    parts.extend(&words[from..]);
    parts.join(" ")
}

/// Needles among lines.
fn in_lines(needles: &[String], depths: &[f64], mut lines: Vec<String>) -> String {
    let count = lines.len() as f64;
    let mut places: Vec<(usize, &String)> = needles
        .iter()
        .zip(depths)
        .map(|(needle, depth)| ((count * depth) as usize, needle))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    for (place, needle) in places.into_iter().rev() {
        lines.insert(place, needle.clone());
    }
    lines.join("\n")
}

/// Names in a row, as in "a, b, and c".
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] => format!("{}, and {last}", some.join(", ")),
    }
}

/// A random UUID (version 4).
fn uuid(random: &mut Random) -> String {
    let (a, b) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        ((b >> 48) & 0x3fff) | 0x8000,
        b & 0xffff_ffff_ffff
    )
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
            let made = || make(task, units, 4096, Random::new(seed), &essays()).unwrap();
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
        let made = make(RulerTask::NiahMultikey3, 2, 4096, Random::new(1), &[]).unwrap();
        // As in RULER's own niah_multikey_3.
        assert!(made.text.starts_with("A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you about the uuid afterwards.\nOne of the special magic uuids for "));
        assert!(made.text.contains("\nWhat is the special magic uuid for "));
        assert!(made.prefix.starts_with(" The special magic uuid for "));
        assert!(made.prefix.ends_with(" mentioned in the provided text is"));
        let made = make(
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
            assert_eq!((name.parse(), task.name()), (Ok(task), name));
        }
        assert!("qa_1".parse::<RulerTask>().unwrap_err().contains("cwe"));
        assert_eq!(listed(&["a", "b", "c"]), "a, b, and c");
    }
}

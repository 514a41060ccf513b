//! Needle in a haystack (Kamradt, github.com/gkamradt/LLMTest_NeedleInAHaystack): a sentence
//! hidden between the sentences of any texts, asked for at the end.
//!
//! One needle measures how a model likes one sentence. So several are hidden, each in a text of its
//! own: the known one, and others drawn from `facts`, asked for in one of two
//! ways. Intervals resample needles, questions and depths.

mod facts;

pub use self::facts::Fact;

use super::data::read_text;
use super::fit::fit;
use super::haystack::{check_depths, deepest_first};
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::right;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};
use std::path::PathBuf;

/// What begins an answer.
const ANSWER_PREFIX: &str = "\nAnswer:";

/// A sweep over needles, lengths and depths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Needle {
    /// The texts of the haystack, one after another, repeated as often as needed.
    pub haystack: Vec<PathBuf>,
    /// What is hidden.
    pub needles: Needles,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Where a needle is hidden: 0 is the start of the text, 1 its end.
    pub depths: Vec<f64>,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

/// Which needles are hidden.
#[derive(Debug, Clone, PartialEq)]
pub enum Needles {
    /// These.
    Given(Vec<Fact>),
    /// The known one and others that the seed draws, of those that the haystack does not answer.
    Drawn {
        /// How many in all.
        count: usize,
        /// Seed of the draw.
        seed: u64,
    },
}

impl Needle {
    /// Four needles at depths of 0%, 25%, 50%, 75% and 100%, with answers of 32 tokens.
    pub fn new(haystack: Vec<PathBuf>, lengths: Vec<usize>) -> Self {
        Self {
            haystack,
            needles: Needles::Drawn { count: 4, seed: 0 },
            lengths,
            depths: vec![0.0, 0.25, 0.5, 0.75, 1.0],
            max_tokens: 32,
        }
    }

    /// The samples, deepest first.
    ///
    /// # Errors
    /// Files that cannot be read, depths outside 0 to 1, lengths too short for the question, a
    /// haystack that contains an answer, more needles than there are.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        check_depths(&self.depths)?;
        let haystack = self.read_haystack()?;
        let (facts, seed) = self.facts(&haystack)?;
        let mut samples = Vec::new();
        for &length in &self.lengths {
            for (d, depth) in deepest_first(&self.depths).into_iter().enumerate() {
                for (n, fact) in facts.iter().enumerate() {
                    // The same question at every length.
                    let mut random = Random::new(seed.wrapping_add((n * 1009 + d) as u64));
                    let question = random.below(fact.questions.len().max(1) as u64) as usize;
                    let place = (length, depth, n, question);
                    samples.push(self.sample(prompter, &haystack, fact, place)?);
                }
            }
        }
        Ok(samples)
    }

    fn sample(
        &self,
        prompter: &Prompter,
        haystack: &str,
        fact: &Fact,
        (length, depth, number, question): (usize, f64, usize, usize),
    ) -> Result<Sample> {
        let asked = fact.questions.get(question).ok_or_else(|| {
            EvalError::settings(format!("there is no question for {:?}", fact.needle))
        })?;
        // Word for word, an answer is the needle itself.
        let told = prompter.continuation(ANSWER_PREFIX, &format!(" {}", fact.needle))?;
        let room = length.saturating_sub(self.max_tokens.max(told.len()));
        let found = fit(room, "the question", |chars| {
            let text = text(haystack, fact, asked, chars, depth);
            let tokens = prompter.tokens(&text, ANSWER_PREFIX)?;
            Ok(((), tokens))
        })?;
        let answer = fact.answer.to_lowercase();
        Ok(Sample {
            id: format!("{length}/{depth}/{number}"),
            tags: Tags::from([
                ("length".into(), length.into()),
                ("depth".into(), depth.into()),
                ("needle".into(), fact.answer.clone().into()),
                ("question".into(), question.into()),
            ]),
            context: length,
            ask: Ask::Answer {
                prompt: found.tokens,
                without_extension: None,
                max_tokens: self.max_tokens,
                stop: Vec::new(),
                expected: vec![fact.answer.clone()],
                answer: told.into(),
                score: Box::new(move |text| right(text.to_lowercase().contains(&answer))),
            },
        })
    }

    /// The needles, and the seed of their questions.
    fn facts(&self, haystack: &str) -> Result<(Vec<Fact>, u64)> {
        let haystack = haystack.to_lowercase();
        let answered = |fact: &Fact| haystack.contains(&fact.answer.to_lowercase());
        match &self.needles {
            Needles::Given(facts) => match facts.iter().find(|fact| answered(fact)) {
                Some(fact) => Err(EvalError::settings(format!(
                    "the haystack already contains the answer {:?}",
                    fact.answer
                ))),
                None => Ok((facts.clone(), 0)),
            },
            &Needles::Drawn { count, seed } => {
                let mut all = facts::all();
                Random::new(seed).shuffle(&mut all[1..]);
                all.retain(|fact| !answered(fact));
                if all.len() < count {
                    return Err(EvalError::settings(format!(
                        "{count} needles asked for, there are {} that the haystack does not answer",
                        all.len()
                    )));
                }
                all.truncate(count);
                Ok((all, seed))
            }
        }
    }

    fn read_haystack(&self) -> Result<String> {
        let mut all = String::new();
        for path in &self.haystack {
            all += read_text(path)?.trim();
            all += "\n\n";
        }
        if all.is_empty() {
            return Err(EvalError::settings("there are no texts for the haystack"));
        }
        Ok(all)
    }
}

/// `chars` characters of haystack with a needle in them, and the question.
fn text(haystack: &str, fact: &Fact, question: &str, chars: usize, depth: f64) -> String {
    let hay: String = haystack.chars().cycle().take(chars).collect();
    let cut = sentence_end(&hay, depth);
    let (before, after) = hay.split_at(cut);
    let gap = |is_there| if is_there { "" } else { " " };
    let first = gap(before.is_empty() || before.ends_with(char::is_whitespace));
    let second = gap(after.is_empty() || after.starts_with(char::is_whitespace));
    let needle = &fact.needle;
    format!("{before}{first}{needle}{second}{after}\n\nQuestion: {question}")
}

/// Where the last sentence before a depth ends, in bytes; 0 where there is none.
fn sentence_end(text: &str, depth: f64) -> usize {
    let wanted = (text.len() as f64 * depth) as usize;
    if wanted >= text.len() {
        return text.len();
    }
    let bytes = text.as_bytes();
    let ends = (1..=wanted).rev().find(|&at| {
        matches!(bytes[at - 1], b'.' | b'!' | b'?')
            && bytes.get(at).is_none_or(u8::is_ascii_whitespace)
    });
    ends.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn needles_lie_between_sentences() {
        let text = "One is here. Two is there! Is three?\nFour";
        assert_eq!(&text[..sentence_end(text, 0.5)], "One is here.");
        assert_eq!(
            &text[..sentence_end(text, 0.9)],
            "One is here. Two is there! Is three?"
        );
        assert_eq!(sentence_end(text, 0.1), 0);
        assert_eq!(sentence_end(text, 1.0), text.len());
    }

    #[test]
    fn needles_are_drawn_by_the_seed_and_unknown_to_the_haystack() {
        let drawn = |count, seed, haystack: &str| {
            let mut needle = Needle::new(Vec::new(), Vec::new());
            needle.needles = Needles::Drawn { count, seed };
            needle.facts(haystack).map(|(facts, _)| facts)
        };
        let known = facts::all().remove(0);
        let some = drawn(4, 1, "Hay.").unwrap();
        assert_eq!((some.len(), &some[0]), (4, &known));
        assert_eq!(some, drawn(4, 1, "Hay.").unwrap());
        assert_ne!(some, drawn(4, 2, "Hay.").unwrap());
        let answer = some[2].answer.to_uppercase();
        let others = drawn(4, 1, &answer).unwrap();
        assert!(others.len() == 4 && !others.contains(&some[2]));
        let error = drawn(99, 1, "Hay.").unwrap_err().to_string();
        assert!(error.contains("99 needles"), "{error}");
    }

    proptest! {
        #[test]
        fn the_needle_is_there_once(
            chars in 0usize..4000,
            depth in 0.0f64..=1.0,
            n in 0usize..12,
        ) {
            let fact = &facts::all()[n];
            let haystack = "Some things. Äpfel und Birnen! Much more of it?\n\n";
            let text = text(haystack, fact, &fact.questions[0], chars, depth);
            prop_assert_eq!(text.matches(&fact.needle).count(), 1);
            prop_assert_eq!(text.matches(&fact.answer).count(), 1);
            prop_assert!(text.ends_with(&fact.questions[0]));
        }
    }
}

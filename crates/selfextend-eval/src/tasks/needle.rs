//! Needle in a haystack (Kamradt, github.com/gkamradt/LLMTest_NeedleInAHaystack): a sentence
//! hidden between the sentences of any texts, asked for at the end.

use super::data::read_text;
use super::fit::fit;
use super::haystack::{check_depths, deepest_first};
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::right;
use crate::sample::{Ask, Sample, Tags};
use std::path::PathBuf;

/// The usual needle.
pub const NEEDLE: &str = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.";
/// The question for it.
pub const QUESTION: &str = "What is the best thing to do in San Francisco?";
/// What an answer must contain: the words that no haystack suggests. The rest may take any form
/// ("eating a sandwich and sitting in ...").
pub const ANSWER: &str = "Dolores Park";

/// What begins an answer.
const ANSWER_PREFIX: &str = "\nAnswer:";

/// A sweep over lengths and depths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Needle {
    /// The texts of the haystack, one after another, repeated as often as needed.
    pub haystack: Vec<PathBuf>,
    /// The sentence that is hidden.
    pub needle: String,
    /// What is asked.
    pub question: String,
    /// What an answer must contain; upper and lower case are the same.
    pub answer: String,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Where the needle is hidden: 0 is the start of the text, 1 its end.
    pub depths: Vec<f64>,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl Needle {
    /// The known needle at depths of 0%, 25%, 50%, 75% and 100%, with answers of 32 tokens.
    pub fn new(haystack: Vec<PathBuf>, lengths: Vec<usize>) -> Self {
        Self {
            haystack,
            needle: NEEDLE.into(),
            question: QUESTION.into(),
            answer: ANSWER.into(),
            lengths,
            depths: vec![0.0, 0.25, 0.5, 0.75, 1.0],
            max_tokens: 32,
        }
    }

    /// The samples, deepest first.
    ///
    /// # Errors
    /// Files that cannot be read, depths outside 0 to 1, lengths too short for the question, a
    /// haystack that contains the answer.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        check_depths(&self.depths)?;
        let haystack = self.read_haystack()?;
        // Word for word, an answer is the needle itself.
        let told = prompter.continuation(ANSWER_PREFIX, &format!(" {}", self.needle))?;
        let mut samples = Vec::new();
        for &length in &self.lengths {
            for depth in deepest_first(&self.depths) {
                let room = length.saturating_sub(self.max_tokens.max(told.len()));
                let found = fit(room, "the question", |chars| {
                    let text = self.text(&haystack, chars, depth);
                    let tokens = prompter.tokens(&text, ANSWER_PREFIX)?;
                    Ok(((), tokens))
                })?;
                let answer = self.answer.to_lowercase();
                samples.push(Sample {
                    id: format!("{length}/{depth}"),
                    tags: Tags::from([
                        ("length".into(), length.into()),
                        ("depth".into(), depth.into()),
                    ]),
                    context: length,
                    ask: Ask::Answer {
                        prompt: found.tokens,
                        without_extension: None,
                        max_tokens: self.max_tokens,
                        stop: Vec::new(),
                        expected: vec![self.answer.clone()],
                        answer: told.clone(),
                        score: Box::new(move |text| right(text.to_lowercase().contains(&answer))),
                    },
                });
            }
        }
        Ok(samples)
    }

    fn read_haystack(&self) -> Result<String> {
        let mut all = String::new();
        for path in &self.haystack {
            let text = read_text(path)?;
            if text.to_lowercase().contains(&self.answer.to_lowercase()) {
                let reason = format!("the haystack already contains the answer {:?}", self.answer);
                return Err(EvalError::file(path, reason));
            }
            all += text.trim();
            all += "\n\n";
        }
        if all.is_empty() {
            return Err(EvalError::settings("there are no texts for the haystack"));
        }
        Ok(all)
    }

    /// `chars` characters of haystack with the needle in them, and the question.
    fn text(&self, haystack: &str, chars: usize, depth: f64) -> String {
        let hay: String = haystack.chars().cycle().take(chars).collect();
        let cut = sentence_end(&hay, depth);
        let (before, after) = hay.split_at(cut);
        let gap = if before.is_empty() || before.ends_with(char::is_whitespace) {
            ""
        } else {
            " "
        };
        format!(
            "{before}{gap}{}{}{after}\n\nQuestion: {}",
            self.needle,
            if after.starts_with(char::is_whitespace) || after.is_empty() {
                ""
            } else {
                " "
            },
            self.question
        )
    }
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

    fn needle() -> Needle {
        Needle::new(Vec::new(), Vec::new())
    }

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

    proptest! {
        #[test]
        fn the_needle_is_there_once(chars in 0usize..4000, depth in 0.0f64..=1.0) {
            let text = needle().text("Some things. Äpfel und Birnen! Much more of it?\n\n", chars, depth);
            prop_assert_eq!(text.matches(NEEDLE).count(), 1);
            prop_assert_eq!(text.matches(ANSWER).count(), 1);
            prop_assert!(text.ends_with(QUESTION));
        }
    }
}

//! Passkey retrieval (Mohtashami and Jaggi, arXiv 2305.16300) as the SelfExtend paper sets it: the
//! text of the authors' `passkey_examples`, whose lines of filler hide one line with the key.
//!
//! Small models are sensitive to how the question stands: see [`Wording`].

use super::fit::fit;
use super::haystack::{NOISE, check_depths, deepest_first};
use super::prompt::Prompter;
use crate::error::Result;
use crate::metrics::right;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};

const TASK: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.";

/// How the question for the key stands after the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// As the authors' `passkey_example.py` asks: right behind the last line, a space at its end.
    Authors,
    /// The same without that space: many tokenizers have words such as " 5".
    NoSpace,
    /// On a line of its own, without a space at its end.
    Line,
    /// Announced as a question, its answer begun.
    Question,
}

impl Wording {
    /// Every wording, with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("authors", Self::Authors),
        ("no-space", Self::NoSpace),
        ("line", Self::Line),
        ("question", Self::Question),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, wording)| *wording == self);
        found.map_or("", |(name, _)| name)
    }

    /// What stands between the last line and the question, and the question with the words that
    /// begin its answer.
    fn question(self) -> (&'static str, &'static str) {
        match self {
            Self::Authors => ("", "What is the pass key? The pass key is "),
            Self::NoSpace => ("", "What is the pass key? The pass key is"),
            Self::Line => ("\n", "What is the pass key? The pass key is"),
            Self::Question => (
                "\n\n",
                "Question: What is the pass key in the text above?\nAnswer: The pass key is",
            ),
        }
    }

    /// The key as it continues the question.
    fn answer(self, key: &str) -> String {
        let space = if self == Self::Authors { "" } else { " " };
        format!("{space}{key}")
    }
}

impl std::str::FromStr for Wording {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, wording)| *wording).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("not a wording; the wordings are {names}")
        })
    }
}

/// A key and the text that hides it.
#[derive(Debug, Clone)]
pub struct Passkey {
    /// The key, in digits.
    pub key: String,
    /// The text, its question included.
    pub tokens: Vec<u32>,
    /// The key's tokens, as they continue the text.
    pub answer: Vec<u32>,
    /// Where the sentence with the key begins, in tokens.
    pub position: usize,
}

impl Passkey {
    /// A text of at most `tokens` tokens, of as many lines of filler as fit, with a key of `digits`
    /// digits (1 to 18) at the share `depth` of its lines. The same seed gives the same key.
    ///
    /// # Errors
    /// Too few tokens for the task, text the tokenizer cannot encode.
    pub fn new(
        prompter: &Prompter,
        tokens: usize,
        depth: f64,
        digits: usize,
        seed: u64,
        wording: Wording,
    ) -> Result<Self> {
        let mut random = Random::new(seed);
        let key = random.decimal(digits);
        let (gap, question) = wording.question();
        let found = fit(tokens, "the passkey task", |lines| {
            let before = (lines as f64 * depth).round() as usize;
            let parts = text(&key, before, lines - before);
            let tokens = prompter.tokens(&format!("{}{}{gap}", parts[0], parts[1]), question)?;
            Ok((parts, tokens))
        })?;
        let model = prompter.model();
        Ok(Self {
            answer: prompter.continuation(question, &wording.answer(&key))?,
            tokens: found.tokens,
            position: model.encode(&found.made[0])?.len(),
            key,
        })
    }

    /// Whether an answer names the key: its first number is the key.
    pub fn is_in(&self, answer: &str) -> bool {
        is_first_number(&self.key, answer)
    }
}

fn is_first_number(key: &str, answer: &str) -> bool {
    let digits = answer.chars().skip_while(|c| !c.is_ascii_digit());
    digits.take_while(char::is_ascii_digit).eq(key.chars())
}

/// The text before the key's line, and the text from it on, with so many lines of filler.
fn text(key: &str, before: usize, after: usize) -> [String; 2] {
    [
        format!("{TASK}\n{}", format!("{NOISE}\n").repeat(before)),
        format!("The pass key is {key}. Remember it. {key} is the pass key.")
            + &format!("\n{NOISE}").repeat(after),
    ]
}

/// A sweep over lengths, depths and trials.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sweep {
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Where keys are hidden: 0 is the start of the text, 1 its end.
    pub depths: Vec<f64>,
    /// Keys at each length and depth.
    pub trials: usize,
    /// Digits of a key.
    pub digits: usize,
    /// Seed of the keys.
    pub seed: u64,
    /// How they are asked for; each key in each of these.
    pub wordings: Vec<Wording>,
}

impl Sweep {
    /// Four keys of five digits at each depth of 10%, 30%, 50%, 70% and 90%, with seed 0, in the
    /// authors' wording.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self {
            lengths,
            depths: vec![0.1, 0.3, 0.5, 0.7, 0.9],
            trials: 4,
            digits: 5,
            seed: 0,
            wordings: vec![Wording::Authors],
        }
    }

    /// The samples, deepest first.
    ///
    /// # Errors
    /// Depths outside 0 to 1, lengths too short for the task.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        check_depths(&self.depths)?;
        // A digit may be a token of its own; seven more leave room for words before the key.
        let max_tokens = self.digits + 7;
        let mut samples = Vec::new();
        for &length in &self.lengths {
            for depth in deepest_first(&self.depths) {
                for trial in 0..self.trials {
                    let seed = self.seed + trial as u64;
                    let room = length.saturating_sub(max_tokens);
                    for &wording in &self.wordings {
                        let passkey =
                            Passkey::new(prompter, room, depth, self.digits, seed, wording)?;
                        let place = (length, depth, trial, wording);
                        samples.push(sample(passkey, place, max_tokens));
                    }
                }
            }
        }
        Ok(samples)
    }
}

fn sample(
    passkey: Passkey,
    (length, depth, trial, wording): (usize, f64, usize, Wording),
    max_tokens: usize,
) -> Sample {
    let Passkey {
        key,
        tokens,
        answer,
        position,
    } = passkey;
    let expected = vec![key.clone()];
    let wording = wording.name();
    Sample {
        id: format!("{length}/{depth}/{trial}/{wording}"),
        tags: Tags::from([
            ("length".into(), length.into()),
            ("depth".into(), depth.into()),
            ("trial".into(), trial.into()),
            ("wording".into(), wording.into()),
            ("position".into(), position.into()),
        ]),
        context: length,
        ask: Ask::Answer {
            prompt: tokens,
            without_extension: None,
            max_tokens,
            stop: vec!["\n".into()],
            expected,
            answer: answer.into(),
            score: Box::new(move |answer| right(is_first_number(&key, answer))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' files, text for text.
    #[test]
    fn texts_are_the_authors() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/passkey");
        for file in ["passkey_examples_5k.jsonl", "passkey_examples_10k.jsonl"] {
            let Ok(examples) = std::fs::read_to_string(format!("{folder}/{file}")) else {
                println!("skipped: no {folder}/{file}");
                continue;
            };
            for example in examples.lines() {
                let example: serde_json::Value = serde_json::from_str(example).unwrap();
                let (input, key) = (&example["input"], example["target"].to_string());
                let (input, key) = (input.as_str().unwrap(), key.trim_matches('"'));
                let before = input.split(key).next().unwrap().matches(NOISE).count();
                let after = input.matches(NOISE).count() - before;
                assert_eq!(text(key, before, after).concat(), input);
            }
        }
    }

    #[test]
    fn wordings_have_names() {
        for (name, wording) in Wording::ALL {
            assert_eq!((name.parse(), wording.name()), (Ok(wording), name));
        }
        let error = "polite".parse::<Wording>().unwrap_err();
        assert!(error.contains("authors, no-space, line, question"));
    }

    #[test]
    fn an_answer_is_right_if_its_first_number_is() {
        let passkey = Passkey {
            key: "12345".into(),
            tokens: Vec::new(),
            answer: Vec::new(),
            position: 0,
        };
        assert!(passkey.is_in("12345. Remember it."));
        assert!(passkey.is_in("the number 12345"));
        assert!(!passkey.is_in("123456") && !passkey.is_in("1, 12345") && !passkey.is_in(""));
    }
}

//! Passkey retrieval (Mohtashami and Jaggi, arXiv 2305.16300) as the SelfExtend paper sets it: the
//! text of the authors' `passkey_examples`, whose lines of filler hide one line with the key.
//!
//! The authors put the question directly after the last line and end it with a space; here it has
//! a line of its own and no space at the end, because many tokenizers have words such as " 5".

use super::fit::fit;
use super::haystack::{NOISE, check_depths, deepest_first};
use super::prompt::Prompter;
use crate::error::Result;
use crate::metrics::right;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};

const TASK: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.";
const QUESTION: &str = "What is the pass key? The pass key is";

/// A key and the text that hides it.
#[derive(Debug, Clone)]
pub struct Passkey {
    /// The key, in digits.
    pub key: String,
    /// The text, its question included.
    pub tokens: Vec<u32>,
    /// Where the sentence with the key begins, in tokens.
    pub position: usize,
}

impl Passkey {
    /// A text of at most `tokens` tokens, filled as far as possible, with a key of `digits` digits
    /// (1 to 18) at the share `depth` of its filler. The same seed gives the same key.
    ///
    /// # Errors
    /// Too few tokens for the task, text the tokenizer cannot encode.
    pub fn new(
        prompter: &Prompter,
        tokens: usize,
        depth: f64,
        digits: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut random = Random::new(seed);
        let key = random.decimal(digits);
        let encode =
            |[before, after]: &[String; 2]| prompter.tokens(&format!("{before}{after}"), QUESTION);
        let found = fit(tokens, "the passkey task", |words| {
            let parts = text(&key, words, depth);
            let tokens = encode(&parts)?;
            Ok((parts, tokens))
        })?;
        let model = prompter.model();
        Ok(Self {
            key,
            tokens: found.tokens,
            position: model.encode(&found.made[0])?.len(),
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

/// The text before the key's line, and the text from it to the question. Filler is counted in
/// words; the words that do not fill a line come last.
fn text(key: &str, words: usize, depth: f64) -> [String; 2] {
    let line: Vec<&str> = NOISE.split(' ').collect();
    let (lines, rest) = (words / line.len(), words % line.len());
    let before = (lines as f64 * depth).round() as usize;
    let filler = |count: usize| format!("{NOISE}\n").repeat(count);
    let mut after = format!(
        "The pass key is {key}. Remember it. {key} is the pass key.\n{}",
        filler(lines - before)
    );
    if rest > 0 {
        after += &format!("{}\n", line[..rest].join(" "));
    }
    [format!("{TASK}\n{}", filler(before)), after]
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
}

impl Sweep {
    /// Four keys of five digits at each depth of 10%, 30%, 50%, 70% and 90%, with seed 0.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self {
            lengths,
            depths: vec![0.1, 0.3, 0.5, 0.7, 0.9],
            trials: 4,
            digits: 5,
            seed: 0,
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
                    let passkey = Passkey::new(prompter, room, depth, self.digits, seed)?;
                    samples.push(sample(passkey, length, depth, trial, max_tokens));
                }
            }
        }
        Ok(samples)
    }
}

fn sample(passkey: Passkey, length: usize, depth: f64, trial: usize, max_tokens: usize) -> Sample {
    let Passkey {
        key,
        tokens,
        position,
    } = passkey;
    let expected = vec![key.clone()];
    Sample {
        id: format!("{length}/{depth}/{trial}"),
        tags: Tags::from([
            ("length".into(), length.into()),
            ("depth".into(), depth.into()),
            ("trial".into(), trial.into()),
            ("position".into(), position.into()),
        ]),
        context: length,
        ask: Ask::Answer {
            prompt: tokens,
            without_extension: None,
            max_tokens,
            stop: vec!["\n".into()],
            expected,
            score: Box::new(move |answer| right(is_first_number(&key, answer))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_lies_where_it_should() {
        let words = NOISE.split(' ').count();
        let [before, after] = text("12345", 10 * words + 3, 0.3);
        assert_eq!(
            (before.matches(NOISE).count(), after.matches(NOISE).count()),
            (3, 7)
        );
        assert!(after.starts_with("The pass key is 12345.") && after.ends_with("The grass is\n"));
    }

    #[test]
    fn an_answer_is_right_if_its_first_number_is() {
        let passkey = Passkey {
            key: "12345".into(),
            tokens: Vec::new(),
            position: 0,
        };
        assert!(passkey.is_in("12345. Remember it."));
        assert!(passkey.is_in("the number 12345"));
        assert!(!passkey.is_in("123456") && !passkey.is_in("1, 12345") && !passkey.is_in(""));
    }
}

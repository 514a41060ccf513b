//! Passkey retrieval (Mohtashami and Jaggi, arXiv 2305.16300) as the SelfExtend paper sets it: the
//! text of the authors' `passkey_examples`, whose lines of filler hide one line with the key.
//!
//! The authors put the question directly behind the last line and end it with a space; here it
//! has a line of its own and no space at the end, which tokenizers with words like " 5" need.

use super::{Prompter, fit};
use crate::error::{EvalError, Result};
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};

const TASK: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.";
pub(crate) const FILLER: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
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
    /// A text of at most `tokens` tokens, and hardly less, with a key of so many digits at the
    /// share `depth` of its filler. The same seed gives the same key.
    ///
    /// # Errors
    /// Too few tokens for the task, text the tokenizer cannot take.
    pub fn new(
        prompter: &Prompter,
        tokens: usize,
        depth: f64,
        digits: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut random = Random::new(seed);
        let first = 10u64.pow(digits.clamp(1, 18) as u32 - 1);
        let key = (first + random.below(9 * first)).to_string();
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

/// The text before the key's line, and from it to the question. Filler is counted in words; the
/// words that make no whole line end it.
fn text(key: &str, words: usize, depth: f64) -> [String; 2] {
    let line: Vec<&str> = FILLER.split(' ').collect();
    let (lines, rest) = (words / line.len(), words % line.len());
    let before = (lines as f64 * depth).round() as usize;
    let filler = |count: usize| format!("{FILLER}\n").repeat(count);
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
    /// The samples, deepest first.
    ///
    /// # Errors
    /// Depths outside 0 to 1, lengths too short for the task.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        check_depths(&self.depths)?;
        // A digit may be a token; a few more leave room for a word before the key.
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
            score: Box::new(move |answer| f64::from(u8::from(is_first_number(&key, answer)))),
        },
    }
}

pub(crate) fn check_depths(depths: &[f64]) -> Result<()> {
    match depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) {
        None => Ok(()),
        Some(depth) => Err(EvalError::settings(format!(
            "the depth {depth} does not lie between 0 and 1"
        ))),
    }
}

pub(crate) fn deepest_first(depths: &[f64]) -> Vec<f64> {
    let mut depths = depths.to_vec();
    depths.sort_by(|a, b| b.total_cmp(a));
    depths.dedup();
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_lies_where_it_should() {
        let words = FILLER.split(' ').count();
        let [before, after] = text("12345", 10 * words + 3, 0.3);
        assert_eq!(
            (
                before.matches(FILLER).count(),
                after.matches(FILLER).count()
            ),
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

    #[test]
    fn depths_are_checked_and_ordered() {
        assert!(check_depths(&[0.0, 1.0]).is_ok());
        assert!(check_depths(&[0.5, 1.1]).is_err() && check_depths(&[f64::NAN]).is_err());
        assert_eq!(deepest_first(&[0.1, 0.9, 0.1]), [0.9, 0.1]);
    }
}

//! The passkey task (Mohtashami and Jaggi, arXiv 2305.16300) as the SelfExtend paper sets it.

use crate::error::{CliError, Result};
use crate::random::Random;
use selfextend::TextModel;

const TASK: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.";
const FILLER: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const QUESTION: &str = "What is the pass key? The pass key is";

/// A key and the text that hides it.
#[derive(Debug)]
pub struct Passkey {
    /// The key: five digits.
    pub key: String,
    /// The text, its question included.
    pub tokens: Vec<u32>,
    /// Where the sentence with the key begins, in tokens.
    pub position: usize,
}

impl Passkey {
    /// A text of at most `tokens` tokens, as close as whole lines of filler allow, with a key at
    /// the share `depth` of its filler.
    pub fn new(model: &TextModel, tokens: usize, depth: f64, seed: u64) -> Result<Self> {
        let key = (10_000 + Random::new(seed).below(90_000)).to_string();
        let count = |lines| -> Result<usize> {
            Ok(model.encode(&text(&key, lines, depth).concat())?.len())
        };
        let (empty, some) = (count(0)?, count(64)?);
        let line = (some - empty).div_ceil(64).max(1);
        if tokens < empty + line {
            return Err(CliError::usage(format!(
                "--tokens {tokens} is too short for the task: it takes {} at least",
                empty + line
            )));
        }
        // What a line adds is the same everywhere, but for the edges of the tokenizer's words.
        let mut lines = (tokens - empty) / line;
        while lines > 0 && count(lines)? > tokens {
            lines -= 1;
        }
        let parts = text(&key, lines, depth);
        let position = model.encode(&parts[0])?.len();
        Ok(Self {
            key,
            tokens: model.encode(&parts.concat())?,
            position,
        })
    }

    /// Whether an answer names the key: its first number is the key.
    pub fn is_in(&self, answer: &str) -> bool {
        let digits = answer.chars().skip_while(|c| !c.is_ascii_digit());
        digits.take_while(char::is_ascii_digit).eq(self.key.chars())
    }
}

/// The text before the key's line, and from it on.
fn text(key: &str, lines: usize, depth: f64) -> [String; 2] {
    let before = (lines as f64 * depth).round() as usize;
    let filler = |count: usize| format!("{FILLER}\n").repeat(count);
    [
        format!("{TASK}\n{}", filler(before)),
        format!(
            "The pass key is {key}. Remember it. {key} is the pass key.\n{}{QUESTION}",
            filler(lines - before)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_lies_where_it_should() {
        let [before, after] = text("12345", 10, 0.3);
        assert_eq!(
            (
                before.matches(FILLER).count(),
                after.matches(FILLER).count()
            ),
            (3, 7)
        );
        assert!(after.starts_with("The pass key is 12345.") && after.ends_with(QUESTION));
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

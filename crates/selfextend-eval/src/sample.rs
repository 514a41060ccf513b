//! What a model is asked: samples, made by tasks and run by a [`Runner`](crate::Runner).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a sample is about, for tables and pictures: `length`, `depth`, `subtask`, ...
pub type Tags = BTreeMap<String, Value>;

/// From an answer to a score between 0 and 1.
pub type Score = Box<dyn Fn(&str) -> f64 + Send + Sync>;

/// One question with its tokens and its scoring.
pub struct Sample {
    /// Its name, unique within its task.
    pub id: String,
    /// What it is about.
    pub tags: Tags,
    /// Tokens its session must hold, answer included; methods that depend on the context get
    /// this number, so samples of one length should have one number.
    pub context: usize,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of the model.
pub enum Ask {
    /// The most probable continuation, scored as a text.
    Answer {
        /// The tokens before it.
        prompt: Vec<u32>,
        /// What plain attention is asked instead, where a benchmark cuts prompts that do not fit
        /// the trained window.
        without_extension: Option<Vec<u32>>,
        /// The most tokens of an answer.
        max_tokens: usize,
        /// Texts that end an answer and are no part of it.
        stop: Vec<String>,
        /// What would be right, for the record.
        expected: Vec<String>,
        /// The score of an answer.
        score: Score,
    },
    /// The likelihood of `tokens[from..]`, given those before each; `from` is at least 1.
    Likelihood {
        /// The text.
        tokens: Vec<u32>,
        /// The first token that counts.
        from: usize,
    },
    /// The most likely of some continuations.
    Choice {
        /// The continuations, each after a context of its own.
        choices: Vec<Choice>,
        /// The right one.
        gold: usize,
    },
}

/// One continuation of a choice.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The tokens before it, at least one.
    pub prompt: Vec<u32>,
    /// Its tokens, at least one.
    pub continuation: Vec<u32>,
    /// Its length as a text, in bytes: what `acc_norm` of lm-evaluation-harness divides by.
    pub bytes: usize,
}

impl Sample {
    /// All tokens it may take, one sequence after another.
    pub(crate) fn sequences(&self) -> Vec<&[u32]> {
        match &self.ask {
            Ask::Answer { prompt, .. } => vec![prompt],
            Ask::Likelihood { tokens, .. } => vec![tokens],
            Ask::Choice { choices, .. } => choices
                .iter()
                .flat_map(|choice| [&*choice.prompt, &*choice.continuation])
                .collect(),
        }
    }

    /// A fingerprint of the tokens and how they are asked, 16 hexadecimal digits.
    pub fn prompt_hash(&self) -> String {
        let mut hash = Sha256::new();
        for tokens in self.sequences() {
            hash.update((tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        match &self.ask {
            Ask::Answer {
                max_tokens,
                expected,
                stop,
                ..
            } => hash.update(format!("{max_tokens} {stop:?} {expected:?}")),
            Ask::Likelihood { from, .. } => hash.update(from.to_string()),
            Ask::Choice { gold, .. } => hash.update(gold.to_string()),
        }
        hex(&hash.finalize()[..8])
    }
}

/// A fingerprint of a list of samples.
pub(crate) fn digest(samples: &[Sample]) -> String {
    let mut hash = Sha256::new();
    for sample in samples {
        hash.update(format!("{}\0{}\0", sample.id, sample.prompt_hash()));
    }
    hex(&hash.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Part `index` (from 1) of `count`, as in `--shard 2/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Shard {
    /// Everything in one part.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// What lies in this part: neighbours stay together, because they share prefixes, and the
    /// parts cost about the same.
    pub(crate) fn range(self, costs: &[f64]) -> std::ops::Range<usize> {
        let total: f64 = costs.iter().sum();
        let cut = |part: usize| {
            if part == 0 || part == self.count {
                return costs.len() * (part / self.count);
            }
            let limit = total * part as f64 / self.count as f64;
            let mut sum = 0.0;
            // The middle of a sample decides to which part it belongs.
            let before = costs.iter().take_while(|cost| {
                sum += **cost;
                sum - **cost / 2.0 <= limit
            });
            before.count()
        };
        cut(self.index - 1)..cut(self.index)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not of the form 2/4");
        let (index, count) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let (index, count) = (number(index)?, number(count)?);
        if index == 0 || index > count {
            return Err(format!("the part must lie between 1 and {count}"));
        }
        Ok(Self { index, count })
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shards_cover_every_sample_once(
            costs in prop::collection::vec(0.0f64..100.0, 0..60),
            count in 1usize..9,
        ) {
            let mut next = 0;
            for index in 1..=count {
                let range = Shard { index, count }.range(&costs);
                prop_assert_eq!(range.start, next);
                next = range.end;
            }
            prop_assert_eq!(next, costs.len());
        }
    }

    #[test]
    fn shards_are_read_and_even() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for bad in ["", "0/2", "3/2", "1", "a/b"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        // One sample as dear as the other four together.
        let costs = [1.0, 1.0, 1.0, 1.0, 4.0];
        assert_eq!(Shard { index: 1, count: 2 }.range(&costs), 0..4);
    }
}

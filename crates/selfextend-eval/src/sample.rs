//! What a model is asked: samples, made by tasks and run by an [`Evaluation`](crate::Evaluation).

use selfextend::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a sample is about, for tables and pictures: `length`, `depth`, `task`, ...
pub type Tags = BTreeMap<String, Value>;

/// From an answer to a score between 0 and 1.
pub type Score = Box<dyn Fn(&str) -> f64 + Send + Sync>;

/// One question with its tokens and its scoring.
pub struct Sample {
    /// Its name, unique within its task.
    pub id: String,
    /// What it is about.
    pub tags: Tags,
    /// Tokens its session must hold, answer included. Methods that depend on the context are given
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
        /// Texts that end an answer and do not belong to it.
        stop: Vec<String>,
        /// The right answers, for the record.
        expected: Vec<String>,
        /// The right answer, where it can be told word for word: how likely it is after the prompt
        /// is measured beside what is generated. Empty elsewhere.
        answer: RightAnswer,
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

/// The tokens of a right answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RightAnswer {
    /// The words between the prompt and the answer, which a prompt cannot begin with where the answer
    /// is also generated. They are told, and do not count.
    pub lead: Vec<u32>,
    /// The tokens that count.
    pub tokens: Vec<u32>,
}

impl From<Vec<u32>> for RightAnswer {
    fn from(tokens: Vec<u32>) -> Self {
        Self {
            lead: Vec::new(),
            tokens,
        }
    }
}

impl RightAnswer {
    /// How many tokens are told.
    pub(crate) fn len(&self) -> usize {
        self.lead.len() + self.tokens.len()
    }
}

/// One continuation of a choice.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The tokens before it, at least one.
    pub prompt: Vec<u32>,
    /// Its tokens, at least one.
    pub continuation: Vec<u32>,
    /// Its length as a text in characters, without the space before it: what `acc_norm` of
    /// lm-evaluation-harness divides by.
    pub characters: usize,
    /// The same in bytes: what its `acc_bytes` divides by.
    pub bytes: usize,
}

/// Tokens that a session reads for a sample.
pub(crate) struct Passage<'a> {
    pub(crate) tokens: &'a [u32],
    /// Whether it is a prefix from the start of the session, which other samples may share.
    pub(crate) is_shared: bool,
}

impl Sample {
    /// What a method is asked; empty where the sample is not a question.
    pub(crate) fn prompt(&self, method: &Method) -> &[u32] {
        match &self.ask {
            Ask::Answer {
                without_extension: Some(prompt),
                ..
            } if *method == Method::plain() => prompt,
            Ask::Answer { prompt, .. } => prompt,
            _ => &[],
        }
    }

    /// The tokens a method is not shown because they do not fit without extension.
    pub(crate) fn cut(&self, method: &Method) -> usize {
        match &self.ask {
            Ask::Answer { prompt, .. } => prompt.len() - self.prompt(method).len(),
            _ => 0,
        }
    }

    /// All that is read for the sample under a method, at least one passage.
    pub(crate) fn passages(&self, method: &Method) -> Vec<Passage<'_>> {
        fn passage(tokens: &[u32], is_shared: bool) -> Passage<'_> {
            Passage { tokens, is_shared }
        }
        match &self.ask {
            Ask::Answer { .. } => vec![passage(self.prompt(method), true)],
            Ask::Likelihood { tokens, from } => {
                let (seen, scored) = tokens[..tokens.len() - 1].split_at(from - 1);
                vec![passage(seen, true), passage(scored, false)]
            }
            Ask::Choice { choices, .. } => {
                let mut passages = Vec::new();
                for choice in choices {
                    let body = &choice.prompt[..choice.prompt.len().saturating_sub(1)];
                    passages.push(passage(body, true));
                    passages.push(passage(&choice.continuation, false));
                }
                passages
            }
        }
    }

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

    /// A fingerprint of the tokens, the context and how they are asked, 16 hexadecimal digits.
    pub fn prompt_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.context as u64).to_le_bytes());
        for tokens in self.sequences() {
            hash.update((tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        match &self.ask {
            Ask::Answer {
                max_tokens,
                expected,
                stop,
                answer,
                ..
            } => {
                let tokens = &answer.tokens;
                hash.update(format!("{max_tokens} {stop:?} {expected:?} {tokens:?}"));
                // Results from before there were such words stay valid.
                if !answer.lead.is_empty() {
                    hash.update(format!(" after {:?}", answer.lead));
                }
            }
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

//! What is recorded of an evaluation: a header, and a record for each sample and method.

use crate::sample::{Sample, Tags};
use crate::shard::Shard;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Positions in a block of a likelihood: what bootstrap intervals draw from, and the finest
/// resolution of a curve.
pub const LIKELIHOOD_BLOCK: usize = 256;

/// The first line of a results file: everything that must be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the file format.
    pub selfextend_eval: u32,
    /// The version of this crate.
    pub version: String,
    /// The task.
    pub task: String,
    /// The fingerprint of the model's contents: [`selfextend::fingerprint`].
    pub model: String,
    /// The task's settings, and those of the sessions and the machine that change numbers.
    pub settings: Map<String, Value>,
    /// The methods, in the order in which they run.
    pub methods: Vec<String>,
    /// The number of samples, of all shards together.
    pub samples: usize,
    /// A fingerprint of all samples.
    pub digest: String,
    /// Which part of the results the file holds.
    pub shard: Shard,
}

impl Header {
    /// The version of the file format.
    pub(crate) const FORMAT: u32 = 2;

    /// The first difference from another header, in words.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let (Ok(ours), Ok(theirs)) = (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Some("header".into());
        };
        let flat = |value: &Value| {
            let mut all = value.as_object().cloned().unwrap_or_default();
            if let Some(Value::Object(settings)) = all.remove("settings") {
                all.extend(settings);
            }
            all
        };
        let (ours, theirs) = (flat(&ours), flat(&theirs));
        let keys = ours.keys().chain(theirs.keys());
        // The fingerprint of the samples follows from the settings: it is named only where nothing
        // else differs.
        let mut keys: Vec<_> = keys
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .collect();
        keys.sort_by_key(|key| (*key != "model", *key == "digest", *key == "samples"));
        let key = keys.first()?;
        let show = |map: &Map<String, Value>| {
            map.get(*key)
                .map_or("nothing".into(), |value| value.to_string())
        };
        Some(format!("{key} was {}, is {}", show(&ours), show(&theirs)))
    }
}

/// The result of one sample under one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sample's place among all samples of the task.
    pub index: usize,
    /// The sample.
    pub id: String,
    /// The method.
    pub method: String,
    /// What the sample is about.
    pub tags: Tags,
    /// Fingerprint of its tokens.
    pub prompt_hash: String,
    /// Its tokens, without the answer.
    pub tokens: usize,
    /// Tokens cut out of its middle because they do not fit without extension.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// Tokens that were computed: those that the prefix of an earlier sample did not provide.
    pub read: usize,
    /// Seconds to compute them.
    pub prefill_s: f64,
    /// Seconds to generate the answer.
    pub decode_s: f64,
    /// Bytes of keys and values at the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_bytes: usize,
    /// The most memory in bytes the process held meanwhile, weights included, where the system
    /// reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<usize>,
    /// What was measured.
    pub outcome: Outcome,
}

impl Record {
    /// A record of a sample that has not run.
    pub(crate) fn empty(sample: &Sample, index: usize, method: &str) -> Self {
        Self {
            index,
            id: sample.id.clone(),
            method: method.into(),
            tags: sample.tags.clone(),
            prompt_hash: sample.prompt_hash(),
            tokens: 0,
            cut: 0,
            read: 0,
            prefill_s: 0.0,
            decode_s: 0.0,
            cache_bytes: 0,
            peak_bytes: None,
            outcome: Outcome::Unreachable {
                reason: String::new(),
            },
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer as a text.
    Answer {
        /// The text.
        text: String,
        /// Its tokens.
        tokens: usize,
        /// The right answers.
        expected: Vec<String>,
        /// Between 0 and 1.
        score: f64,
        /// How likely the right answer was, where it can be told word for word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        told: Option<Told>,
    },
    /// Negative log-likelihoods of a text.
    Likelihood {
        /// Position of the first token that counts.
        from: usize,
        /// Tokens that count.
        count: usize,
        /// Their summed negative log-likelihood.
        nll: f64,
        /// Positions in a block: block `b` holds the positions `p` with `p / block == b`.
        block: usize,
        /// Tokens and summed negative log-likelihood of each block, from position 0.
        blocks: Vec<(usize, f64)>,
    },
    /// Log-likelihoods of continuations.
    Choice {
        /// The right one.
        gold: usize,
        /// Of each continuation.
        choices: Vec<ChoiceOutcome>,
    },
    /// The method cannot reach the sample's context; only in runs that allow this.
    Unreachable {
        /// Why.
        reason: String,
    },
}

/// How likely the right answer is when it is told token by token, each after the right ones before
/// it. What a model generates also depends on how it likes to begin a sentence; this does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its tokens.
    pub tokens: usize,
    /// Their summed negative log-likelihood.
    pub nll: f64,
    /// How many of them are the most probable one.
    pub top: usize,
    /// The first that is not, from 0: where greedy decoding leaves the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<usize>,
}

/// How likely a continuation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceOutcome {
    /// Summed log-likelihood.
    pub log_likelihood: f64,
    /// Its length in characters, without the space before it.
    pub characters: usize,
    /// The same in bytes.
    pub bytes: usize,
    /// Whether each of its tokens is the most probable one.
    pub greedy: bool,
}

impl Outcome {
    /// Whether every number is one.
    pub(crate) fn is_finite(&self) -> bool {
        match self {
            Self::Answer { score, told, .. } => {
                score.is_finite() && told.as_ref().is_none_or(|told| told.nll.is_finite())
            }
            Self::Likelihood { nll, blocks, .. } => {
                nll.is_finite() && blocks.iter().all(|(_, nll)| nll.is_finite())
            }
            Self::Choice { choices, .. } => choices.iter().all(|it| it.log_likelihood.is_finite()),
            Self::Unreachable { .. } => true,
        }
    }

    /// The score of an answer, or whether the most likely continuation is the right one; for a
    /// single continuation, whether greedy decoding gives it.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Answer { score, .. } => Some(*score),
            Self::Choice { choices, .. } if choices.len() == 1 => {
                Some(f64::from(u8::from(choices[0].greedy)))
            }
            Self::Choice { .. } => self.pick(|choice| choice.log_likelihood),
            _ => None,
        }
    }

    /// As [`score`](Self::score), with log-likelihoods divided by the continuation's characters:
    /// `acc_norm` of lm-evaluation-harness.
    pub fn score_by_character(&self) -> Option<f64> {
        self.score_by(|choice| choice.characters)
    }

    /// As [`score`](Self::score), with log-likelihoods divided by the continuation's bytes:
    /// `acc_bytes` of lm-evaluation-harness.
    pub fn score_by_byte(&self) -> Option<f64> {
        self.score_by(|choice| choice.bytes)
    }

    fn score_by(&self, length: impl Fn(&ChoiceOutcome) -> usize) -> Option<f64> {
        match self {
            Self::Choice { choices, .. } if choices.len() > 1 => {
                self.pick(|choice| choice.log_likelihood / length(choice) as f64)
            }
            _ => None,
        }
    }

    fn pick(&self, value: impl Fn(&ChoiceOutcome) -> f64) -> Option<f64> {
        let Self::Choice { gold, choices } = self else {
            return None;
        };
        // The first of equals, as in numpy's argmax.
        let best = (0..choices.len()).reduce(|best, n| {
            if value(&choices[n]) > value(&choices[best]) {
                n
            } else {
                best
            }
        })?;
        Some(f64::from(u8::from(best == *gold)))
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

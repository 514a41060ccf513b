//! From records to numbers with intervals.

use crate::metrics::{self, Interval, Summary, bootstrap_perplexity};
use crate::record::{Outcome, Record, Told};
use std::collections::BTreeMap;

/// A method's perplexity at a length.
pub(super) struct Perplexity {
    pub(super) texts: usize,
    pub(super) tokens: usize,
    pub(super) value: f64,
    pub(super) interval: Interval,
    pub(super) tokens_per_second: f64,
}

/// The perplexity of the texts among some records; `None` without any.
pub(super) fn perplexity(records: &[&Record]) -> Option<Perplexity> {
    let mut blocks: Vec<(usize, f64)> = Vec::new();
    let (mut read, mut seconds, mut texts) = (0, 0.0, 0);
    for record in records {
        if let Outcome::Likelihood { blocks: some, .. } = &record.outcome {
            blocks.extend(some.iter().filter(|(count, _)| *count > 0));
            read += record.read;
            seconds += record.prefill_s;
            texts += 1;
        }
    }
    let tokens = blocks.iter().map(|(count, _)| count).sum();
    (tokens > 0).then(|| Perplexity {
        texts,
        tokens,
        value: metrics::perplexity(&blocks),
        interval: bootstrap_perplexity(&blocks),
        tokens_per_second: read as f64 / f64::max(seconds, 1e-9),
    })
}

/// The mean score of some records; `None` without any. Its interval resamples what was chosen (the
/// lengths, depths and wordings of a question), not the keys of one choice, which differ little.
pub(super) fn summary(records: &[&Record]) -> Option<Summary> {
    let mut cells: Vec<(String, Vec<f64>)> = Vec::new();
    let mut count = 0;
    for record in records {
        let Some(score) = record.outcome.score() else {
            continue;
        };
        count += 1;
        let cell = match record.tags.contains_key("depth") {
            true => choice(record),
            false => count.to_string(),
        };
        match cells.iter_mut().find(|(name, _)| *name == cell) {
            Some((_, scores)) => scores.push(score),
            None => cells.push((cell, vec![score])),
        }
    }
    let mean = |scores: &Vec<f64>| scores.iter().sum::<f64>() / scores.len() as f64;
    let means: Vec<f64> = cells.iter().map(|(_, scores)| mean(scores)).collect();
    Some(Summary {
        count,
        ..Summary::of(&means)?
    })
}

/// What was chosen for a sample: its tags but for those that are drawn.
fn choice(record: &Record) -> String {
    let drawn = ["trial", "position"];
    let tags = record.tags.iter();
    let chosen = tags.filter(|(tag, _)| !drawn.contains(&tag.as_str()));
    chosen
        .map(|(tag, value)| format!("{tag}={value} "))
        .collect()
}

/// How likely right answers were when they were told.
pub(super) struct Telling {
    pub(super) count: usize,
    /// Negative log-likelihood of a token.
    pub(super) nats: f64,
    /// Share of tokens that are the most probable one.
    pub(super) top: f64,
    /// Share of answers of which every token is.
    pub(super) whole: f64,
    /// Where most of the others are left, from 0, and the share of all answers that are left there.
    pub(super) left: Option<(usize, f64)>,
}

/// How likely the right answers of some records were; `None` where none was told.
pub(super) fn telling(records: &[&Record]) -> Option<Telling> {
    let told: Vec<&Told> = records
        .iter()
        .filter_map(|record| match &record.outcome {
            Outcome::Answer { told, .. } => told.as_ref(),
            _ => None,
        })
        .collect();
    let tokens: usize = told.iter().map(|told| told.tokens).sum();
    if tokens == 0 {
        return None;
    }
    let (count, tokens) = (told.len(), tokens as f64);
    let share = |number: usize| number as f64 / count as f64;
    let mut left: BTreeMap<usize, usize> = BTreeMap::new();
    for at in told.iter().filter_map(|told| told.left_at) {
        *left.entry(at).or_default() += 1;
    }
    // The first of equals.
    let most = left.into_iter().rev().max_by_key(|(_, answers)| *answers);
    Some(Telling {
        count,
        nats: told.iter().map(|told| told.nll).sum::<f64>() / tokens,
        top: told.iter().map(|told| told.top).sum::<usize>() as f64 / tokens,
        whole: share(told.iter().filter(|told| told.left_at.is_none()).count()),
        left: most.map(|(at, answers)| (at, share(answers))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::wilson;
    use serde_json::json;

    fn record(depth: f64, trial: usize, score: f64, left_at: Option<usize>) -> Record {
        serde_json::from_value(json!({
            "index": 0, "id": "", "method": "plain", "prompt_hash": "", "tokens": 0, "read": 0,
            "prefill_s": 0.0, "decode_s": 0.0,
            "tags": {"depth": depth, "trial": trial, "position": 10 * trial},
            "outcome": {"answer": {
                "text": "", "tokens": 1, "expected": [], "score": score,
                "told": {"tokens": 5, "nll": 1.0, "top": left_at.map_or(5, |_| 4),
                         "left_at": left_at},
            }},
        }))
        .unwrap()
    }

    /// Ten keys at one depth are one choice: they do not make an interval narrow.
    #[test]
    fn intervals_are_those_of_choices() {
        let all: Vec<Record> = (0..20)
            .map(|n| record([0.1, 0.9][n % 2], n, 1.0, None))
            .collect();
        let found = summary(&all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((found.count, found.mean), (20, 1.0));
        assert_eq!(found.interval, wilson(2.0, 2));
    }

    #[test]
    fn answers_are_left_where_most_are() {
        let left = [None, Some(0), Some(0), Some(3)];
        let all = left.map(|left_at| record(0.5, 0, 0.0, left_at));
        let found = telling(&all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((found.count, found.nats, found.whole), (4, 0.2, 0.25));
        assert_eq!((found.top, found.left), (0.85, Some((0, 0.5))));
        assert!(telling(&[]).is_none());
    }
}

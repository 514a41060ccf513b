//! From records to numbers with intervals.

use crate::metrics::{self, Interval, Summary, bootstrap_perplexity};
use crate::record::{Outcome, Record};

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

/// The mean score of some records; `None` without any.
pub(super) fn summary(records: &[&Record]) -> Option<Summary> {
    let scores: Vec<f64> = records
        .iter()
        .filter_map(|record| record.outcome.score())
        .collect();
    Summary::of(&scores)
}

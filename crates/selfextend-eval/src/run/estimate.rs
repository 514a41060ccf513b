//! What a run will cost, before it starts.

use super::evaluation::Evaluation;
use super::reader::first_new;
use super::schedule::{Turn, schedule, session_key};
use crate::cost::Speed;
use crate::record::Record;
use crate::sample::Ask;
use std::collections::HashSet;

/// What is left to do, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Estimate {
    /// Results of this run, those of other shards not counted.
    pub results: usize,
    /// Of these, how many exist already.
    pub done: usize,
    /// Tokens to prefill.
    pub tokens: usize,
    /// Tokens to prefill if no prefix were shared.
    pub tokens_unshared: usize,
    /// The most tokens to generate.
    pub answer_tokens: usize,
    /// Operations; those of decode steps count as many times as they take longer.
    pub operations: f64,
    /// Seconds on this machine, from a short measurement.
    pub seconds: f64,
}

/// The results that exist, as pairs of a method and a sample's place.
pub(super) fn finished(done: &[Record]) -> HashSet<(&str, usize)> {
    let done = done.iter();
    done.map(|record| (&*record.method, record.index)).collect()
}

/// Goes through the schedule without computing anything.
pub(super) fn estimate(
    evaluation: &Evaluation,
    done: &HashSet<(&str, usize)>,
    speed: Speed,
) -> Estimate {
    let mut total = Estimate::default();
    let methods = evaluation.methods.iter();
    for (method, turns) in methods.zip(schedule(evaluation, speed)) {
        let name = method.to_string();
        let mut open: (String, &[u32]) = (String::new(), &[]);
        for Turn { index, session } in turns {
            total.results += 1;
            if done.contains(&(&*name, index)) {
                total.done += 1;
                continue;
            }
            let Ok(options) = session else {
                continue;
            };
            let key = session_key(evaluation, &options);
            if key != open.0 || !evaluation.share {
                open = (key, &[]);
            }
            let sample = &evaluation.samples[index];
            for passage in sample.passages(method) {
                let (tokens, mut start) = (passage.tokens, 0);
                if passage.is_shared {
                    start = first_new(open.1, tokens);
                    open.1 = tokens;
                }
                total.tokens += tokens.len() - start;
                total.tokens_unshared += tokens.len();
                total.operations += speed.prefill_operations(start..tokens.len());
            }
            if let Ask::Answer { max_tokens, .. } = &sample.ask {
                total.answer_tokens += max_tokens;
                let prompt = sample.prompt(method).len();
                total.operations += speed.decode_operations(prompt..prompt + max_tokens);
            }
        }
    }
    total.seconds = speed.seconds(total.operations);
    total
}

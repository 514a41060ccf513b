//! The order in which samples run: the one that computes least, cut into shards.

use super::evaluation::Evaluation;
use crate::cost::Speed;
use crate::error::Result;
use selfextend::{Method, SessionOptions};

/// A sample in the order of a run.
pub(super) struct Turn {
    /// Its place among the samples.
    pub(super) index: usize,
    /// How its session runs, or why the method cannot reach its context.
    pub(super) session: Result<SessionOptions>,
}

/// The samples of this shard under each method, in the order in which they run. A shard is a
/// contiguous part of all pairs, method by method.
pub(super) fn schedule(evaluation: &Evaluation, speed: Speed) -> Vec<Vec<Turn>> {
    let methods = evaluation.methods.iter();
    let mut ordered: Vec<_> = methods.map(|method| order(evaluation, method)).collect();
    let operations = |turn: &Turn| -> f64 {
        let sequences = evaluation.samples[turn.index].sequences();
        let sequences = sequences.iter();
        sequences
            .map(|tokens| speed.prefill_operations(0..tokens.len()))
            .sum()
    };
    let costs: Vec<f64> = ordered.iter().flatten().map(operations).collect();
    let ours = evaluation.shard.range(&costs);
    let samples = evaluation.samples.len();
    for (number, turns) in ordered.iter_mut().enumerate() {
        let inside = |pair: usize| pair.saturating_sub(number * samples).min(samples);
        turns.truncate(inside(ours.end));
        turns.drain(..inside(ours.start).min(turns.len()));
    }
    ordered
}

/// All samples in the order that computes least: those of one session after another, sorted by
/// their tokens. That walks the tree of all prompts branch by branch, so that what prompts have in
/// common, whatever their lengths, is computed once. The longest sample of a session says how much
/// the session must hold. (The order is the same where nothing is shared: the pairs of a shard do
/// not depend on it.)
fn order(evaluation: &Evaluation, method: &Method) -> Vec<Turn> {
    let samples = &evaluation.samples;
    let turn = |(index, sample)| Turn {
        index,
        session: evaluation.options(method, sample),
    };
    let mut sessions: Vec<(String, usize, Vec<Turn>)> = Vec::new();
    for turn in samples.iter().enumerate().map(turn) {
        let (key, context) = match &turn.session {
            Ok(options) => (
                session_key(evaluation, options),
                options.extension.context(),
            ),
            Err(_) => (String::new(), 0),
        };
        match sessions.iter_mut().find(|(ours, ..)| *ours == key) {
            Some((_, most, turns)) => {
                *most = context.max(*most);
                turns.push(turn);
            }
            None => sessions.push((key, context, vec![turn])),
        }
    }
    let sessions = sessions.into_iter().flat_map(|(_, context, mut turns)| {
        let first = |turn: &Turn| samples[turn.index].passages(method)[0].tokens;
        turns.sort_by(|a, b| first(a).cmp(first(b)));
        turns.into_iter().map(move |mut turn| {
            if let Ok(options) = &mut turn.session {
                options.extension = options.extension.clone().with_context(context);
            }
            turn
        })
    });
    sessions.collect()
}

/// What sessions have in common that compute the same from the same tokens. Where lengths share
/// prefixes, the number of tokens they may hold is no part of it, except that a model with two
/// rotary embeddings (longrope) selects one by it.
pub(super) fn session_key(evaluation: &Evaluation, options: &SessionOptions) -> String {
    let mut options = options.clone();
    let context = options.extension.context();
    let short = evaluation.model.model.config().short_rope.as_ref();
    let is_short = short.is_some_and(|(most, _)| context <= *most);
    if evaluation.share_lengths {
        options.extension = options.extension.with_context(0);
    }
    format!("{is_short} {options:?}")
}

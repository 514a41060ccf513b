//! What handlers ask of the scheduler.

use super::channel::EventSender;
use super::event::{Admitted, Failure};
use crate::constrain::Constraint;
use crate::ladder::Rung;
use selfextend::GenerateOptions;
use std::time::Instant;

/// A prompt and how to continue it.
#[derive(Debug)]
pub struct Request {
    /// Identifies it in the log.
    pub id: String,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// The number of the ladder's rung that it runs under.
    pub rung: usize,
    /// The number of its first answer among those of the client's request.
    pub first_choice: usize,
    /// The number of answers; the seed of answer `n` is the request's plus `n`.
    pub choices: usize,
    /// How tokens are chosen, and when to end.
    pub options: GenerateOptions,
    /// Report the probability of each token and of this many of the most probable ones.
    pub logprobs: Option<usize>,
    /// Report the same for the tokens of the prompt, the first one excepted. Nothing of the prompt is
    /// then taken from the prefix cache, which has no probabilities.
    pub prompt_logprobs: Option<usize>,
    /// The grammar that the answers must follow.
    pub constraint: Option<Constraint>,
    /// When it arrived.
    pub arrived: Instant,
    /// When it must be done.
    pub deadline: Instant,
    /// Receives what happens. Closing the channel cancels the request.
    pub events: EventSender,
}

impl Request {
    /// Counts the request, now admitted, in the metrics and writes it to the log.
    pub(super) fn log_admission(&self, admitted: Admitted, rung: &Rung) {
        let Admitted {
            cached_tokens,
            reread_tokens,
        } = admitted;
        metrics::counter!("selfextend_prompt_tokens_total").increment(self.prompt.len() as u64);
        metrics::counter!("selfextend_cached_tokens_total").increment(cached_tokens as u64);
        if rung.extends() {
            metrics::counter!("selfextend_extended_requests_total").increment(1);
        }
        tracing::info!(
            request = self.id,
            prompt_tokens = self.prompt.len(),
            cached_tokens,
            group_size = rung.group_size,
            neighbor_window = rung.neighbor_window,
            waited_ms = self.arrived.elapsed().as_millis() as u64,
            "admitted"
        );
        if reread_tokens > 0 {
            tracing::info!(
                request = self.id,
                reread_tokens,
                group_size = rung.group_size,
                "the conversation outgrew its rung: its prefix is read again under the next map"
            );
        }
    }

    /// That it missed its deadline.
    pub(super) fn timed_out(&self) -> Failure {
        Failure::Timeout(self.deadline.duration_since(self.arrived).as_secs())
    }
}

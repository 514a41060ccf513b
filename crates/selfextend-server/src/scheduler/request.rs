//! What handlers ask of the scheduler, and what it tells them.

use crate::constrain::Constraint;
use crate::ladder::Rung;
use selfextend::{Finish, GenerateOptions};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Fewer tokens that are read again are not reported.
const LEAST_REREAD: usize = 32;

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
    /// The grammar that the answers must follow.
    pub constraint: Option<Constraint>,
    /// When it arrived.
    pub arrived: Instant,
    /// When it must be done.
    pub deadline: Instant,
    /// Receives what happens. Closing the channel cancels the request.
    pub events: UnboundedSender<Event>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Event {
    /// It starts to run.
    Admitted(Admitted),
    /// An answer continues.
    Text(Piece),
    /// An answer ended.
    Finished {
        /// Which one.
        choice: usize,
        /// Why.
        finish: Finish,
    },
    /// All answers ended.
    Done {
        /// Tokens generated in all of them, end tokens included.
        completion_tokens: usize,
    },
    /// It failed.
    Failed(Failure),
}

/// How a request was admitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Admitted {
    /// Prompt tokens whose keys were in the prefix cache.
    pub cached_tokens: usize,
    /// Prompt tokens that were in the cache under the map of another rung and are read again: the
    /// conversation outgrew its rung.
    pub reread_tokens: usize,
}

impl Admitted {
    /// For a prompt of so many tokens, of which some are cached and some are held under another rung.
    /// The latter are reported only where they are too many to be a system prompt that conversations
    /// have in common.
    pub(super) fn new(prompt: usize, cached_tokens: usize, elsewhere: usize) -> Self {
        let reread = elsewhere.saturating_sub(cached_tokens);
        let many = reread >= LEAST_REREAD.max(prompt / 8);
        Self {
            cached_tokens,
            reread_tokens: if many { reread } else { 0 },
        }
    }

    /// Counts the request in the metrics and writes it to the log.
    pub(super) fn log(self, request: &Request, rung: &Rung) {
        let Self {
            cached_tokens,
            reread_tokens,
        } = self;
        metrics::counter!("selfextend_prompt_tokens_total").increment(request.prompt.len() as u64);
        metrics::counter!("selfextend_cached_tokens_total").increment(cached_tokens as u64);
        if rung.extends() {
            metrics::counter!("selfextend_extended_requests_total").increment(1);
        }
        tracing::info!(
            request = request.id,
            prompt_tokens = request.prompt.len(),
            cached_tokens,
            group_size = rung.group_size,
            neighbor_window = rung.neighbor_window,
            waited_ms = request.arrived.elapsed().as_millis() as u64,
            "admitted"
        );
        if reread_tokens > 0 {
            tracing::info!(
                request = request.id,
                reread_tokens,
                group_size = rung.group_size,
                "the conversation outgrew its rung: its prefix is read again under the next map"
            );
        }
    }
}

/// A part of an answer.
#[derive(Debug)]
pub struct Piece {
    /// Which answer.
    pub choice: usize,
    /// Text that is complete: no half character, no start of a stop text. May be empty.
    pub text: String,
    /// The token's probability, where it was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// A token's probability and those of the most probable tokens.
#[derive(Debug, Clone)]
pub struct TokenLogprob {
    /// The token drawn.
    pub token: u32,
    /// Natural logarithm of its probability before any sampling setting.
    pub logprob: f64,
    /// The most probable tokens, in descending order.
    pub top: Vec<(u32, f64)>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many requests wait already.
    #[error("{queued} requests are waiting already; try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// Requests that wait.
        queued: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// It needs more than all memory for keys and values.
    #[error(
        "the request needs {needed} bytes of KV memory, but the server has {budget}; shorten the prompt, or lower max_tokens or n"
    )]
    TooLarge {
        /// Bytes it needs.
        needed: usize,
        /// The server's budget.
        budget: usize,
    },
    /// The device has less memory left than the budget says.
    #[error(
        "the device has no memory left for the request ({reason}); try again in {} s",
        retry_after.as_secs()
    )]
    NoMemory {
        /// What the device said.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// It took longer than a request may.
    #[error("the request was not finished within {0} s, the limit of this server")]
    Timeout(u64),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The engine failed.
    #[error("{0}")]
    Engine(String),
}

impl Failure {
    /// The scheduler's thread is gone.
    pub fn ended() -> Self {
        Self::Engine("the scheduler has ended; see the server's log".into())
    }

    /// A request missed its deadline.
    pub(super) fn timeout(request: &Request) -> Self {
        Self::Timeout(request.deadline.duration_since(request.arrived).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_elsewhere_alone_is_read_again() {
        let reread = |cached, elsewhere| Admitted::new(800, cached, elsewhere).reread_tokens;
        assert_eq!((reread(0, 0), reread(300, 300)), (0, 0));
        assert_eq!((reread(0, 99), reread(0, 100)), (0, 100));
        assert_eq!((reread(256, 700), reread(700, 256)), (444, 0));
        assert_eq!(Admitted::new(40, 0, 31).reread_tokens, 0);
    }
}

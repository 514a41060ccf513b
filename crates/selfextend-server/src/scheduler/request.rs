//! What handlers ask of the scheduler, and what it tells them.

use crate::constrain::Constraint;
use crate::ladder::Rung;
use selfextend::{Finish, GenerateOptions};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Fewer tokens read again are not worth a word.
const LEAST_REREAD: usize = 32;

/// A prompt to be continued.
#[derive(Debug)]
pub struct Request {
    /// Names it in the log.
    pub id: String,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// The step of the ladder it runs under.
    pub step: usize,
    /// The number of its first answer among those of the client's request.
    pub first_choice: usize,
    /// How many answers; the seed of answer `n` is the request's plus `n`.
    pub choices: usize,
    /// How tokens are chosen, and when to end.
    pub options: GenerateOptions,
    /// Report the probability of each token, and of so many most probable ones.
    pub logprobs: Option<usize>,
    /// What the answers must look like.
    pub constraint: Option<Constraint>,
    /// When it came.
    pub arrived: Instant,
    /// When it must be done.
    pub deadline: Instant,
    /// Where what happens is told. A closed channel cancels the request.
    pub events: UnboundedSender<Event>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Event {
    /// It runs.
    Admitted(Admitted),
    /// An answer grew.
    Text(Piece),
    /// An answer ended.
    Finished {
        /// Which one.
        choice: usize,
        /// Why.
        finish: Finish,
    },
    /// All answers ended: the tokens of all of them.
    Done {
        /// Tokens generated, end tokens included.
        completion_tokens: usize,
    },
    /// It came to nothing.
    Failed(Failure),
}

/// How a request was taken up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Admitted {
    /// Prompt tokens whose keys were in the prefix cache.
    pub cached_tokens: usize,
    /// Prompt tokens that were in the cache under the map of another step, and are read again:
    /// the conversation grew past a step.
    pub reread_tokens: usize,
}

impl Admitted {
    /// Of a prompt of so many tokens, of which some are cached and some are held under another step:
    /// those that are held there only count where they are too many to be a system prompt that
    /// conversations have in common.
    pub(super) fn new(prompt: usize, cached_tokens: usize, elsewhere: usize) -> Self {
        let reread = elsewhere.saturating_sub(cached_tokens);
        let many = reread >= LEAST_REREAD.max(prompt / 8);
        Self {
            cached_tokens,
            reread_tokens: if many { reread } else { 0 },
        }
    }

    /// Counts it, and tells the log.
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
                "the conversation grew past a step: its prefix is read again under the next map"
            );
        }
    }
}

/// A part of an answer.
#[derive(Debug)]
pub struct Piece {
    /// Which answer.
    pub choice: usize,
    /// Text that has become certain; may be empty.
    pub text: String,
    /// The token's probability, where it was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// A token's probability beside the most probable ones'.
#[derive(Debug, Clone)]
pub struct TokenLogprob {
    /// The token drawn.
    pub token: u32,
    /// Natural logarithm of its probability before any sampling setting.
    pub logprob: f64,
    /// The most probable tokens, in descending order.
    pub top: Vec<(u32, f64)>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many wait already.
    #[error("{queued} requests are waiting already: try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// Requests that wait.
        queued: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// Larger than all memory for keys and values.
    #[error(
        "the request needs {needed} bytes of KV memory, more than the {budget} there are: shorten the prompt, lower max_tokens or n, or start the server with a larger --kv-memory"
    )]
    TooLarge {
        /// Bytes it needs.
        needed: usize,
        /// The server's budget.
        budget: usize,
    },
    /// The device has less memory left than the budget says.
    #[error(
        "the device has no memory left for the request ({reason}): try again in {} s, or start the server with a smaller --kv-memory", retry_after.as_secs()
    )]
    NoMemory {
        /// What the device said.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// It took longer than a request may.
    #[error("the request was not done within {0} s, the most a request may take here")]
    Timeout(u64),
    /// The server is on its way out.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The engine failed.
    #[error("{0}")]
    Engine(String),
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

//! What the scheduler tells a request's client.

use selfextend::Finish;
use std::time::Duration;

/// Fewer tokens that are read again are not reported.
const LEAST_REREAD: usize = 32;

/// What happens to a request.
#[derive(Debug)]
pub enum Event {
    /// It starts to run.
    Admitted(Admitted),
    /// A prompt was read whose probabilities were asked for.
    Prompt {
        /// The first of its answers.
        first_choice: usize,
        /// Its tokens but the first.
        logprobs: Vec<TokenLogprob>,
    },
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
}

/// A part of an answer.
#[derive(Debug)]
pub struct Piece {
    /// Which answer.
    pub choice: usize,
    /// Text that is complete: no half character, no start of a stop text. May be empty.
    pub text: String,
    /// Tokens since the piece before.
    pub tokens: usize,
    /// The token's probability, where it was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// A token's probability and those of the most probable tokens.
#[derive(Debug, Clone)]
pub struct TokenLogprob {
    /// The token drawn.
    pub token: u32,
    /// Characters of the answer before the first one that it has a part in.
    pub at: usize,
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
    /// The prompt has no tokens.
    #[error("the prompt has no tokens: send some text")]
    Empty,
    /// A pass that the request was in panicked.
    #[error("the server failed while it computed this request; see its log")]
    Panicked,
    /// More of the answer is unread than the server keeps.
    #[error("the answer was ended: its client reads it too slowly")]
    SlowReader,
}

impl Failure {
    /// The scheduler's thread is gone.
    pub fn ended() -> Self {
        Self::Engine("the scheduler has ended; see the server's log".into())
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

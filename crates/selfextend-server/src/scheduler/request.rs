//! What handlers ask of the scheduler, and what it tells them.

use crate::constrain::Constraint;
use selfextend::{Finish, GenerateOptions};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

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

//! A server that extends the context window by itself: OpenAI-compatible, batched, cached.
//!
//! * [`ladder`]: which position map a request runs under.
//! * [`scheduler`]: which sequences run, and when, on one thread with a memory budget.
//! * [`prefix`]: prompts whose keys and values are kept.
//! * `api`: the routes, in OpenAI's shapes; `constrain`: answers that must be JSON.
//!
//! [`serve`] runs a server until the process is told to end; [`Server`] is the same for callers
//! with a runtime of their own.

mod api;
pub mod config;
mod constrain;
mod error;
pub mod ladder;
pub mod prefix;
pub mod scheduler;
mod server;

pub use config::{Config, HttpLimits};
pub use ladder::Ladder;
pub use server::{Server, ServerError, log_to_stderr, serve};

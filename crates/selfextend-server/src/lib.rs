//! A server with OpenAI's API that extends the context window by itself, with continuous batching
//! and a prefix cache.
//!
//! * [`serve`] runs a server until the process is told to end; [`Server`] is the same for callers
//!   with a runtime of their own.
//! * [`ServerConfig`] says how. [`Ladder`] says which position map a request runs under, by its
//!   length.
//!
//! Inside, from the sockets down: `server` accepts connections, `api` speaks HTTP and JSON,
//! `scheduler` decides on one thread which sequences run and when, within a memory budget, `prefix`
//! keeps the keys and values of prompts, in memory and on disk, and `constrain` holds answers to a
//! JSON schema.
//!
//! The feature `unstable` adds `readers`, for fuzzing.

mod api;
mod config;
mod constrain;
mod error;
mod ladder;
mod log;

mod prefix;
mod recorder;
mod scheduler;
mod server;
#[cfg(test)]
mod test_support;
mod tool_format;
mod write_deadline;

pub use config::{DiskCacheConfig, HttpLimits, SchedulerLimits, ServerConfig};
pub use error::ServerError;
pub use ladder::{Ladder, Rung};
pub use log::log_to_stderr;
pub use prefix::{CachedFile, DocumentCache, Passes, cached_files, most_read};
pub use scheduler::full_context_bytes;
pub use server::{Server, serve};
pub use tool_format::{ToolFormat, UnknownToolFormat};

/// Readers of what comes from outside, to be fuzzed.
#[cfg(feature = "unstable")]
pub mod readers {
    pub use crate::api::read_all as body;
    pub use crate::prefix::read_bytes as block_file;
}

//! Why a server cannot run.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server cannot run. Requests that fail are answered over HTTP instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Nothing can listen on the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address: [`ServerConfig::listen`](crate::ServerConfig::listen).
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// One sequence of the full context needs more than the budget.
    #[error(
        "a context of {context} tokens needs {needed} bytes for its keys and values, but the budget is {budget} bytes"
    )]
    KvMemory {
        /// The largest context in tokens.
        context: usize,
        /// Bytes it needs.
        needed: usize,
        /// The budget: [`SchedulerLimits::kv_memory`](crate::SchedulerLimits::kv_memory).
        budget: usize,
    },
    /// The directory for prefixes cannot be used.
    #[error("cannot keep prefixes in {dir}: {source}")]
    CacheDir {
        /// The directory: [`DiskCacheConfig::dir`](crate::DiskCacheConfig::dir).
        dir: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The runtime, a thread or the metrics cannot be started.
    #[error("cannot start the server: {0}")]
    Start(String),
    /// The engine refused the settings of a session.
    #[error(transparent)]
    Engine(#[from] selfextend::Error),
}

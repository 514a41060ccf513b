//! What a server is started with.

use crate::prefix::DiskCache;
use crate::scheduler;
use std::net::SocketAddr;
use std::time::Duration;

/// A server's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The name clients know the model by.
    pub model: String,
    /// What the scheduler may use.
    pub scheduler: scheduler::Limits,
    /// Tokens of an answer where the request does not say.
    pub default_max_tokens: usize,
    /// Keys of which every request but those for health must send one; empty for no keys.
    pub api_keys: Vec<String>,
    /// Where prefixes are kept across restarts.
    pub disk: Option<DiskCache>,
    /// Whether prompts and answers go to the log.
    pub log_prompts: bool,
    /// Limits on what clients send.
    pub http: HttpLimits,
    /// How long running requests may go on once the server is told to end.
    pub grace: Duration,
}

/// Limits on what clients send.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of the headers of a request.
    pub headers: usize,
    /// How long a request's headers may take, and how long a connection may idle between requests.
    pub header_time: Duration,
    /// How long a body may take.
    pub body_time: Duration,
    /// How long a request may wait and run.
    pub request_time: Duration,
    /// Open connections.
    pub connections: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            headers: 32 << 10,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            request_time: Duration::from_secs(3600),
            connections: 1024,
        }
    }
}

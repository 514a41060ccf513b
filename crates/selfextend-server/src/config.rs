//! What a server is started with: plain data, which the rest of the crate reads.

use crate::tool_format::ToolFormat;
use selfextend::speculate::DraftModel;
use selfextend::{DEFAULT_CHUNK, Sampling};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A server's settings. Start from [`ServerConfig::new`] and set the fields that differ.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The address to listen on; port 8080 of this machine by default, port 0 for any free one.
    pub listen: SocketAddr,
    /// The name clients know the model by.
    pub model: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Whether a request may name any model and is answered by this one.
    pub any_model: bool,
    /// What the scheduler may use.
    pub scheduler: SchedulerLimits,
    /// The longest answer in tokens where a request sets no limit of its own.
    pub default_max_tokens: usize,
    /// Whether a request for more tokens than there is room for gets as many as there is room for, and is
    /// told so in its usage; otherwise it is refused.
    pub clamp_max_tokens: bool,
    /// How tokens are drawn where a request does not say: by default as OpenAI's API does, at a
    /// temperature of 1.
    pub sampling: Sampling,
    /// Guess tokens from prompts and answers and verify some in one pass, where that is faster; the
    /// answers are the same ([`selfextend::speculate`]).
    pub speculate: bool,
    /// A small model that guesses tokens too, where that is faster. Its keys and values are part of
    /// [`kv_memory`](SchedulerLimits::kv_memory).
    pub draft: Option<DraftModel>,
    /// How the model writes calls of functions, where its chat template's text does not show it.
    pub tool_format: Option<ToolFormat>,
    /// How many responses of `/v1/responses` are kept, so that a request can continue them.
    pub kept_responses: usize,
    /// The accepted API keys. Every request must send one, except for `/`, `/health` and `/ready`;
    /// empty accepts requests without a key.
    pub api_keys: Vec<String>,
    /// Whether `/metrics` needs no key either.
    pub open_metrics: bool,
    /// Names under which clients may address the server, besides its addresses and `localhost`; `*`
    /// allows any, and with it DNS rebinding by web pages.
    pub allowed_hosts: Vec<String>,
    /// Origins, as `https://app.example`, whose web pages may use the server; `*` allows any.
    pub allowed_origins: Vec<String>,
    /// Where prefixes are kept across restarts, if anywhere.
    pub disk: Option<DiskCacheConfig>,
    /// Whether prompts are written to the log.
    pub log_prompts: bool,
    /// Limits on what clients send.
    pub http: HttpLimits,
    /// How long running requests may go on after the server was told to end.
    pub grace: Duration,
}

impl ServerConfig {
    /// The default settings for a model that clients know by this name.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            model: model.into(),
            aliases: Vec::new(),
            any_model: false,
            scheduler: SchedulerLimits::default(),
            default_max_tokens: 1024,
            clamp_max_tokens: true,
            sampling: Sampling::new().with_temperature(1.0),
            speculate: false,
            draft: None,
            tool_format: None,
            kept_responses: 256,
            api_keys: Vec::new(),
            open_metrics: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            disk: None,
            log_prompts: false,
            http: HttpLimits::default(),
            grace: Duration::from_secs(30),
        }
    }

    /// Whether the model is known by this name. Ollama's clients add `:latest` to names.
    pub fn answers_to(&self, name: &str) -> bool {
        let is = |name: &str| name == self.model || self.aliases.iter().any(|alias| alias == name);
        self.any_model || is(name) || name.strip_suffix(":latest").is_some_and(is)
    }
}

/// What the scheduler may use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SchedulerLimits {
    /// Bytes of keys and values, those of the prefix cache included.
    pub kv_memory: usize,
    /// Sequences that run at once.
    pub parallel: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Prompt tokens that one pass reads while no answer is generated.
    pub chunk: usize,
    /// Prompt tokens that one pass reads while answers are generated. It bounds how long a stream
    /// waits for its next token.
    pub busy_chunk: usize,
    /// What a further row of a decode step, and a draft model's pass, take of a step with one row, where
    /// that is known. By default both are measured.
    pub prices: Option<(f64, f64)>,
}

impl Default for SchedulerLimits {
    fn default() -> Self {
        Self {
            kv_memory: 1 << 30,
            parallel: 16,
            queue: 64,
            chunk: DEFAULT_CHUNK,
            busy_chunk: DEFAULT_CHUNK / 4,
            prices: None,
        }
    }
}

/// Limits on what clients send.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of the headers of a request.
    pub headers: usize,
    /// How long a request's headers may take, and how long a connection may idle between requests.
    pub header_time: Duration,
    /// How long a body may take.
    pub body_time: Duration,
    /// How long a request may take in all: the wait in the queue, reading and answering.
    pub request_time: Duration,
    /// How long a response may wait for a client that does not read it.
    pub write_time: Duration,
    /// Events of a streamed answer that may wait for a client that reads too slowly; about one for
    /// each token. A request with more is ended.
    pub unread: usize,
    /// Open connections.
    pub connections: usize,
    /// Bytes of large bodies that are received and not parsed yet, together.
    pub bodies: usize,
    /// Threads that parse and tokenise bodies.
    pub parsers: usize,
    /// How long a body may wait to be parsed, and be parsed.
    pub parse_time: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            headers: 32 << 10,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            request_time: Duration::from_secs(3600),
            write_time: Duration::from_secs(30),
            unread: 2048,
            connections: 1024,
            bodies: 64 << 20,
            parsers: 2,
            parse_time: Duration::from_secs(60),
        }
    }
}

/// Where blocks of prompts are kept across restarts, and which.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiskCacheConfig {
    /// The directory; it is created where it does not exist.
    pub dir: PathBuf,
    /// Identifies the model's weights: see [`selfextend::fingerprint`].
    pub model: String,
    /// Shorter prompts, in tokens, are not kept.
    pub least_tokens: usize,
    /// Bytes of all files together; the oldest are removed first.
    pub most_bytes: u64,
}

impl DiskCacheConfig {
    /// A cache of up to 4 GiB in a directory, for prompts of 1024 tokens and more.
    pub fn new(dir: impl Into<PathBuf>, model: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            model: model.into(),
            least_tokens: 1024,
            most_bytes: 4 << 30,
        }
    }
}

//! The grammar of `selfextend serve`.

use super::model::ModelArgs;
use super::values::{at_least_one, bytes, count};
use clap::Args;
use selfextend::settings::parse_tokens;
use selfextend_server::ToolFormat;
use std::net::IpAddr;
use std::path::PathBuf;

/// Serve OpenAI's API over HTTP.
///
/// A request that fits the trained window runs plain. A longer one runs under SelfExtend, for the
/// smallest of several contexts that fits it: 2, 4, ... times the trained window, up to --context.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend serve --context 32k --api-key-file keys.txt --host 0.0.0.0\n  selfextend serve --context 32k --port 8080\n  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
)]
pub struct ServeArgs {
    /// Address to listen on; by default only this machine can connect.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// Port to listen on; 0 for any free one.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub port: u16,
    /// The model's name for clients (repeatable; the first is the one that answers carry).
    /// [default: the name it was loaded by]
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Answer whatever model a request names, for clients with a hard-wired name.
    #[arg(long)]
    pub any_model: bool,
    /// Memory for keys and values, cached prefixes and those of --draft included, as 2g or 800m. [default: two
    /// sequences of full length, at least 1g]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub kv_memory: Option<usize>,
    /// Answers generated at the same time.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = at_least_one)]
    pub parallel: usize,
    /// Requests that may wait; more are refused with status 429.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = count)]
    pub queue: usize,
    /// The most tokens of an answer if the request does not say.
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Refuse a request for more tokens than there is room for. Otherwise it gets as many as there is
    /// room for, and its usage says so.
    #[arg(long)]
    pub refuse_max_tokens: bool,
    /// Where a request does not say how to sample, do as the model's generation_config.json or GGUF
    /// header recommends (`inspect` and /v1/models show it), not at temperature 1.
    #[arg(long)]
    pub recommended_sampling: bool,
    /// Guess tokens that stood in a prompt or its answer after the same words, and verify several in
    /// one pass, where that is faster; answers are the same (CPU only).
    #[arg(long)]
    pub speculate: bool,
    /// A small model with the same vocabulary, named as --model is, that guesses tokens too: several
    /// are verified in one pass, where that is faster; answers are the same (CPU only). It runs with
    /// --kv-type, --linear, --chunk and --threads, and its own window is extended where a prompt does not
    /// fit. Its keys and values are part of --kv-memory. With --speculate, the text is looked up first: the draft guesses where it is likelier to
    /// be right.
    #[arg(long, value_name = "NAME|PATH|ID")]
    pub draft: Option<String>,
    /// How the model writes calls of functions: hermes, qwen3-coder, llama3-json, pythonic, mistral,
    /// mistral-args or json. [default: as its chat template shows, hermes where it shows none]
    #[arg(long, value_name = "FORMAT")]
    pub tool_format: Option<ToolFormat>,
    /// How many responses of /v1/responses are kept in memory, for previous_response_id; 0 for none.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = count)]
    pub kept_responses: usize,
    /// Keep long prompts' keys and values in this directory across restarts.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The fewest tokens of a prompt that is kept there.
    #[arg(long, default_value = "1k", value_name = "N", value_parser = parse_tokens)]
    pub cache_least_tokens: usize,
    /// The most bytes of files there, as 4g.
    #[arg(long, default_value = "4g", value_name = "BYTES", value_parser = bytes)]
    pub cache_size: usize,
    /// A key that requests must send (repeatable).
    #[arg(
        long,
        value_name = "KEY",
        env = "SELFEXTEND_API_KEY",
        hide_env_values = true
    )]
    pub api_key: Vec<String>,
    /// A file of such keys, one per line.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Let /metrics be read without a key, as /health and /ready are.
    #[arg(long)]
    pub open_metrics: bool,
    /// A name under which clients reach the server, besides its addresses and localhost
    /// (repeatable, or separated by commas); `*` for any. Other names are refused, which protects
    /// from web pages that resolve their own name to this machine.
    #[arg(
        long,
        value_name = "NAME",
        env = "SELFEXTEND_ALLOW_HOST",
        value_delimiter = ','
    )]
    pub allow_host: Vec<String>,
    /// An origin whose web pages may use the server, as `https://app.example` (repeatable, or
    /// separated by commas); `*` for any.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "SELFEXTEND_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<String>,
    /// The largest request body, as 8m.
    #[arg(long, default_value = "8m", value_name = "BYTES", value_parser = bytes)]
    pub max_body: usize,
    /// Seconds a request may wait and run.
    #[arg(long, default_value_t = 3600, value_name = "S")]
    pub request_timeout: u64,
    /// Connections that may be open at once.
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = at_least_one)]
    pub max_connections: usize,
    /// Seconds that running requests get to finish on SIGTERM or Ctrl-C.
    #[arg(long, default_value_t = 30, value_name = "S")]
    pub grace: u64,
    /// Write prompts to the log.
    #[arg(long)]
    pub log_prompts: bool,
    /// Write the log as JSON.
    #[arg(long)]
    pub log_json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

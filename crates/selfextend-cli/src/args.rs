//! The command line's grammar, and nothing of what it does.

pub mod compare;
pub mod eval;
mod values;

use clap::{Args, Parser, Subcommand, ValueEnum};
use selfextend::hub::DEFAULT_MODEL;
use selfextend::settings::parse_tokens;
use selfextend::{DEFAULT_CHUNK, Device, KvType, Method, Sampling};
use std::net::IpAddr;
use std::path::PathBuf;
use values::{
    at_least_one, bytes, labelled, matrix_size, parse_method, parse_tried, tokens_at_least_one,
};

/// Run language models past the context window they were trained on, exactly, with no fine-tuning.
#[derive(Debug, Parser)]
#[command(name = "selfextend", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt, streamed to stdout.
    Run(RunArgs),
    /// Hold a conversation.
    Chat(ChatArgs),
    /// Show what a model file says, how far it can be extended, and the positions SelfExtend uses.
    Inspect(InspectArgs),
    /// Measure how well the model predicts each token of a text.
    Score(ScoreArgs),
    /// Draw perplexity by position from the output of `score`, as an SVG.
    Plot(PlotArgs),
    /// Measure prefill and decode speed and memory at several depths.
    Bench(BenchArgs),
    /// Hide a passkey in a long text and ask for it, with plain attention and with SelfExtend.
    Demo(DemoArgs),
    /// Rerun the paper's experiments, with tables and pictures.
    Eval(eval::EvalArgs),
    /// Serve OpenAI's API, extending the context by itself.
    Serve(ServeArgs),
    /// Fetch a model and print its path.
    Pull(PullArgs),
    /// Find the best settings of a method for a model, a context and a text.
    Tune(TuneArgs),
    /// Run every method over a row of lengths, on your text and on passkey, with tables and plots.
    Compare(compare::CompareArgs),
}

/// The model and how it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A .gguf file, a folder with safetensors, a known model's name, or owner/name[:file.gguf] of the Hugging Face hub;
    /// fetched on first use.
    #[arg(short, long, default_value = DEFAULT_MODEL, value_name = "NAME|PATH|ID")]
    pub model: String,
    /// Tokens of context, as 32768 or 32k. Beyond the trained window the settings of SelfExtend
    /// are chosen from it; a text that fits the trained window runs plain all the same.
    /// [default: the trained window, or what the text needs]
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub context: Option<usize>,
    /// Group size of SelfExtend (G), which then also holds for texts within the trained window.
    /// [default: chosen from the context]
    #[arg(long, value_name = "G")]
    pub group_size: Option<usize>,
    /// Neighbour window of SelfExtend in tokens (W). [default: a quarter of the trained window]
    #[arg(long, value_name = "W", value_parser = parse_tokens)]
    pub neighbor_window: Option<usize>,
    /// Refuse texts beyond the trained window instead of extending it.
    #[arg(long)]
    pub no_extend: bool,
    /// Plain attention at any length: the baseline, which breaks beyond the trained window.
    #[arg(long, conflicts_with_all = ["group_size", "neighbor_window", "no_extend"])]
    pub plain: bool,
    /// Another way of extending the window, with its parameters, as rerope:W=1024 or
    /// yarn:s=4,scale=log-n; `selfextend inspect --methods` lists them all.
    #[arg(long, value_name = "NAME[:KEY=VALUE,...]", value_parser = parse_method,
          conflicts_with_all = ["plain", "group_size", "neighbor_window", "no_extend"])]
    pub method: Option<Method>,
    /// Settings that `selfextend tune` found for this model: its method, and its context unless
    /// --context is given. [default: beyond the trained window, MODEL.profile.json beside the model]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plain", "method", "group_size", "neighbor_window", "no_extend"])]
    pub profile: Option<PathBuf>,
    /// Leave a profile beside the model alone.
    #[arg(long, conflicts_with = "profile")]
    pub no_profile: bool,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value_t = KvArg::F16, value_name = "TYPE")]
    pub kv_type: KvArg,
    /// Linear layers: auto, or f32 for float32 weights everywhere (the reference mode).
    #[arg(long, value_enum, default_value_t = LinearArg::Auto, value_name = "MODE")]
    pub linear: LinearArg,
    /// The sliding window of a model whose layers all have one (Mistral 7B): SelfExtend switches it
    /// off, or it would see no further; keep respects it.
    #[arg(long, value_enum, default_value_t = WindowArg::Auto, value_name = "MODE")]
    pub sliding_window: WindowArg,
    /// Where the model runs: cpu, cuda or cuda:N (in builds with the cargo feature `cuda`).
    #[arg(long, default_value_t = Device::Cpu, value_name = "DEVICE")]
    pub device: Device,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Tokens of a prefill that pass through the model together.
    #[arg(long, default_value_t = DEFAULT_CHUNK, value_name = "N", value_parser = at_least_one)]
    pub chunk: usize,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// 4 bytes a number, the reference.
    F32,
    /// 2 bytes a number.
    F16,
    /// 1.06 bytes a number: bytes with a scale for each 32
    #[value(name = "q8_0")]
    Q8,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> Self {
        match arg {
            KvArg::F32 => Self::F32,
            KvArg::F16 => Self::F16,
            KvArg::Q8 => Self::Q8_0,
        }
    }
}

/// What becomes of a sliding window that every layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowArg {
    /// Respected by plain attention, switched off by SelfExtend.
    Auto,
    /// Always respected.
    Keep,
}

/// How linear layers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinearArg {
    /// From the file's own format.
    Auto,
    /// Weights widened to float32 at load.
    F32,
}

/// How tokens are chosen and when to end.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Generation")]
pub struct GenerateArgs {
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 256, value_name = "N")]
    pub max_tokens: usize,
    /// Randomness; 0 takes the most probable token each time.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,
    /// Draw from the K most probable tokens only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: usize,
    /// Draw from the most probable tokens that together have this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,
    /// Leave out tokens less probable than this share of the most probable one.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub min_p: f32,
    /// Make recent tokens less probable; 1 changes nothing.
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub repetition_penalty: f32,
    /// Seed of the draws: same seed, same text.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// End the answer before this text (repeatable).
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl From<&GenerateArgs> for Sampling {
    fn from(args: &GenerateArgs) -> Self {
        Self::new()
            .with_temperature(args.temperature)
            .with_top_k(args.top_k)
            .with_top_p(args.top_p)
            .with_min_p(args.min_p)
            .with_repetition_penalty(args.repetition_penalty)
            .with_seed(args.seed)
    }
}

/// Answer one prompt.
///
/// The prompt is put together from --file, stdin (when it is piped, and not both others are
/// given) and the argument, in this order, with a blank line between them.
///
/// Without --context, a prompt that does not fit the trained window extends it by itself. A
/// prompt that fits stays with plain attention even if the answer might not fit any more: the
/// answer then ends where the window is full. Give --context to have room for more: where the prompt
/// and --max-tokens together fit the trained window it still runs plain, else under SelfExtend for
/// that context.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend run \"Why is the sky blue?\"\n  selfextend run --file book.txt \"Who is the murderer?\"\n  git log | selfextend run \"Summarise these changes.\" --context 32k"
)]
pub struct RunArgs {
    /// What to ask; `-` stands for stdin.
    pub prompt: Option<String>,
    /// A text file to put before the prompt; `-` is stdin.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Continue the text as it is, without the model's chat template.
    #[arg(long)]
    pub raw: bool,
    /// A system message.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Write one JSON object at the end instead of streaming text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Hold a conversation.
///
/// On a terminal, lines can be edited and have a history; /help lists the commands. From a pipe,
/// each line is one message and only the answers go to stdout.
///
/// Within the trained window a conversation runs plain. When it outgrows that, it is read again
/// under SelfExtend: for --context, or without it for twice what it needs.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A system message.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A text file to attach to the first message.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub generate: GenerateArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Show what a model file says.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Tokens of the relative-position matrix; its group size and window are 2 and 4, as in the
    /// paper's figure 3, unless given.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = matrix_size)]
    pub matrix: usize,
    /// Draw the relative positions of a whole context (--context, twice the trained window unless
    /// given) under --method or the automatic settings, and mark those never seen in training.
    #[arg(long)]
    pub positions: bool,
    /// Draw the positions into an SVG as well.
    #[arg(long, value_name = "FILE.svg", requires = "positions")]
    pub svg: Option<PathBuf>,
    /// Draw them for this trained window instead of a model's.
    #[arg(long, value_name = "L", value_parser = tokens_at_least_one, requires = "positions")]
    pub trained_window: Option<usize>,
    /// List every method that --method takes, with its parameters.
    #[arg(long, conflicts_with = "positions")]
    pub methods: bool,
    /// Write everything as one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Measure how well the model predicts each token of a text.
///
/// Writes a line of JSON for every token but the first: its position, its id, and the negative
/// natural logarithm of its probability given those before it. A text that fits the trained window
/// runs plain, whatever --context says.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A text file; `-` or nothing is stdin.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A file with a JSON array of token ids, scored as they are.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub ids: Option<PathBuf>,
    /// Write one JSON object with the means instead of a line for each token.
    #[arg(long)]
    pub summary: bool,
    /// Positions in a bucket of the summary.
    #[arg(long, default_value = "1024", value_name = "N", value_parser = tokens_at_least_one)]
    pub bucket: usize,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Draw perplexity by position.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Files of `score` lines with a label for each, as in `plain=plain.jsonl`.
    #[arg(required = true, value_name = "LABEL=FILE", value_parser = labelled)]
    pub series: Vec<(String, PathBuf)>,
    /// Where the picture goes; `-` is stdout.
    #[arg(short, long, value_name = "FILE.svg")]
    pub output: PathBuf,
    /// Positions that are averaged for a point of a line.
    #[arg(long, default_value = "512", value_name = "N", value_parser = tokens_at_least_one)]
    pub bucket: usize,
    /// Marks the trained window.
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub trained_window: Option<usize>,
    /// Heading of the picture.
    #[arg(long, default_value = "Perplexity by position", value_name = "TEXT")]
    pub title: String,
}

/// Measure speed and memory.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Tokens in the context, as in 512,8k,16k; those beyond the trained window extend it.
    #[arg(long, default_value = "512,2k,8k", value_delimiter = ',', value_name = "N,N,...", value_parser = parse_tokens)]
    pub depths: Vec<usize>,
    /// Tokens to decode at each depth.
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub decode_tokens: usize,
    /// Seed of the random tokens.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Write one JSON object a line.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Hide a passkey in a long text and ask for it.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Length of the text in tokens.
    #[arg(long, default_value = "13k", value_name = "N", value_parser = parse_tokens)]
    pub tokens: usize,
    /// Where the passkey is hidden: 0 is the start of the text, 1 its end.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub depth: f64,
    /// Seed of the passkey.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Write one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Serve OpenAI's API over HTTP.
///
/// A request that fits the trained window runs plain; a longer one runs under SelfExtend for the
/// smallest of a few steps (2, 4, ... times the trained window, up to --context) that fits it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend serve --context 32k --port 8080\n  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
)]
pub struct ServeArgs {
    /// Address to listen on; this machine only, unless told otherwise.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// Port to listen on; 0 for any free one.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub port: u16,
    /// The model's name for clients. [default: the name it was loaded by]
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    /// Memory for keys and values, cached prefixes included, as 2g or 800m. [default: two
    /// sequences of full length, at least 1g]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub kv_memory: Option<usize>,
    /// Answers that are generated at once.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = at_least_one)]
    pub parallel: usize,
    /// Requests that may wait; more are refused with status 429.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub queue: usize,
    /// The most tokens of an answer where the request does not say.
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Keep long prompts' keys and values in this directory across restarts.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Tokens from which on a prompt is kept there.
    #[arg(long, default_value = "1k", value_name = "N", value_parser = parse_tokens)]
    pub cache_least_tokens: usize,
    /// The most that files there may take, as 4g.
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
    /// A file of such keys, one a line.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
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
    /// An origin whose web pages may use the server, as https://app.example (repeatable, or
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

/// Fetch a model.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// A known model's name or owner/name[:file.gguf] of the Hugging Face hub.
    #[arg(default_value = DEFAULT_MODEL)]
    pub model: String,
}

/// Find settings.
///
/// Hides facts in your text and asks for them at its end; settings under which the answers are most
/// likely win. Successive halving: every round doubles the samples and keeps the better half. Ctrl-C
/// takes the best so far. The result is judged on a part of the text it was not chosen by, beside
/// the automatic rule.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend tune --file book.txt --context 16k\n  selfextend tune --file book.txt --context 16k --method rerope --try W=512,1024,2048\n  selfextend run --file book.txt \"Who is the murderer?\""
)]
pub struct TuneArgs {
    /// A text like those you mean to use, at least as long as the context.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Values of a parameter to try (repeatable), as W=512,1k,2k. SelfExtend has a grid of its own.
    #[arg(long = "try", value_name = "KEY=V,V,...", value_parser = parse_tried)]
    pub tried: Vec<(String, Vec<String>)>,
    /// Samples of the last round, and for judging.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Where the profile goes; `-` is stdout. [default: MODEL.profile.json beside the model, where it
    /// is used by itself, if it is better than the automatic rule]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the profile to stdout too, instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

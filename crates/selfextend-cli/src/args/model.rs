//! The model of a command, and how it runs.

use super::values::{at_least_one, parse_method};
use clap::{Args, ValueEnum};
use selfextend::hub::DEFAULT_MODEL;
use selfextend::settings::parse_tokens;
use selfextend::{DEFAULT_CHUNK, Device, KvType, LinearMode, Method};
use std::path::PathBuf;

/// What every command that runs a model takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// A .gguf file, a folder with safetensors, the name of a known model, or
    /// owner/name[:file.gguf] of the Hugging Face hub; downloaded on first use.
    #[arg(short, long, default_value = DEFAULT_MODEL, value_name = "NAME|PATH|ID")]
    pub model: String,
    /// A profile that `selfextend tune` wrote for this model: its method, and its context unless
    /// --context is given. Evaluations run its method beside the others. [default:
    /// MODEL.profile.json beside the model, for texts beyond the trained window]
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Ignore a profile beside the model.
    #[arg(long, conflicts_with = "profile")]
    pub no_profile: bool,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value_t = KvArg::F16, value_name = "TYPE")]
    pub kv_type: KvArg,
    /// Linear layers: auto rounds activations to 15 bits before they meet quantised weights, fast to 8
    /// bits (less exact, for prefill on processors with VNNI); f32 widens all weights to float32
    /// (the reference mode). A GPU knows only auto.
    #[arg(long, value_enum, default_value_t = LinearArg::Auto, value_name = "MODE")]
    pub linear: LinearArg,
    /// The sliding window of a model whose layers all have one (Mistral 7B): SelfExtend switches it
    /// off, because it would see no further with it; keep respects it.
    #[arg(long, value_enum, default_value_t = WindowArg::Auto, value_name = "MODE")]
    pub sliding_window: WindowArg,
    /// Where the model runs: cpu, cuda or cuda:N (in builds with the cargo feature `cuda`).
    #[arg(long, default_value_t = Device::Cpu, value_name = "DEVICE")]
    pub device: Device,
    /// An unknown key of the model's header, config.json or, as tokenizer.json:KEY, of its
    /// tokenizer.json that changes nothing (repeatable). Models with other unknown keys are refused; `selfextend inspect` says what became of each key.
    #[arg(long, value_name = "KEY")]
    pub ignore_key: Vec<String>,
    /// Look at the output of every operation, and name the layer and operation where the first number
    /// that is not finite comes from (CPU only; slower).
    #[arg(long)]
    pub check: bool,
    /// Number of threads; 0 for all cores.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Tokens of a prefill that pass through the model together.
    #[arg(long, default_value_t = DEFAULT_CHUNK, value_name = "N", value_parser = at_least_one)]
    pub chunk: usize,
}

/// The model, and how its window is extended.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Context")]
pub struct ModelArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Tokens of context, as 32768 or 32k. Beyond the trained window, SelfExtend's settings are
    /// chosen from it; a text that fits the trained window still runs plain. [default: the trained
    /// window, or what the text needs]
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub context: Option<usize>,
    /// SelfExtend's group size (G), which then also applies to texts within the trained window.
    /// [default: chosen from the context]
    #[arg(long, value_name = "G", conflicts_with = "profile")]
    pub group_size: Option<usize>,
    /// SelfExtend's neighbour window in tokens (W). [default: a quarter of the trained window]
    #[arg(long, value_name = "W", value_parser = parse_tokens, conflicts_with = "profile")]
    pub neighbor_window: Option<usize>,
    /// Refuse texts beyond the trained window instead of extending it.
    #[arg(long, conflicts_with = "profile")]
    pub no_extend: bool,
    /// Plain attention at any length: the baseline, which breaks beyond the trained window.
    #[arg(long, conflicts_with_all = ["group_size", "neighbor_window", "no_extend", "profile"])]
    pub plain: bool,
    /// Another method of extending the window, with its parameters, as rerope:W=1024 or
    /// yarn:s=4,scale=log-n; `selfextend inspect --methods` lists them all.
    #[arg(long, value_name = "NAME[:KEY=VALUE,...]", value_parser = parse_method,
          conflicts_with_all = ["plain", "group_size", "neighbor_window", "no_extend", "profile"])]
    pub method: Option<Method>,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// 4 bytes per number, the reference
    F32,
    /// 2 bytes per number
    F16,
    /// 1.06 bytes per number: bytes with a scale for every 32
    #[value(name = "q8_0")]
    Q8,
    /// 0.56 bytes per number: four bits with a scale for every 32, of heads that are transformed first
    /// so that no component stands out (CPU only)
    Q4,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> Self {
        match arg {
            KvArg::F32 => Self::F32,
            KvArg::F16 => Self::F16,
            KvArg::Q8 => Self::Q8_0,
            KvArg::Q4 => Self::Q4,
        }
    }
}

/// What becomes of a sliding window that every layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowArg {
    /// Respected by plain attention, switched off by SelfExtend
    Auto,
    /// Always respected
    Keep,
}

/// How linear layers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinearArg {
    /// From the file's own format
    Auto,
    /// The same with activations rounded to 8 bits
    Fast,
    /// Weights widened to float32 at load
    F32,
}

impl From<LinearArg> for LinearMode {
    fn from(arg: LinearArg) -> Self {
        match arg {
            LinearArg::Auto => Self::Rounded,
            LinearArg::Fast => Self::Fast,
            LinearArg::F32 => Self::F32,
        }
    }
}

//! The grammar of `selfextend bench`.

use super::model::ModelArgs;
use clap::Args;
use selfextend::settings::parse_tokens;

/// Measure prefill and decode speed and memory at several depths, on random tokens.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend bench\n  selfextend bench --depths 512,8k,16k --kv-type q8_0\n  selfextend bench --depths 16k --plain --json"
)]
pub struct BenchArgs {
    /// Tokens in the context, as in 512,8k,16k; depths beyond the trained window extend it.
    #[arg(long, default_value = "512,2k,8k", value_delimiter = ',', value_name = "N,N,...", value_parser = parse_tokens)]
    pub depths: Vec<usize>,
    /// Tokens to decode at each depth.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = parse_tokens)]
    pub decode_tokens: usize,
    /// Seed of the random tokens.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Write one JSON object per line.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

//! The grammar of `selfextend demo`.

use super::limit::LimitArgs;
use super::model::ModelArgs;
use clap::Args;
use selfextend::settings::parse_tokens;

/// Hide a passkey in a long text and ask for it, with plain attention and with SelfExtend.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend demo\n  selfextend demo --tokens 20k --depth 0.5\n  selfextend demo --method rerope"
)]
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
    pub limit: LimitArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

//! The grammar of `selfextend demo`.

use super::limit::LimitArgs;
use super::model::ModelArgs;
use clap::Args;
use selfextend::settings::parse_tokens;

/// Hide passkeys in a long text and ask for them, with plain attention and with SelfExtend.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend demo\n  selfextend demo --tokens 20k --depths 0.5\n  selfextend demo --method rerope"
)]
pub struct DemoArgs {
    /// Length of the text in tokens.
    #[arg(long, default_value = "12k", value_name = "N", value_parser = parse_tokens)]
    pub tokens: usize,
    /// Where a passkey is hidden, each in a text of its own: 0 is the start of the text, 1 its end.
    #[arg(
        long,
        default_value = "0.1,0.5,0.9",
        value_delimiter = ',',
        value_name = "SHARE,..."
    )]
    pub depths: Vec<f64>,
    /// Seed of the first passkey; the others have the next ones.
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

//! The grammar of `selfextend pull`.

use clap::Args;
use selfextend::hub::DEFAULT_MODEL;

/// Download what this machine lacks of a model, verify the rest, and print its path.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend pull\n  selfextend pull qwen2.5-coder-1.5b\n  selfextend pull owner/name:file.gguf"
)]
pub struct PullArgs {
    /// The name of a known model, or owner/name[:file.gguf] or owner/name:Q4_K_M of the Hugging Face hub.
    #[arg(default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Print the path, and the sizes and checksums that were verified, as JSON.
    #[arg(long)]
    pub json: bool,
}

//! The grammar of `selfextend score`.

use super::cache::CacheArgs;
use super::model::ModelArgs;
use super::values::tokens_at_least_one;
use clap::Args;
use std::path::PathBuf;

/// Measure how well the model predicts each token of a text.
///
/// Writes a line of JSON for every token but the first: its position, its id, and the negative
/// natural logarithm of its probability given those before it. A text that fits the trained window
/// runs plain, even with a larger --context.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend score --file book.txt --summary\n  selfextend score --file book.txt --plain > plain.jsonl\n  selfextend score --file book.txt --context 32k > extended.jsonl"
)]
pub struct ScoreArgs {
    /// A text file; `-` is stdin, which is also the default.
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
    #[command(flatten)]
    pub cache: CacheArgs,
}

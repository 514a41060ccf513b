//! The grammar of `selfextend compare`.

use super::eval::{EvalRunArgs, KeyArgs};
use super::{at_least_one, tokens_at_least_one};
use clap::Args;
use std::path::PathBuf;

/// Run every method over a row of lengths.
///
/// Each method gets the same samples under its automatic settings for the length: the perplexity of
/// your texts, and passkeys to find. Seconds and memory stand beside. What a method cannot reach is
/// a gap with its reason. The same command goes on where it was interrupted; `eval merge` joins
/// shards, `eval report` shows results again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend compare book.txt\n  selfextend compare book.txt --context 32k --method plain --method selfextend --method yarn\n  selfextend compare book.txt --lengths 4k,8k,16k --shard 1/8 --results part1.jsonl\n  selfextend eval merge part*.jsonl -o all.jsonl --html compare.html"
)]
pub struct CompareArgs {
    /// Text files, or folders of .txt files. Passkey alone without them.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Tokens of context, as in 4k,8k,16k. [default: the trained window, twice and four times of it,
    /// as far as --context]
    #[arg(long, value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// The longest length. [default: four times the trained window]
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one, conflicts_with = "lengths")]
    pub context: Option<usize>,
    /// Segments of each length from each file.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub segments: usize,
    /// Compare on the texts alone.
    #[arg(long, requires = "files")]
    pub no_passkey: bool,
    /// Where keys are hidden: 0 is the start of the text, 1 its end.
    #[arg(
        long,
        default_value = "0.1,0.5,0.9",
        value_delimiter = ',',
        value_name = "SHARE,..."
    )]
    pub depths: Vec<f64>,
    /// Keys at each length and depth.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = at_least_one)]
    pub trials: usize,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

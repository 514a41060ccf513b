//! The grammar of `selfextend compare`.

use super::eval::{EvalRunArgs, KeyArgs};
use super::values::{at_least_one, tokens_at_least_one};
use clap::Args;
use std::path::PathBuf;

/// Run every method at several lengths, on your text and on passkeys.
///
/// Every method gets the same samples, under its automatic settings for the length: the perplexity
/// of your texts, and passkeys to find. The report has seconds and memory too. A length that a
/// method cannot reach is left out, with the reason. The same command resumes an interrupted run;
/// `eval merge` joins shards, `eval report` shows results again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend compare book.txt --quick\n  selfextend compare book.txt --up-to 40\n  selfextend compare book.txt --context 32k --method plain --method selfextend --method yarn\n  selfextend compare book.txt --lengths 4k,8k,16k --shard 1/8 --results part1.jsonl\n  selfextend eval merge part*.jsonl -o all.jsonl --html compare.html"
)]
pub struct CompareArgs {
    /// Text files, or folders of .txt files. Without them, only passkeys are compared.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Tokens of context, as in 4k,8k,16k. [default: the trained window, twice and four times it,
    /// up to --context; with --quick once and twice]
    #[arg(long, value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// The longest length. [default: four times the trained window, with --quick twice]
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one, conflicts_with = "lengths")]
    pub context: Option<usize>,
    /// Segments of each length from each file.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub segments: usize,
    /// Compare on the texts only.
    #[arg(long, requires = "files")]
    pub no_passkey: bool,
    /// Where keys are hidden: 0 is the start of the text, 1 its end. [default: 0.1,0.5,0.9, with
    /// --quick 0.1]
    #[arg(long, value_delimiter = ',', value_name = "SHARE,...")]
    pub depths: Vec<f64>,
    /// Keys at each length and depth. [default: 2, with --quick 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub trials: Option<usize>,
    /// A small comparison: plain attention, SelfExtend and YaRN, at the trained window and twice that,
    /// with one passkey each; about ten minutes with the default model on two cores. Other flags
    /// still apply.
    #[arg(long)]
    pub quick: bool,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

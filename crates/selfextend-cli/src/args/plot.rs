//! The grammar of `selfextend plot`.

use super::values::{labelled, tokens_at_least_one};
use clap::Args;
use selfextend::settings::parse_tokens;
use std::path::PathBuf;

/// Draw perplexity by position from the output of `score`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend score --file book.txt --plain > plain.jsonl\n  selfextend score --file book.txt > extended.jsonl\n  selfextend plot plain=plain.jsonl SelfExtend=extended.jsonl --trained-window 8k -o perplexity.svg"
)]
pub struct PlotArgs {
    /// Files that `score` wrote, with a label for each, as in plain=plain.jsonl.
    #[arg(required = true, value_name = "LABEL=FILE", value_parser = labelled)]
    pub series: Vec<(String, PathBuf)>,
    /// Where the picture goes; `-` is stdout.
    #[arg(short, long, value_name = "FILE.svg")]
    pub output: PathBuf,
    /// Positions averaged for one point of a line.
    #[arg(long, default_value = "512", value_name = "N", value_parser = tokens_at_least_one)]
    pub bucket: usize,
    /// Mark the trained window.
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub trained_window: Option<usize>,
    /// Heading of the picture.
    #[arg(long, default_value = "Perplexity by position", value_name = "TEXT")]
    pub title: String,
}

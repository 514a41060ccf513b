//! The grammar of `selfextend tune`.

use super::limit::LimitArgs;
use super::model::ModelArgs;
use super::values::{at_least_one, parse_tried};
use clap::Args;
use std::path::PathBuf;

/// Find the best settings of a method for a model, a context and a text.
///
/// Hides facts in your text and asks for them at its end; the settings
/// that make the answers most likely win. Successive halving: every round doubles the samples and
/// keeps the better half. Ctrl-C takes the best so far. The winner and the automatic rule are then
/// judged on a part of the text that the search did not use.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend tune --file book.txt --context 16k --quick\n  selfextend tune --file book.txt --context 16k\n  selfextend tune --file book.txt --context 16k --method rerope --try W=512,1024,2048\n  selfextend run --file book.txt \"Who is the murderer?\""
)]
pub struct TuneArgs {
    /// A text like those you will use, at least as long as the context.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Values of a parameter to try (repeatable), as W=512,1k,2k. SelfExtend has a default grid.
    #[arg(long = "try", value_name = "KEY=V,V,...", value_parser = parse_tried)]
    pub tried: Vec<(String, Vec<String>)>,
    /// Samples of the last round, and for judging. [default: 4, with --quick 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub samples: Option<usize>,
    /// A small search: four settings of SelfExtend and one sample, about ten minutes with the default
    /// model at 16k on two cores.
    #[arg(long)]
    pub quick: bool,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Where the profile goes; `-` is stdout. [default: MODEL.profile.json beside the model, where it
    /// is used automatically, if it is better than the automatic rule]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the profile to stdout too, instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limit: LimitArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

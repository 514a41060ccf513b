//! The grammar of `selfextend inspect`.

use super::model::ModelArgs;
use super::values::{matrix_size, tokens_at_least_one};
use clap::Args;
use std::path::PathBuf;

/// Show what a model file says, how far it can be extended, and the positions SelfExtend uses.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend inspect -m model.gguf\n  selfextend inspect --methods\n  selfextend inspect --positions --method rerope --context 32k --svg positions.svg"
)]
pub struct InspectArgs {
    /// Size in tokens of the matrix of relative positions. Its group size and window are 2 and 4,
    /// as in the paper's figure 3, unless given.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = matrix_size)]
    pub matrix: usize,
    /// Draw the relative positions of a whole context (--context, by default twice the trained
    /// window) under --method or the automatic settings, and mark those never seen in training.
    #[arg(long)]
    pub positions: bool,
    /// Draw the positions into an SVG as well.
    #[arg(long, value_name = "FILE.svg", requires = "positions")]
    pub svg: Option<PathBuf>,
    /// Draw them for this trained window instead of a model's.
    #[arg(long, value_name = "L", value_parser = tokens_at_least_one, requires = "positions")]
    pub trained_window: Option<usize>,
    /// List every method that --method takes, with its parameters.
    #[arg(long, conflicts_with = "positions")]
    pub methods: bool,
    /// Write everything as one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

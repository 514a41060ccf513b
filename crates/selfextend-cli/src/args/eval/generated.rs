//! The grammar of tasks whose texts are made from a seed: walks on graphs, repeated requests.

use super::run::EvalRunArgs;
use crate::args::values::{at_least_one, tokens_at_least_one};
use clap::Args;
use selfextend_eval::tasks::graph_walks::WalkTask;
use std::path::PathBuf;

/// Run walks on graphs of hashes, in the style of GraphWalks.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval graphwalks --lengths 4k,8k --tasks parents --samples 20 --chat"
)]
pub struct GraphwalksArgs {
    /// Operations: bfs (the nodes at a depth of a search), parents (of a node).
    #[arg(
        long,
        default_value = "bfs,parents",
        value_delimiter = ',',
        value_name = "TASK,..."
    )]
    pub tasks: Vec<WalkTask>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Graphs of each operation at each length.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 160, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Ask for one of several answers to the same request, in the style of MRCR.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval mrcr --books pg19/ --lengths 4k,8k --needles 2,4 --samples 20 --chat"
)]
pub struct MrcrArgs {
    /// Text files, or folders of .txt files, whose sentences are the answers of the conversation.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub books: Vec<PathBuf>,
    /// How often the request is made whose answer is asked for.
    #[arg(long, default_value = "2,4", value_delimiter = ',', value_name = "N,...", value_parser = at_least_one)]
    pub needles: Vec<usize>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Conversations of each number of needles at each length.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// Talk under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

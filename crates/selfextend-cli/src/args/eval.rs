//! The grammar of `selfextend eval`.

mod generated;
mod hidden;
mod run;

pub use generated::{GraphwalksArgs, MrcrArgs};
pub use hidden::{BabilongArgs, NeedleArgs, NolimaArgs, RulerArgs};
pub use run::{EvalRunArgs, ShowArgs};

use super::values::{at_least_one, tokens_at_least_one};
use clap::{Args, Subcommand, ValueEnum};
use selfextend_eval::tasks::passkey::Wording;
use std::path::PathBuf;

/// Run the paper's experiments, with tables and plots.
///
/// Every task says what it will cost before it starts, and writes each result at once as a line of
/// JSON; the same command resumes an interrupted run. Tables go to stdout, pictures where --html and
/// --plot say.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval perplexity book.txt --lengths 4k,16k --html report.html\n  selfextend eval passkey --lengths 4k,8k,16k --method plain --method selfextend:G=8,W=1024\n  selfextend eval needle --haystack essays/ --lengths 4k,8k --plot needle.png\n  selfextend eval passkey --shard 1/2 --results part1.jsonl"
)]
pub struct EvalArgs {
    #[command(subcommand)]
    pub task: EvalTask,
}

/// The tasks.
#[derive(Debug, Subcommand)]
pub enum EvalTask {
    /// Perplexity of text files by length and by position (the paper's table 1).
    Perplexity(PerplexityArgs),
    /// Passkey retrieval by length and depth (the paper's figure 4).
    Passkey(PasskeyArgs),
    /// Needle in a haystack of any texts, by length and depth.
    Needle(NeedleArgs),
    /// RULER's synthetic tasks, made for the model's tokenizer from a seed.
    Ruler(RulerArgs),
    /// BABILong: the facts of bAbI's stories hidden in books.
    Babilong(BabilongArgs),
    /// NoLiMa's needles, which share no word with their question.
    Nolima(NolimaArgs),
    /// Walks on graphs of hashes (GraphWalks).
    Graphwalks(GraphwalksArgs),
    /// One of several answers to the same request (MRCR).
    Mrcr(MrcrArgs),
    /// L-Eval's closed-ended tasks from its .jsonl files.
    Leval(LevalArgs),
    /// Tasks in LongBench's format, with its prompts and metrics.
    Longbench(LongbenchArgs),
    /// The short-context control: multiple choice by log-likelihood, and LAMBADA.
    Choice(ChoiceArgs),
    /// Perplexity or passkey over a grid of group sizes and neighbour windows (figures 5 and 6).
    Ablation(AblationArgs),
    /// Join the results of a sharded run; gaps and overlaps are refused.
    Merge(MergeArgs),
    /// Show the tables and pictures of results, complete or not.
    Report(ReportArgs),
    /// Show the results of many runs together: methods by models by lengths, quality and cost.
    Leaderboard(LeaderboardArgs),
}

/// Measure the perplexity of text files by length and by position (the paper's table 1).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval perplexity book.txt --lengths 4k,16k --html report.html\n  selfextend eval perplexity books/ --lengths 8k,16k --method plain --method selfextend:G=4,W=2048"
)]
pub struct PerplexityArgs {
    /// Text files, or folders of .txt files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Which parts of a text are scored.
#[derive(Debug, Clone, Args)]
pub struct TextArgs {
    /// Tokens of context, as in 4k,8k,16k.
    #[arg(long, default_value = "4k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Segments of each length from each file.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub segments: usize,
    /// Slide a window by this many tokens instead, and score what each step adds; --segments then
    /// limits the windows of a file.
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one)]
    pub stride: Option<usize>,
}

/// Measure passkey retrieval by length and depth (the paper's figure 4).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval passkey --lengths 4k,16k --depths 0.1,0.5 --trials 1\n  selfextend eval passkey --shard 1/2 --results part1.jsonl"
)]
pub struct PasskeyArgs {
    #[command(flatten)]
    pub sweep: SweepArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// A sweep over lengths and depths with made-up keys.
#[derive(Debug, Clone, Args)]
pub struct SweepArgs {
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k,16k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Where the key is hidden: 0 is the start of the text, 1 its end.
    #[arg(
        long,
        default_value = "0.1,0.3,0.5,0.7,0.9",
        value_delimiter = ',',
        value_name = "SHARE,..."
    )]
    pub depths: Vec<f64>,
    /// Keys at each length and depth.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = at_least_one)]
    pub trials: usize,
    /// How the key is asked for: authors, no-space, line, question (repeatable with commas); each key
    /// is asked for in each.
    #[arg(
        long = "wordings",
        default_value = "authors",
        value_delimiter = ',',
        value_name = "NAME,..."
    )]
    pub wordings: Vec<Wording>,
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Made-up keys.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// Digits of a key.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=18))]
    pub digits: u8,
    /// Seed of the keys.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Ask for keys under the model's chat template.
    #[arg(long)]
    pub chat: bool,
}

/// Run L-Eval's closed-ended tasks from its .jsonl files.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval leval coursera.jsonl quality.jsonl --documents 5"
)]
pub struct LevalArgs {
    /// Its .jsonl files, named as in its repository, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The most documents of a file; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub documents: usize,
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 32, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Run tasks in LongBench's format, with its prompts and metrics.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selfextend eval longbench hotpotqa.jsonl --items 20 --chat")]
pub struct LongbenchArgs {
    /// Its .jsonl files, named after their tasks, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Its dataset2prompt.json. [default: beside the first file]
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Its dataset2maxlen.json. [default: beside the first file]
    #[arg(long, value_name = "FILE")]
    pub max_lengths: Option<PathBuf>,
    /// The most items of a file; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub items: usize,
    /// Ask under the model's chat template, as its authors ask chat models.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Run the short-context control: multiple choice by log-likelihood, and LAMBADA.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval choice arc_easy.jsonl piqa.jsonl --items 50\n  selfextend eval choice mmlu/test/astronomy_test.csv --shots 5"
)]
pub struct ChoiceArgs {
    /// Questions: .jsonl (ARC, PIQA, OpenBookQA, Winogrande, LAMBADA), .txt (HellaSwag's blocks)
    /// or .csv (MMLU's columns); a folder's .jsonl files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The most questions of a file, drawn with --seed; 0 for all.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub items: usize,
    /// Seed of the draw.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// Tokens of context that methods are resolved for. [default: the trained window]
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one)]
    pub context: Option<usize>,
    /// Solved examples before each question of a .csv file (MMLU's authors take 5): the first of the
    /// subject's _dev.csv, beside the file or in ../dev.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub shots: usize,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Measure perplexity or passkey retrieval over a grid of group sizes and neighbour windows
/// (figures 5 and 6).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval ablation book.txt --lengths 16k --group-sizes 4,8 --neighbor-windows 1k,2k\n  selfextend eval ablation --lengths 8k --neighbor-windows 1k --depths 0.5 --trials 1"
)]
pub struct AblationArgs {
    /// Text files, or folders of .txt files, whose perplexity is measured. Without them, passkeys.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Group sizes.
    #[arg(long, default_value = "2,4,8,16,32", value_delimiter = ',', value_name = "G,...", value_parser = at_least_one)]
    pub group_sizes: Vec<usize>,
    /// Neighbour windows in tokens.
    #[arg(long, required = true, value_delimiter = ',', value_name = "W,...", value_parser = tokens_at_least_one)]
    pub neighbor_windows: Vec<usize>,
    /// What is measured. [default: perplexity with files, passkey without]
    #[arg(long, value_enum, value_name = "TASK")]
    pub on: Option<AblationOn>,
    /// Segments of each length from each file.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub segments: usize,
    #[command(flatten)]
    pub sweep: SweepArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// What an ablation measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AblationOn {
    /// Perplexity of texts.
    Perplexity,
    /// Passkey retrieval.
    Passkey,
}

/// Join the results of a sharded run; gaps and overlaps are refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval merge part1.jsonl part2.jsonl -o all.jsonl --html report.html"
)]
pub struct MergeArgs {
    /// The results of every shard.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the joined results go.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Show the tables and pictures of results, complete or not.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval report eval-passkey.jsonl\n  selfextend eval report eval-passkey.jsonl --html report.html"
)]
pub struct ReportArgs {
    /// Results of a task.
    #[arg(value_name = "FILE")]
    pub results: PathBuf,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Show the results of many runs together: methods by models by lengths, quality and cost.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval leaderboard eval/results/*.jsonl --html leaderboard.html"
)]
pub struct LeaderboardArgs {
    /// Results of any tasks, models and methods.
    #[arg(required = true, value_name = "FILE")]
    pub results: Vec<PathBuf>,
    #[command(flatten)]
    pub show: ShowArgs,
}

//! The grammar of `selfextend eval`.

use super::{KvArg, LinearArg, at_least_one, tokens_at_least_one};
use clap::{Args, Subcommand, ValueEnum};
use selfextend::hub::DEFAULT_MODEL;
use selfextend::{DEFAULT_CHUNK, Device, Method};
use selfextend_eval::Shard;
use selfextend_eval::tasks::needle;
use selfextend_eval::tasks::ruler::RulerTask;
use std::path::PathBuf;

/// The paper's experiments.
///
/// Every task writes a line of JSON for each result as it comes; the same command goes on where
/// it was interrupted. Tables go to stdout, pictures where --html and --plot say.
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
    /// Show the tables and pictures of results, finished or not.
    Report(ReportArgs),
}

/// How a task runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run")]
pub struct EvalRunArgs {
    /// A method: plain, selfextend:auto, selfextend:G=8,W=1024, ... (repeatable; all get the same
    /// samples). [default: plain and selfextend:auto; for compare every method]
    #[arg(long = "method", value_name = "METHOD")]
    pub methods: Vec<Method>,
    /// Where results go, as JSON lines. [default: eval-TASK.jsonl]
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Run part I of N; `eval merge` joins the parts.
    #[arg(long, default_value_t = Shard::WHOLE, value_name = "I/N")]
    pub shard: Shard,
    /// Say what the run would cost, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Compute every prompt from its first token: the same results (on a GPU up to rounding), later.
    #[arg(long)]
    pub no_sharing: bool,
    #[command(flatten)]
    pub show: ShowArgs,
    #[command(flatten)]
    pub model: EvalModelArgs,
}

/// What is shown of results.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// Write the whole report, pictures included, as one page.
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Write the table as comma-separated values.
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Draw one picture.
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub plot: Option<PathBuf>,
    /// Which picture --plot draws, by its name. [default: the first]
    #[arg(long, value_name = "NAME", requires = "plot")]
    pub figure: Option<String>,
    /// Write the tables as one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The model of an evaluation.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct EvalModelArgs {
    /// A .gguf file, a known model's name, or owner/name[:file.gguf] of the Hugging Face hub.
    #[arg(short, long, default_value = DEFAULT_MODEL, value_name = "NAME|PATH|ID")]
    pub model: String,
    /// Run the method that `selfextend tune` found too, unless --method says what to run. [default:
    /// MODEL.profile.json beside the model]
    #[arg(long, value_name = "FILE", conflicts_with = "methods")]
    pub profile: Option<PathBuf>,
    /// Leave a profile beside the model alone.
    #[arg(long, conflicts_with = "profile")]
    pub no_profile: bool,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value_t = KvArg::F16, value_name = "TYPE")]
    pub kv_type: KvArg,
    /// Linear layers: auto, or f32 for float32 weights everywhere (the reference mode).
    #[arg(long, value_enum, default_value_t = LinearArg::Auto, value_name = "MODE")]
    pub linear: LinearArg,
    /// Where the model runs: cpu, cuda or cuda:N (in builds with the cargo feature `cuda`).
    #[arg(long, default_value_t = Device::Cpu, value_name = "DEVICE")]
    pub device: Device,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Tokens of a prefill that pass through the model together.
    #[arg(long, default_value_t = DEFAULT_CHUNK, value_name = "N", value_parser = at_least_one)]
    pub chunk: usize,
}

/// Perplexity.
#[derive(Debug, Args)]
pub struct PerplexityArgs {
    /// Text files, or folders of .txt files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// How much of a text is scored.
#[derive(Debug, Clone, Args)]
pub struct TextArgs {
    /// Tokens of context, as in 4k,8k,16k.
    #[arg(long, default_value = "4k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Segments of each length from each file.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub segments: usize,
    /// Slide a window by so many tokens instead, and score what each adds; --segments then limits
    /// the windows of a file.
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one)]
    pub stride: Option<usize>,
}

/// Passkey retrieval.
#[derive(Debug, Args)]
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

/// Needle in a haystack.
#[derive(Debug, Args)]
pub struct NeedleArgs {
    /// Text files, or folders of .txt files, that hide the needle.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub haystack: Vec<PathBuf>,
    /// The sentence that is hidden.
    #[arg(long, default_value = needle::NEEDLE, value_name = "TEXT")]
    pub needle: String,
    /// What is asked.
    #[arg(long, default_value = needle::QUESTION, value_name = "TEXT")]
    pub question: String,
    /// What an answer must contain, whatever its case.
    #[arg(long, default_value = needle::ANSWER, value_name = "TEXT")]
    pub answer: String,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k,16k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Where the needle is hidden: 0 is the start of the text, 1 its end.
    #[arg(
        long,
        default_value = "0,0.25,0.5,0.75,1",
        value_delimiter = ',',
        value_name = "SHARE,..."
    )]
    pub depths: Vec<f64>,
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 32, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// RULER.
#[derive(Debug, Args)]
pub struct RulerArgs {
    /// Tasks, by RULER's names. [default: all, those with essays only where --essays names texts]
    #[arg(long, value_delimiter = ',', value_name = "TASK,...")]
    pub tasks: Vec<RulerTask>,
    /// Text files, or folders of .txt files, for the haystacks of essays.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub essays: Vec<PathBuf>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Samples of each task at each length.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of everything drawn.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// L-Eval.
#[derive(Debug, Args)]
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

/// LongBench.
#[derive(Debug, Args)]
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

/// Multiple choice.
#[derive(Debug, Args)]
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
    /// Tokens of context that methods are told. [default: the trained window]
    #[arg(long, value_name = "N", value_parser = tokens_at_least_one)]
    pub context: Option<usize>,
    /// Answered questions before each of a .csv file's (MMLU's authors take 5): the first of the
    /// subject's _dev.csv, beside the file or in ../dev.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub shots: usize,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// A task over a grid of settings.
#[derive(Debug, Args)]
pub struct AblationArgs {
    /// Text files, or folders of .txt files: their perplexity is measured. Passkey without them.
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

/// Results to join.
#[derive(Debug, Args)]
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

/// Results to show.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Results of a task.
    #[arg(value_name = "FILE")]
    pub results: PathBuf,
    #[command(flatten)]
    pub show: ShowArgs,
}

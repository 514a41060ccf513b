//! The grammar of tasks that hide something in a text: needles, RULER, BABILong, NoLiMa.

use super::run::EvalRunArgs;
use crate::args::values::{at_least_one, tokens_at_least_one};
use clap::Args;
use selfextend_eval::tasks::babilong::BabiTask;
use selfextend_eval::tasks::nolima::NoLiMaMetric;
use selfextend_eval::tasks::ruler::RulerTask;
use std::path::PathBuf;

/// Hide a needle in a haystack of your texts, by length and depth.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval needle --haystack essays/ --lengths 4k,8k --plot needle.png"
)]
pub struct NeedleArgs {
    /// Text files, or folders of .txt files, that hide the needle.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub haystack: Vec<PathBuf>,
    /// How many needles are hidden, each in a text of its own: the known one about San Francisco, and
    /// made-up ones, each asked for in one of two ways.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = at_least_one)]
    pub needles: usize,
    /// Seed of which needles, and of how they are asked for.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub seed: u64,
    /// A sentence of your own to hide instead.
    #[arg(long, requires_all = ["question", "answer"], conflicts_with_all = ["needles", "seed"], value_name = "TEXT")]
    pub needle: Option<String>,
    /// What is asked then.
    #[arg(long, requires = "needle", value_name = "TEXT")]
    pub question: Option<String>,
    /// What an answer must contain then; case does not matter.
    #[arg(long, requires = "needle", value_name = "TEXT")]
    pub answer: Option<String>,
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

/// Run RULER's synthetic tasks, made for the model's tokenizer from a seed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfextend eval ruler --lengths 4k --samples 2\n  selfextend eval ruler --tasks vt,cwe,fwe --lengths 8k,16k\n  selfextend eval ruler --tasks qa_1 --squad dev-v1.1.json --lengths 8k,16k"
)]
pub struct RulerArgs {
    /// Tasks, by RULER's names. [default: all whose files are named: those with essays need
    /// --essays, qa_1 --squad, qa_2 --hotpotqa]
    #[arg(long, value_delimiter = ',', value_name = "TASK,...")]
    pub tasks: Vec<RulerTask>,
    /// Text files, or folders of .txt files, for the haystacks of essays.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub essays: Vec<PathBuf>,
    /// Questions of qa_1: a JSON file in SQuAD's format.
    #[arg(long, value_name = "FILE")]
    pub squad: Option<PathBuf>,
    /// Questions of qa_2: a JSON file in HotpotQA's format (distractor setting).
    #[arg(long, value_name = "FILE")]
    pub hotpotqa: Option<PathBuf>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Samples of each task at each length.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Run BABILong: the facts of bAbI's stories hidden in books.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval babilong --facts tasks_1-20_v1-2/en/ --books pg19/ --lengths 4k,16k --samples 25"
)]
pub struct BabilongArgs {
    /// bAbI's files, named as in its archive (qa1_single-supporting-fact_test.txt), or a folder of
    /// them, of which the tests are read.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub facts: Vec<PathBuf>,
    /// Text files, or folders of .txt files, that hide the facts.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub books: Vec<PathBuf>,
    /// Tasks of bAbI.
    #[arg(
        long,
        default_value = "qa1,qa2,qa3",
        value_delimiter = ',',
        value_name = "TASK,..."
    )]
    pub tasks: Vec<BabiTask>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k,16k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Questions of each task, the same at each length.
    #[arg(long, default_value_t = 25, value_name = "N", value_parser = at_least_one)]
    pub samples: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

/// Run NoLiMa: needles that share no word with their question, from files in its format.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfextend eval nolima --needles needlesets/needle_set.json --books haystack/rand_shuffle/ --lengths 4k,8k --questions 20 --chat"
)]
pub struct NolimaArgs {
    /// A needle set: one of its needlesets/*.json.
    #[arg(long, value_name = "FILE")]
    pub needles: PathBuf,
    /// Its shuffled books, or folders of .txt files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub books: Vec<PathBuf>,
    /// Tokens of context, the answer's included, as in 4k,8k,16k.
    #[arg(long, default_value = "4k,8k,16k", value_delimiter = ',', value_name = "N,N,...", value_parser = tokens_at_least_one)]
    pub lengths: Vec<usize>,
    /// Where a needle is hidden: 0 is the start of the text, 1 its end.
    #[arg(
        long,
        default_value = "0,0.25,0.5,0.75,1",
        value_delimiter = ',',
        value_name = "SHARE,..."
    )]
    pub depths: Vec<f64>,
    /// The most questions of the set, drawn with --seed; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub questions: usize,
    /// Seed of questions, books and names.
    #[arg(long, default_value_t = 42, value_name = "SEED")]
    pub seed: u64,
    /// When an answer is right: contains, EM, lastline_contains or lastline_EM.
    #[arg(long, default_value = "contains", value_name = "NAME")]
    pub metric: NoLiMaMetric,
    /// The most tokens of an answer.
    #[arg(short = 'n', long, default_value_t = 192, value_name = "N", value_parser = at_least_one)]
    pub max_tokens: usize,
    /// Ask under the model's chat template.
    #[arg(long)]
    pub chat: bool,
    #[command(flatten)]
    pub run: EvalRunArgs,
}

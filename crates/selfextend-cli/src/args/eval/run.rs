//! How the tasks of `selfextend eval` run, and how their results are shown.

use crate::args::limit::LimitArgs;
use crate::args::model::LoadArgs;
use clap::Args;
use selfextend::Method;
use selfextend_eval::Shard;
use std::path::PathBuf;

/// How a task runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run")]
pub struct EvalRunArgs {
    /// A method: plain, selfextend:auto, selfextend:G=8,W=1024, ... (repeatable; all get the same
    /// samples). [default: plain and selfextend:auto; for compare every method]
    #[arg(long = "method", value_name = "METHOD", conflicts_with = "profile")]
    pub methods: Vec<Method>,
    /// Where results go, as JSON lines. [default: eval-TASK.jsonl]
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Run part I of N; `eval merge` joins the parts.
    #[arg(long, default_value_t = Shard::WHOLE, value_name = "I/N")]
    pub shard: Shard,
    /// Say what the run would cost, and exit.
    #[arg(long)]
    pub dry_run: bool,
    /// Compute every prompt from its first token: slower, with the same results (on a GPU up to
    /// rounding).
    #[arg(long)]
    pub no_sharing: bool,
    #[command(flatten)]
    pub limit: LimitArgs,
    #[command(flatten)]
    pub show: ShowArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

/// How results are shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// Write the whole report, pictures included, as one HTML page.
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Write the table as comma-separated values.
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Draw one of the report's pictures.
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub plot: Option<PathBuf>,
    /// The name of the picture that --plot draws. [default: the first]
    #[arg(long, value_name = "NAME", requires = "plot")]
    pub figure: Option<String>,
    /// Write the tables as one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

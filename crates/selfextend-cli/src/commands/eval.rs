//! `selfextend eval`: the paper's experiments. It parses and prints; the work is selfextend-eval's.

pub mod experiment;
mod show;
mod tasks;

use crate::args::eval::{EvalArgs, EvalTask, MergeArgs, ReportArgs};
use crate::error::Result;
use crate::output;
use selfextend_eval::RunFile;

/// Runs a task, or shows results.
pub fn eval(args: &EvalArgs) -> Result<()> {
    match &args.task {
        EvalTask::Merge(args) => merge(args),
        EvalTask::Report(args) => report(args),
        EvalTask::Perplexity(args) => tasks::perplexity(args),
        EvalTask::Passkey(args) => tasks::passkey(args),
        EvalTask::Needle(args) => tasks::needle(args),
        EvalTask::Ruler(args) => tasks::ruler(args),
        EvalTask::Leval(args) => tasks::leval(args),
        EvalTask::Longbench(args) => tasks::longbench(args),
        EvalTask::Choice(args) => tasks::choice(args),
        EvalTask::Ablation(args) => tasks::ablation(args),
    }
}

fn merge(args: &MergeArgs) -> Result<()> {
    show::check(&args.show)?;
    let run = RunFile::merge(&args.files)?;
    output::file(&args.output, &run.to_json_lines()?)?;
    output::note(&format!("results: {}", args.output.display()));
    show::show(&run, &args.show)
}

fn report(args: &ReportArgs) -> Result<()> {
    show::check(&args.show)?;
    show::show(&RunFile::read(&args.results)?, &args.show)
}

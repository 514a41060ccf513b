//! `selfextend eval`: the paper's experiments. It parses and prints; the work is selfextend-eval's.

pub mod experiment;
mod generated;
mod hidden;
mod show;
mod tasks;

use crate::args::eval::{EvalArgs, EvalTask, LeaderboardArgs, MergeArgs, ReportArgs};
use crate::error::Result;
use crate::output;
use selfextend_eval::{Report, RunFile, report::leaderboard as board};

/// Runs a task, or shows results.
pub fn eval(args: &EvalArgs) -> Result<()> {
    match &args.task {
        EvalTask::Merge(args) => merge(args),
        EvalTask::Report(args) => report(args),
        EvalTask::Leaderboard(args) => leaderboard(args),
        EvalTask::Perplexity(args) => tasks::perplexity(args),
        EvalTask::Passkey(args) => tasks::passkey(args),
        EvalTask::Needle(args) => hidden::needle(args),
        EvalTask::Ruler(args) => hidden::ruler(args),
        EvalTask::Babilong(args) => hidden::babilong(args),
        EvalTask::Nolima(args) => hidden::nolima(args),
        EvalTask::Graphwalks(args) => generated::graph_walks(args),
        EvalTask::Mrcr(args) => generated::mrcr(args),
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
    show::show(&Report::new(&run), &args.show)
}

fn report(args: &ReportArgs) -> Result<()> {
    show::check(&args.show)?;
    show::show(&Report::new(&RunFile::read(&args.results)?), &args.show)
}

fn leaderboard(args: &LeaderboardArgs) -> Result<()> {
    show::check(&args.show)?;
    let runs = args.results.iter().map(|path| {
        let run = RunFile::read(path)?;
        Ok((experiment::name(path), run))
    });
    show::show(&board(&runs.collect::<Result<Vec<_>>>()?), &args.show)
}

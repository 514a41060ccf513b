//! The commands, a file for each.

mod answer;
mod bench;
mod cache;
mod chat;
mod compare;
mod demo;
mod eval;
mod inspect;
mod plot;
mod pull;
mod run;
mod score;
mod serve;
mod tune;

use crate::args::Command;
use crate::error::Result;

/// Runs the command.
pub fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Chat(args) => chat::chat(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Score(args) => score::score(&args),
        Command::Plot(args) => plot::plot(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Pull(args) => pull::pull(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Cache(args) => cache::cache(&args),
        Command::Tune(args) => tune::tune(&args),
    }
}

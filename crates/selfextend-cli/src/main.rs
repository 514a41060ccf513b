//! The `selfextend` command: language models past the context window they were trained on.
//!
//! Results go to stdout, everything else to stderr. The exit code is 0 if the work was done or stdout
//! was closed by its reader, 1 for failures, 2 for usage errors and 130 after Ctrl-C.

mod args;
mod commands;
mod error;
mod input;
mod interrupt;
mod limit;
mod output;
mod progress;
mod setup;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    interrupt::install();
    match commands::dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}

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
use clap::error::ErrorKind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    interrupt::install();
    match commands::dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}

/// The command line cannot be used. Of text that is not UTF-8 the parser does not say where it was.
fn refused(error: &clap::Error) -> ExitCode {
    let mut given = std::env::args_os();
    let unreadable = given.find(|argument| argument.to_str().is_none());
    match unreadable.filter(|_| error.kind() == ErrorKind::InvalidUtf8) {
        None => error.exit(),
        Some(argument) => {
            let error = error::CliError::Usage(format!(
                "{argument:?} is not UTF-8, which this option needs; of a file of that name, give a \
                 path through a link with another name"
            ));
            output::error(&error);
            error.exit_code()
        }
    }
}

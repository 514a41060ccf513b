//! Why something could not be measured.

use std::io;
use std::path::Path;

/// A result of this program.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A child ended badly, or wrote something else than it should have.
    #[error("{problem}: {command}\n{tail}")]
    Child {
        /// The command, as one would type it.
        command: String,
        /// What is wrong with it.
        problem: String,
        /// The end of what it wrote to stderr.
        tail: String,
    },
    /// A child took too long and was ended.
    #[error("ended after {seconds} s: {command}")]
    Timeout {
        /// The command, as one would type it.
        command: String,
        /// How long it was given.
        seconds: u64,
    },
    /// A file or a program could not be used.
    #[error("{what}: {reason}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        reason: io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failure(String),
}

impl BenchError {
    /// A failure with no cause of a known kind.
    pub fn failure(message: impl ToString) -> Self {
        Self::Failure(message.to_string())
    }

    /// Something that could not be done with a path.
    pub fn path(what: &str, path: &Path, reason: io::Error) -> Self {
        let what = format!("cannot {what} {}", path.display());
        Self::Io { what, reason }
    }

    /// What a cell of a table says in place of a number.
    pub fn in_a_cell(&self) -> String {
        match self {
            Self::Timeout { seconds, .. } => format!("> {seconds} s"),
            _ => "failed".to_owned(),
        }
    }
}

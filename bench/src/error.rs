//! Why something could not be measured.

use std::io;
use std::path::Path;

/// A result of this program.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A child failed, or wrote something unexpected.
    #[error("{problem}: {command}\n{tail}")]
    Child {
        /// The command line.
        command: String,
        /// What is wrong.
        problem: String,
        /// The end of what it wrote to stderr.
        tail: String,
    },
    /// A child took too long and was killed.
    #[error("stopped after {seconds} s: {command}")]
    Timeout {
        /// The command line.
        command: String,
        /// How long it was given.
        seconds: u64,
    },
    /// A file or a program could not be used.
    #[error("{what}: {reason}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        reason: io::Error,
    },
    /// A peer does not do what was asked: a result, not a failure.
    #[error("{0}")]
    Cannot(String),
    /// Anything else.
    #[error("{0}")]
    Failure(String),
}

impl BenchError {
    /// A failure of any other kind.
    pub fn failure(message: impl ToString) -> Self {
        Self::Failure(message.to_string())
    }

    /// Something that could not be done with a path.
    pub fn path(what: &str, path: &Path, reason: io::Error) -> Self {
        let what = format!("cannot {what} {}", path.display());
        Self::Io { what, reason }
    }

    /// Whether it is something wrong, and not what a peer is like.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Timeout { .. } | Self::Cannot(_))
    }

    /// What a cell of a table says in place of a number.
    pub fn in_a_cell(&self) -> String {
        match self {
            Self::Timeout { seconds, .. } => format!("> {seconds} s"),
            Self::Cannot(_) => "cannot".to_owned(),
            _ => "failed".to_owned(),
        }
    }
}

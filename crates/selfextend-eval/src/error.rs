//! What can go wrong in an evaluation, worded so that a user can act on it.

use selfextend::method::MethodError;
use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// An error of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] selfextend::Error),
    /// A method that cannot be read.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A method that cannot run at a length.
    #[error("{method} cannot run at {context} tokens: {source}")]
    Unreachable {
        /// The method.
        method: String,
        /// Tokens asked for.
        context: usize,
        /// Why not.
        source: MethodError,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line of a file that is not what it should be.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A results file of other samples or settings.
    #[error("{path} holds the results of another run ({difference})")]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// What differs first, as in `lengths was [512], is [1024]`.
        difference: String,
    },
    /// Settings that cannot be run.
    #[error("{0}")]
    Settings(String),
    /// A picture that cannot be drawn.
    #[error("cannot draw the picture: {0}")]
    Picture(String),
}

impl EvalError {
    pub(crate) fn settings(message: impl Into<String>) -> Self {
        Self::Settings(message.into())
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn line(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        Self::Line {
            path: path.into(),
            line,
            reason: reason.into(),
        }
    }

    /// From the system's reason to the error of reading a file.
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read {
            path: path.into(),
            source,
        }
    }

    /// From the system's reason to the error of writing a file.
    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write {
            path: path.into(),
            source,
        }
    }
}

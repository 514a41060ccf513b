//! Why a crate could not be read.

use std::path::PathBuf;

/// Why a crate could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not Rust.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why parsing stopped.
        source: syn::Error,
    },
    /// A `mod` declaration has no file.
    #[error("{declared_in}: no file for `mod {name}`")]
    NoFile {
        /// The file with the declaration.
        declared_in: PathBuf,
        /// The module's name.
        name: String,
    },
}

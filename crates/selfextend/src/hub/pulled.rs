//! What a pull has to tell.

use std::path::{Path, PathBuf};

/// A model that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// Its file, or the config.json of its folder.
    pub path: PathBuf,
    /// Its files, each with what it was compared with. A path names a file that was there before and
    /// is compared with nothing: then there are none.
    pub verified: Vec<Verified>,
}

/// A file that is as long as its source says and has the checksum that its source publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its checksum in hexadecimal digits, SHA-256 of 64 or SHA-1 of 40 (git's, of small files);
    /// `None` where the source publishes none, so that only the length is known to be right.
    pub checksum: Option<String>,
}

impl Verified {
    pub(super) fn new(path: &Path, checksum: Option<String>) -> Self {
        Self {
            path: path.to_owned(),
            bytes: path.metadata().map_or(0, |found| found.len()),
            checksum,
        }
    }
}

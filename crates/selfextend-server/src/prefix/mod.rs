//! The keys and values of prompts, kept for prompts that start alike.

mod disk;
mod file;
mod tree;

pub use disk::Disk;
#[cfg(feature = "unstable")]
pub use file::read_bytes;
pub use tree::PrefixCache;

//! The keys and values of prompts, kept for prompts that start alike.

mod disk;
mod file;
mod tree;

pub use disk::Disk;
pub use tree::PrefixCache;

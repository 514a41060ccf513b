//! The tasks: each makes [`Sample`](crate::Sample)s for a model from its settings.
//!
//! `prompt` turns texts into tokens, `fit` finds the longest text for a length, `haystack` holds
//! the filler and the depths of what is hidden in it, `data` reads files; every other file is a
//! task.

pub mod ablation;
pub mod babilong;
pub mod choice;
pub mod compare;
mod data;
mod fit;
pub mod graph_walks;
mod haystack;
pub mod leval;
pub mod longbench;
pub mod mrcr;
pub mod needle;
pub mod nolima;
pub mod passkey;
pub mod perplexity;
mod prompt;
pub mod ruler;

pub use data::{files, read_text};
pub use prompt::Prompter;

//! The experiments of the SelfExtend paper and the field's long-context benchmarks.
//!
//! A **task** makes [`Sample`]s for a model; a [`Runner`] puts each of them to the model under
//! each [`Method`](selfextend::Method), computes what neighbouring samples share only once, and
//! hands over a [`Record`] as soon as it is there; [`RunWriter`] and [`RunFile`] keep records as
//! JSON lines, to go on with or to merge; a [`Report`] draws tables and pictures from them.
//!
//! ```no_run
//! use selfextend::{LoadOptions, TextModel};
//! use selfextend_eval::tasks::{Prompter, passkey};
//! use selfextend_eval::{Report, RunFile, Runner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = TextModel::load("model.gguf", LoadOptions::default())?;
//! let sweep = passkey::Sweep {
//!     lengths: vec![4096, 8192],
//!     depths: vec![0.1, 0.5, 0.9],
//!     trials: 2,
//!     digits: 5,
//!     seed: 0,
//! };
//! let samples = sweep.samples(&Prompter::new(&model, false)?)?;
//! let methods = vec!["plain".parse()?, "selfextend:G=8,W=1024".parse()?];
//! let runner = Runner::new(&model, methods, samples);
//! let mut records = Vec::new();
//! runner.run(&[], &mut (), &mut |record| {
//!     records.push(record.clone());
//!     Ok(())
//! })?;
//! let header = runner.header("passkey", Default::default());
//! print!("{}", Report::new(&RunFile { header, records }).to_text());
//! # Ok(())
//! # }
//! ```

mod cost;
mod error;
mod measure;
mod memory;
pub mod metrics;
pub mod random;
mod reader;
mod record;
pub mod report;
mod runner;
mod sample;
pub mod tasks;

pub use cost::Speed;
pub use error::{EvalError, Result};
pub use memory::PeakMemory;
pub use record::{ChoiceOutcome, Header, Outcome, Record, RunFile, RunWriter};
pub use report::Report;
pub use runner::{BLOCK, Observer, Plan, Runner};
pub use sample::{Ask, Choice, Sample, Score, Shard, Tags};

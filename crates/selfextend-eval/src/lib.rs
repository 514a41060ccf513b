//! The experiments of the SelfExtend paper and the field's long-context benchmarks.
//!
//! A **task** makes [`Sample`]s for a model. An [`Evaluation`] puts each of them to the model
//! under each [`Method`](selfextend::Method), computes shared prefixes once, and hands over each
//! [`Record`] as soon as it exists. [`RunWriter`] and [`RunFile`] keep records as JSON lines, to
//! continue or to merge. A [`Report`] draws tables and pictures from them.
//!
//! ```no_run
//! use selfextend::{LoadOptions, TextModel};
//! use selfextend_eval::tasks::{Prompter, passkey};
//! use selfextend_eval::{Evaluation, Report, RunFile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = TextModel::load("model.gguf", LoadOptions::default())?;
//! let mut sweep = passkey::Sweep::new(vec![4096, 8192]);
//! sweep.trials = 2;
//! let samples = sweep.samples(&Prompter::new(&model, false)?)?;
//! let methods = vec!["plain".parse()?, "selfextend:G=8,W=1024".parse()?];
//! let evaluation = Evaluation::new(&model, methods, samples);
//! let mut records = Vec::new();
//! evaluation.run(&[], &mut (), &mut |record| {
//!     records.push(record.clone());
//!     Ok(())
//! })?;
//! let fingerprint = selfextend::fingerprint("model.gguf".as_ref())?;
//! let header = evaluation.header("passkey", &fingerprint, Default::default());
//! print!("{}", Report::new(&RunFile { header, records }).to_text());
//! # Ok(())
//! # }
//! ```
//!
//! What a run will cost is asked before it starts: [`Evaluation::estimate`] for samples, [`Speed`]
//! for anything else that reads or generates tokens.

mod cost;
mod error;
mod memory;
pub mod metrics;
pub mod random;
mod record;
pub mod report;
mod results;
mod run;
mod sample;
mod shard;
pub mod tasks;

pub use cost::Speed;
pub use error::{EvalError, Result};
pub use memory::PeakMemory;
pub use record::{ChoiceOutcome, Header, LIKELIHOOD_BLOCK, Outcome, Record};
pub use report::Report;
pub use results::{RunFile, RunWriter};
pub use run::{Estimate, Evaluation, Observer};
pub use sample::{Ask, Choice, RightAnswer, Sample, Score, Tags};
pub use shard::Shard;

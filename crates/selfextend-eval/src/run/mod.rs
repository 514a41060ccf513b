//! Runs samples under methods, one result at a time.
//!
//! [`Evaluation`] says what runs; `schedule` orders it so that shared prefixes are computed once;
//! `estimate` goes through the schedule without computing; `execute` runs it, with a `reader` for
//! each session and a `measurement` for each sample.

mod estimate;
mod evaluation;
mod execute;
mod measurement;
mod observer;
mod reader;
mod schedule;

pub use estimate::Estimate;
pub use evaluation::Evaluation;
pub use observer::Observer;

//! Scores of answers, and how certain their means are.

mod intervals;

pub use intervals::{Interval, Summary, bootstrap_mean, bootstrap_perplexity, wilson};

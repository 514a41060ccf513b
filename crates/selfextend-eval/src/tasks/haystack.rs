//! What answers are hidden in: the filler that several tasks repeat, and depths.

use crate::error::{EvalError, Result};

/// A line of noise: passkey retrieval's and RULER's.
pub(super) const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// Refuses depths outside 0 (the start of the text) to 1 (its end).
pub(super) fn check_depths(depths: &[f64]) -> Result<()> {
    let Some(depth) = depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) else {
        return Ok(());
    };
    let reason = format!("the depth {depth} does not lie between 0 and 1");
    Err(EvalError::settings(reason))
}

/// The depths, the deepest first, each once: samples in this order share the longest prefixes.
pub(super) fn deepest_first(depths: &[f64]) -> Vec<f64> {
    let mut depths = depths.to_vec();
    depths.sort_by(|a, b| b.total_cmp(a));
    depths.dedup();
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_checked_and_ordered() {
        assert!(check_depths(&[0.0, 1.0]).is_ok());
        assert!(check_depths(&[0.5, 1.1]).is_err() && check_depths(&[f64::NAN]).is_err());
        assert_eq!(deepest_first(&[0.1, 0.9, 0.1]), [0.9, 0.1]);
    }
}

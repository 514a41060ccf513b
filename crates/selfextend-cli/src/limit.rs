//! Long work says what it costs before it starts, and needs `--up-to` above an hour.

use crate::args::limit::LimitArgs;
use crate::error::{CliError, Result};
use crate::output;

impl LimitArgs {
    /// Refuses work that is estimated to take longer than allowed; `less` says how to ask for less.
    ///
    /// # Errors
    /// A usage error that names both ways out.
    pub fn check(&self, seconds: f64, less: &str) -> Result<()> {
        if seconds <= self.up_to * 3600.0 {
            return Ok(());
        }
        Err(CliError::usage(format!(
            "about {} of work is more than the {} that --up-to allows: ask for less with {less}, or run all of it with --up-to {}",
            output::duration(seconds),
            output::duration(self.up_to * 3600.0),
            enough(seconds),
        )))
    }
}

/// Whole hours that leave room for an estimate a quarter too low.
fn enough(seconds: f64) -> f64 {
    (seconds * 1.25 / 3600.0).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_above_the_limit_is_refused_with_both_ways_out() {
        let limit = LimitArgs { up_to: 1.0 };
        limit.check(3600.0, "--quick").unwrap();
        let refused = limit.check(32.0 * 3600.0, "--quick").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "about 32.0 h of work is more than the 60 min that --up-to allows: ask for less with --quick, or run all of it with --up-to 40"
        );
        LimitArgs { up_to: 40.0 }.check(32.0 * 3600.0, "").unwrap();
        LimitArgs {
            up_to: f64::INFINITY,
        }
        .check(1e9, "")
        .unwrap();
    }
}

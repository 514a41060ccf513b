//! How long a command may take before it must be asked for explicitly.

use super::values::hours;
use clap::Args;

/// The limit of long commands, which estimate their time before they start.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Run")]
pub struct LimitArgs {
    /// Refuse to start if the estimated time on this machine is longer than this.
    #[arg(long, default_value_t = 1.0, value_name = "HOURS", value_parser = hours)]
    pub up_to: f64,
}

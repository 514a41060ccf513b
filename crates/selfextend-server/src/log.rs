//! The log on stderr.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Writes the log to stderr: lines for people, or JSON. `RUST_LOG` chooses levels; without it,
/// `info` and above are written. Lines are coloured on a terminal only, and not where `NO_COLOR` is
/// set.
pub fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An error means that the caller has set up a log of its own already.
    let _ = if json {
        log.json().try_init()
    } else {
        log.with_target(false).try_init()
    };
}

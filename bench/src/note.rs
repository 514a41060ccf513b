//! Messages for the user, on stderr.

use std::io::Write;

/// Writes a line to stderr; a closed stderr is not an error.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

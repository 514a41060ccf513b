//! Input: files and stdin, checked to be text.

use crate::error::{CliError, Result};
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

/// A text file's contents; `-` is stdin.
pub fn file(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return stdin();
    }
    let bytes = fs::read(path)
        .map_err(|error| CliError::failure(format!("cannot read {}: {error}", path.display())))?;
    checked(bytes, &path.display().to_string())
}

/// All of stdin.
pub fn stdin() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::failure(format!("cannot read stdin: {error}")))?;
    checked(bytes, "stdin")
}

/// Whether text may be waiting on stdin.
pub fn stdin_is_piped() -> bool {
    !io::stdin().is_terminal()
}

/// The text, without a byte order mark.
pub fn checked(bytes: Vec<u8>, name: &str) -> Result<String> {
    let nul = bytes.iter().position(|&byte| byte == 0);
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let at = nul.map_or(at, |nul| nul.min(at));
        unreadable(name, at, "not UTF-8")
    })?;
    if let Some(at) = nul {
        return Err(unreadable(name, at, "a NUL byte"));
    }
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn unreadable(name: &str, at: usize, what: &str) -> CliError {
    CliError::failure(format!(
        "{name} is not readable text: {what} at byte {at}; is it a binary file, or in another encoding?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_refused_with_its_place() {
        assert_eq!(checked("\u{feff}é".into(), "x").unwrap(), "é");
        let latin1 = checked(b"caf\xe9".to_vec(), "x.txt")
            .unwrap_err()
            .to_string();
        assert!(
            latin1.contains("x.txt") && latin1.contains("byte 3"),
            "{latin1}"
        );
        let binary = checked(b"ab\0\xff".to_vec(), "x").unwrap_err().to_string();
        assert!(binary.contains("byte 2"), "{binary}");
    }
}

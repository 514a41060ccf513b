//! Output: results to stdout, notes to stderr, files whole or not at all.

use crate::error::{CliError, Result};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Writes text to stdout at once.
pub fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_error)
}

/// Writes a line to stdout.
pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Writes a value to stdout as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&to_json(value)?)
}

/// A value as one line of JSON.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| CliError::failure(error.to_string()))
}

/// Writes a line to stderr; a stderr that is closed is ignored.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes an error to stderr, where there is something to say.
pub fn error(error: &CliError) {
    if let CliError::Usage(message) | CliError::Failure(message) = error {
        note(&format!("error: {message}"));
    }
}

/// Whether stdout takes colours.
pub fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !refused
}

/// A number rounded to at most `digits` decimals, for JSON that people read too.
pub fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

/// A count with its digits in groups of three.
pub fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// How many per second; 0 if no time has passed.
pub fn rate(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Bytes in MiB (2^20 bytes), the unit of every size in messages, with one decimal: `88.6 MiB`.
pub fn size(bytes: usize) -> String {
    format!("{:.1} MiB", mib(bytes))
}

/// Bytes in MiB, with one decimal.
pub fn mib(bytes: usize) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 20), 1)
}

/// A time to wait, in seconds, minutes or hours.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn stdout_error(error: io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::ClosedPipe,
        _ => CliError::failure(format!("cannot write the output: {error}")),
    }
}

/// Writes a file whole or not at all; `-` is stdout. Something that exists and is not a regular
/// file, such as a pipe, is written to directly.
pub fn file(path: &Path, contents: &str) -> Result<()> {
    bytes(path, contents.as_bytes())
}

/// As [`file()`], for bytes that are not text.
pub fn bytes(path: &Path, contents: &[u8]) -> Result<()> {
    if path == Path::new("-") {
        let mut out = io::stdout().lock();
        return out
            .write_all(contents)
            .and_then(|()| out.flush())
            .map_err(stdout_error);
    }
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::ClosedPipe,
        _ => CliError::failure(format!("cannot write {}: {error}", path.display())),
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(CliError::failure(format!(
            "cannot write {}: it is a directory",
            path.display()
        ))),
        Ok(found) if !found.is_file() => fs::write(path, contents).map_err(failed),
        // A link stays a link: its target is replaced.
        Ok(_) => replace(&fs::canonicalize(path).map_err(failed)?, contents).map_err(failed),
        Err(_) => replace(path, contents).map_err(failed),
    }
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    let written = File::create_new(&draft).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Beside the file, as only a rename within a file system is atomic.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(rounded(1.234_567_89, 3), 1.235);
        assert_eq!(rate(10, 0.0), 0.0);
        assert_eq!(size(92_871_040), "88.6 MiB");
        assert_eq!(size(0), "0.0 MiB");
        let times = [4.4, 89.0, 90.0, 5399.0, 5400.0, 115_200.0].map(duration);
        assert_eq!(times, ["4 s", "89 s", "2 min", "90 min", "1.5 h", "32.0 h"]);
    }

    #[test]
    fn files_are_replaced_whole_and_leave_no_drafts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svg");
        file(&path, "one").unwrap();
        file(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert!(file(dir.path(), "three").is_err());
        assert!(file(&dir.path().join("no/where.svg"), "four").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

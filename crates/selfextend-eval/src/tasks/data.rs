//! Reads the data files of tasks.

use crate::error::{EvalError, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A text file's contents.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or is empty.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(EvalError::reading(path))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        EvalError::file(path, format!("not UTF-8 at byte {at}"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(EvalError::file(path, "the file holds no text"));
    }
    Ok(text.to_owned())
}

/// The given files, with folders replaced by the files in them that end in `.extension`, sorted
/// by name.
///
/// # Errors
/// Paths that do not exist, and folders without such files.
pub fn files(paths: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let failed = EvalError::reading(path);
        if !std::fs::metadata(path).map_err(&failed)?.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(&failed)?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()).map_err(&failed));
        let mut inside = entries.collect::<Result<Vec<_>>>()?;
        inside.retain(|file| file.extension().is_some_and(|found| found == extension));
        inside.sort();
        if inside.is_empty() {
            let reason = format!("no .{extension} files in this folder");
            return Err(EvalError::file(path, reason));
        }
        found.append(&mut inside);
    }
    if found.is_empty() {
        return Err(EvalError::settings("no files given"));
    }
    Ok(found)
}

/// The name of a file without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| EvalError::line(path, error.line(), error.to_string()))
}

/// One object of a JSON-lines file.
pub(super) struct Line<'a> {
    path: &'a Path,
    /// From 1.
    number: usize,
    value: Value,
}

/// The objects of a JSON-lines file; empty lines are skipped.
pub(super) fn json_lines(path: &Path) -> Result<Vec<Line<'_>>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let number = n + 1;
            let value: Value = serde_json::from_str(line)
                .map_err(|error| EvalError::line(path, number, format!("broken JSON: {error}")))?;
            if !value.is_object() {
                return Err(EvalError::line(path, number, "not a JSON object"));
            }
            Ok(Line {
                path,
                number,
                value,
            })
        })
        .collect()
}

/// The first `count` items, or all of them for 0.
pub(super) fn first<T>(items: &[T], count: usize) -> &[T] {
    match count {
        0 => items,
        count => &items[..count.min(items.len())],
    }
}

impl Line<'_> {
    pub(super) fn error(&self, reason: impl Into<String>) -> EvalError {
        EvalError::line(self.path, self.number, reason)
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn field<T>(&self, name: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let Some(value) = self.value.get(name) else {
            return Err(self.error(format!("the field {name:?} is missing")));
        };
        read(value).ok_or_else(|| self.error(format!("the field {name:?} is not {kind}")))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<String> {
        self.field(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn index(&self, name: &str, below: usize) -> Result<usize> {
        let index = self.field(name, "a whole number", Value::as_u64)? as usize;
        if index >= below {
            return Err(self.error(format!("{name} is {index}, but there are only {below}")));
        }
        Ok(index)
    }

    /// A list of texts, not empty.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let texts: Vec<String> = self.field(name, "a list of texts", |value| {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect()
        })?;
        if texts.is_empty() {
            return Err(self.error(format!("the list {name:?} is empty")));
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"a\": \"x\"}\n\n{\"a\": \n").unwrap();
        let error = json_lines(&path).err().unwrap().to_string();
        assert!(error.contains("a.jsonl, line 3: broken JSON"), "{error}");
        std::fs::write(&path, "{\"a\": 1}\n").unwrap();
        let lines = json_lines(&path).unwrap();
        let error = lines[0].text("a").unwrap_err().to_string();
        assert!(
            error.contains("line 1: the field \"a\" is not a text"),
            "{error}"
        );
        let error = lines[0].texts("b").unwrap_err().to_string();
        assert!(error.contains("\"b\" is missing"), "{error}");
        std::fs::write(&path, " \n").unwrap();
        assert!(
            json_lines(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("holds no text")
        );
    }
}

//! Models in several files, as llama.cpp's `gguf-split` writes them: `name-00001-of-00005.gguf` holds
//! the keys, and each part some of the tensors.

use super::header::{self, Header};
use super::metadata::{Metadata, Value};
use super::part_names::{base, name};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Keys of a part: its number, from 0; how many there are; tensors of all parts.
const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// One file of a model.
#[derive(Debug)]
pub(super) struct Part {
    pub path: PathBuf,
    /// Locked from a seek to the end of its read: tensors are read from several threads, and
    /// clones of a file share its place.
    pub file: Mutex<File>,
}

/// Opens all parts of the model whose first one `path` is, which may be the only one. The header has
/// the keys of the first part and the tensors of all.
///
/// # Errors
/// As [`header::read`]; [`Error::Model`] for a part that is missing, is not the one that its name
/// says, or contradicts the first.
pub(super) fn open(path: &Path) -> Result<(Header, Vec<Part>)> {
    let (mut header, part) = open_part(path)?;
    let mut parts = vec![part];
    let count = number(path, &header.metadata, COUNT)?.unwrap_or(1).max(1);
    let first = number(path, &header.metadata, NUMBER)?.unwrap_or(0);
    if first >= count {
        return Err(bad(
            path,
            format!("{NUMBER} is {first}, but {COUNT} {count}"),
        ));
    }
    if first > 0 {
        let name = base(path, first, count).map(|base| name(&base, 0, count));
        let name = name.map_or(String::new(), |name| format!(", {name}"));
        let reason = format!("is part {} of {count}; name the first one{name}", first + 1);
        return Err(bad(path, reason));
    }
    if count > 1 {
        let base = base(path, 0, count).ok_or_else(|| {
            let end = name("", 0, count);
            let reason =
                format!("is part 1 of {count}; its name must end in {end} to find the others");
            bad(path, reason)
        })?;
        for n in 1..count {
            let part = path.with_file_name(name(&base, n, count));
            parts.push(add(&mut header, path, &part, n, count)?);
        }
    }
    let tensors = number(path, &header.metadata, TENSORS)?;
    match tensors.filter(|tensors| *tensors != header.tensors.len()) {
        Some(tensors) if count > 1 => {
            let found = header.tensors.len();
            let reason = format!("its parts have {found} tensors, but {TENSORS} is {tensors}");
            Err(bad(path, reason))
        }
        _ => Ok((header, parts)),
    }
}

/// Adds the tensors of part `n` of `count` to the header of the first.
fn add(header: &mut Header, first: &Path, path: &Path, n: usize, count: usize) -> Result<Part> {
    let (found, part) = open_part(path).map_err(|error| match error {
        Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => bad(
            path,
            format!(
                "is missing: it is part {} of {count} of {}",
                n + 1,
                first.display()
            ),
        ),
        error => error,
    })?;
    let said = [NUMBER, COUNT].map(|key| number(path, &found.metadata, key));
    let [number, total] = said;
    let (number, total) = (number?, total?);
    if (number, total) != (Some(n), Some(count)) {
        let words = |number: Option<usize>| number.map_or("missing".into(), |n| n.to_string());
        return Err(bad(
            path,
            format!(
                "is not part {} of {count}, as its name says: {NUMBER} is {}, {COUNT} {}",
                n + 1,
                words(number),
                words(total)
            ),
        ));
    }
    let others = found.metadata.iter();
    for (key, value) in others.filter(|(key, _)| !is_own(key)) {
        if header.metadata.get(key) != Some(value) {
            let reason = format!("{key} is {value}, which is not what the first part says");
            return Err(bad(path, reason));
        }
    }
    for (name, mut place) in found.tensors {
        place.part = n;
        if header.tensors.insert(name.clone(), place).is_some() {
            return Err(bad(
                path,
                format!("tensor {name} is in an earlier part too"),
            ));
        }
    }
    Ok(part)
}

/// Whether parts have a key with values of their own.
fn is_own(key: &str) -> bool {
    key.starts_with("split.") || key == header::ALIGNMENT
}

fn open_part(path: &Path) -> Result<(Header, Part)> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if metadata.is_dir() {
        return Err(bad(path, "is a folder; name the .gguf file in it".into()));
    }
    let header = header::read(path, metadata.len(), BufReader::new(&file))?;
    let part = Part {
        path: path.to_owned(),
        file: Mutex::new(file),
    };
    Ok((header, part))
}

fn number(path: &Path, metadata: &Metadata, key: &str) -> Result<Option<usize>> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    let number = Value::as_integer(value).and_then(|n| u32::try_from(n).ok());
    let number =
        number.ok_or_else(|| bad(path, format!("{key} should be a size, but is {value}")))?;
    Ok(Some(number as usize))
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Model {
        path: path.to_owned(),
        reason,
    }
}

//! Names of the files of a split model, `name-00001-of-00005.gguf`, as llama.cpp's `gguf-split` writes
//! them.

use std::path::{Path, PathBuf};

/// The name of part `n` (from 0) of `count`.
pub(crate) fn name(base: &str, n: usize, count: usize) -> String {
    format!("{base}-{:05}-of-{count:05}.gguf", n + 1)
}

/// What comes before the number in the name of part `n` of `count`.
pub(super) fn base(path: &Path, n: usize, count: usize) -> Option<String> {
    let name_of_part = path.file_name()?.to_str()?;
    let base = name_of_part.strip_suffix(&name("", n, count))?;
    Some(base.to_owned())
}

/// The base of a part's name, its number from 0 and how many there are; `None` for other names.
pub(crate) fn parse(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        let plain = text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    let (number, count): (usize, usize) = (digits(number)?, digits(count)?);
    (1..=count)
        .contains(&number)
        .then(|| (base, number - 1, count))
}

/// The paths of the other parts of the model whose first part has this path; none for other names.
pub(crate) fn others(path: &Path) -> impl Iterator<Item = PathBuf> {
    let file = path.file_name().and_then(|name| name.to_str());
    let (base, count) = match file.and_then(parse) {
        Some((base, 0, count)) => (base, count),
        _ => ("", 1),
    };
    (1..count).map(move |n| path.with_file_name(name(base, n, count)))
}

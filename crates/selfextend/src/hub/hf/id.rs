//! Names of hub models, and of the files in them.

use crate::gguf::part_names;
use crate::hub::error::HubError;

/// A model of the hub: `owner/name`, and the file of it, if one was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub) struct HubId {
    pub(super) repo: String,
    pub(super) file: Option<String>,
    /// A part of the file's name instead, as `Q4_K_M`.
    pub(super) pattern: Option<String>,
}

impl HubId {
    /// Reads `owner/name[:file]` or `owner/name:pattern`; `None` for anything else.
    pub(in crate::hub) fn parse(spec: &str) -> Result<Option<Self>, HubError> {
        let (repo, file) = match spec.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (spec, None),
        };
        if !repo
            .split_once('/')
            .is_some_and(|(owner, name)| is_id(owner) && is_id(name))
        {
            return Ok(None);
        }
        let repo = repo.to_owned();
        let id = |file: Option<&str>, pattern: Option<&str>| {
            Some(Self {
                repo: repo.clone(),
                file: file.map(str::to_owned),
                pattern: pattern.map(str::to_owned),
            })
        };
        match file {
            None => Ok(id(None, None)),
            Some(file) if is_gguf_file(file) => Ok(id(Some(file), None)),
            Some(pattern) if is_pattern(pattern) => Ok(id(None, Some(pattern))),
            Some(file) => {
                let file = file.to_owned();
                Err(HubError::BadHubFile { repo, file })
            }
        }
    }

    /// The model and the file, for messages.
    pub(super) fn what(&self, file: &str) -> String {
        format!("{}:{file}", self.repo)
    }
}

fn is_id(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    starts_well
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
}

/// Whether this is the path of a GGUF file within a model. It becomes part of URLs and of paths in the
/// cache, so characters with a meaning there are refused.
pub(super) fn is_gguf_file(file: &str) -> bool {
    let plain = file
        .chars()
        .all(|it| it.is_ascii_alphanumeric() || "-_.+=@,()[]~/".contains(it));
    let inside = file.split('/').all(|step| !matches!(step, "" | "." | ".."));
    plain && inside && file.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether this may be a part of a file's name: letters, digits, `_` and `-`.
fn is_pattern(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// Whether a file's name has a pattern in it, whole: `Q4_K` is not in `x-Q4_K_M.gguf`. The case of
/// letters does not matter.
fn has_pattern(file: &str, pattern: &str) -> bool {
    let (file, pattern) = (file.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let ends_name =
        |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    file.match_indices(&pattern).any(|(at, _)| {
        let bytes = file.as_bytes();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        ends_name(before) && ends_name(bytes.get(at + pattern.len()))
    })
}

/// The files that belong together with a file: all parts of one that was split, the first one first.
pub(super) fn parts(file: &str) -> Vec<String> {
    match part_names::parse(file) {
        Some((base, _, count)) => (0..count)
            .map(|n| part_names::name(base, n, count))
            .collect(),
        None => vec![file.to_owned()],
    }
}

/// The file that is meant if none is named: the only one, or the only one with the pattern. Which of
/// several is best depends on the machine and on preference, so the user must choose. Of a split
/// file the first part stands for all.
pub(super) fn only_gguf(id: &HubId, mut files: Vec<String>) -> Result<String, HubError> {
    let repo = id.repo.clone();
    files.retain(|file| part_names::parse(file).is_none_or(|(_, n, _)| n == 0));
    if let (Some(pattern), false) = (&id.pattern, files.is_empty()) {
        let (with, without): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|file| has_pattern(file, pattern));
        if with.is_empty() {
            return Err(HubError::NoSuchGguf {
                repo,
                pattern: pattern.clone(),
                files: without,
            });
        }
        files = with;
    }
    match (files.pop(), files.is_empty()) {
        (None, _) => Err(HubError::NoGguf { repo }),
        (Some(file), true) => Ok(file),
        (Some(file), false) => {
            files.push(file);
            Err(HubError::SeveralGguf { repo, files })
        }
    }
}

//! Where tests find data that is not part of the repository.

use std::path::PathBuf;

/// The path of a file under the shared data folder (`SELFEXTEND_SHARED`, or
/// `shared` beside the workspace); `None`, with a line on stderr, when it is absent.
pub(crate) fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SELFEXTEND_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")));
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/{relative} is absent");
    None
}

/// The GGUF file of SmolLM2-135M-Instruct named by `SELFEXTEND_SMOLLM2`; `None`, with a
/// line on stderr, when it is absent.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let path = std::env::var_os("SELFEXTEND_SMOLLM2").map(PathBuf::from);
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: SELFEXTEND_SMOLLM2 does not name a SmolLM2 GGUF file");
    }
    found
}

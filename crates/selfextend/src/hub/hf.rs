//! Models of the Hugging Face hub, kept in the cache that all programs using the hub share.
//!
//! The requests are our own, on `ureq`: the crate hf-hub verifies nothing, demands headers that
//! mirrors do not send, and knows no offline mode.

mod agent;
mod checksum;
mod client;
mod folder;
mod id;
mod listing;
mod repo;
mod transfer;

use std::fs;
use std::io;
use std::iter::once;
use std::path::{Path, PathBuf};

use super::error::HubError;
use super::options::{Phase, Progress, PullOptions};
use super::pulled::{Pulled, Verified};
use checksum::{Expected, sha256};
use client::{Client, Wish};
use folder::CONFIG;
pub(super) use id::HubId;
use id::{is_gguf_file, only_gguf, parts};
use listing::Listing;
use repo::{BRANCH, RepoCache, is_name};
use transfer::Transfer;

use crate::gguf::part_names;

/// The file of a model that was downloaded before, by whatever program. A folder is found if it
/// is known that nothing of it lacks.
pub(super) fn locate(id: &HubId, options: &PullOptions) -> Result<Option<PathBuf>, HubError> {
    Ok(match stored(id, &cache_of(id, options)?)? {
        Some(stored) if stored.lacking.is_empty() => Some(stored.path),
        _ => None,
    })
}

/// Downloads a file of a model; where none is named and it has no GGUF file, its folder with
/// safetensors, of which the path of config.json is returned.
pub(super) fn pull(
    id: &HubId,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, HubError> {
    let cache = cache_of(id, options)?;
    if options.hub_offline {
        return offline(id, &cache, progress);
    }
    let client = Client::new(options)?;
    Pull {
        id,
        client: &client,
        cache: &cache,
        progress,
        verified: Vec::new(),
    }
    .run()
}

fn cache_of(id: &HubId, options: &PullOptions) -> Result<RepoCache, HubError> {
    let root = options.hub_cache.clone().ok_or(HubError::NoCacheDir {
        setting: "HF_HUB_CACHE",
    })?;
    Ok(RepoCache::new(root, &id.repo, !options.hub_copies))
}

/// What the cache has of a model.
struct Stored {
    /// The file that stands for the model.
    path: PathBuf,
    commit: String,
    listing: Option<Listing>,
    /// Files that are not there, or are not known not to exist.
    lacking: Vec<String>,
}

fn stored(id: &HubId, cache: &RepoCache) -> Result<Option<Stored>, HubError> {
    let Some(commit) = cache.commit() else {
        return Ok(None);
    };
    let snapshot = cache.snapshot(&commit);
    let listing = cache.listing(&commit);
    let file = match &id.file {
        Some(file) => Some(file.clone()),
        None => match gguf_files(&snapshot, "") {
            files if files.is_empty() && id.pattern.is_none() => None,
            files => match only_gguf(id, files) {
                Err(HubError::NoGguf { .. } | HubError::NoSuchGguf { .. }) => return Ok(None),
                file => Some(file?),
            },
        },
    };
    let (path, lacking) = match file {
        Some(file) => {
            let is_there = |file: &str| {
                let entry = listing.as_ref().and_then(|it| it.files.get(file));
                let size = entry.and_then(|entry| entry.expected().size);
                let found = snapshot.join(file).metadata();
                found.is_ok_and(|it| it.is_file() && size.is_none_or(|size| size == it.len()))
            };
            let parts = parts(&file);
            let path = snapshot.join(&parts[0]);
            let lacking = parts.into_iter().filter(|file| !is_there(file));
            (path, lacking.collect())
        }
        None => {
            let is_absent = |file: &str| cache.is_absent(&commit, file);
            let lacking = folder::lacking(&snapshot, listing.as_ref(), &is_absent);
            (snapshot.join(CONFIG), lacking)
        }
    };
    Ok(Some(Stored {
        path,
        commit,
        listing,
        lacking,
    }))
}

/// The GGUF files in a directory, named as the hub names them.
fn gguf_files(dir: &Path, prefix: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path() {
            path if path.is_dir() => files.extend(gguf_files(&path, &format!("{name}/"))),
            path if path.is_file() && is_gguf_file(&name) => files.push(name),
            _ => {}
        }
    }
    files.sort();
    files
}

/// The model in the cache, verified as far as its checksums are known there. Files that a model
/// need not have are not missed.
fn offline(
    id: &HubId,
    cache: &RepoCache,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, HubError> {
    let missing = |what: String| HubError::Offline {
        cache: cache.root().to_owned(),
        what,
    };
    let mut stored = stored(id, cache)?.ok_or_else(|| missing(id.repo.clone()))?;
    let snapshot = cache.snapshot(&stored.commit);
    if stored.listing.is_none() && id.file.is_none() {
        stored.lacking = folder::lacking_of_needed(&snapshot, stored.lacking);
    }
    // Files that lack because their lengths are wrong are damaged, which is said first.
    let lacking = stored.lacking.iter().map(|name| snapshot.join(name));
    let mut files: Vec<PathBuf> = lacking.filter(|path| path.is_file()).collect();
    if stored.lacking.is_empty() {
        files = match stored.path.ends_with(CONFIG) {
            false => once(stored.path.clone())
                .chain(part_names::others(&stored.path))
                .collect(),
            true => folder::present(&snapshot),
        };
    }
    let mut verified = Vec::new();
    for path in files {
        let name = path.strip_prefix(&snapshot).unwrap_or(&path);
        let name = name.to_string_lossy().replace('\\', "/");
        let entry = stored.listing.as_ref().and_then(|it| it.files.get(&name));
        let mut expected = entry.map(listing::Entry::expected).unwrap_or_default();
        if expected.digest.is_none() {
            expected.digest = digest_of_link(&path);
        }
        if let Some(difference) = compare(&expected, &path, progress)? {
            return Err(HubError::Damaged {
                path,
                expected: difference.expected,
                got: difference.got,
            });
        }
        verified.push(Verified::new(&path, expected.digest));
    }
    if !stored.lacking.is_empty() {
        return Err(missing(id.what(&stored.lacking.join(", "))));
    }
    Ok(Pulled {
        path: stored.path,
        verified,
    })
}

/// The checksum that a link in the cache names by its target.
fn digest_of_link(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Expected::digest_in(target.file_name()?.to_str()?)
}

fn compare(
    expected: &Expected,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<checksum::Difference>, HubError> {
    let total = path.metadata().map_or(0, |found| found.len());
    let mut report = |done| {
        progress(Progress {
            phase: Phase::Verify,
            done,
            total,
        });
    };
    expected
        .compare(path, &mut report)
        .map_err(|error| HubError::in_hub_cache(path, 0, error))
}

/// One pull of a model over the network.
struct Pull<'a> {
    id: &'a HubId,
    client: &'a Client,
    cache: &'a RepoCache,
    progress: &'a mut dyn FnMut(Progress),
    verified: Vec<Verified>,
}

impl Pull<'_> {
    fn run(mut self) -> Result<Pulled, HubError> {
        let listing = match (self.client.listing(&self.id.repo), &self.id.file) {
            (Ok(listing), _) => Some(listing),
            // A mirror of files alone.
            (
                Err(
                    HubError::HubNotFound { .. }
                    | HubError::Hub { .. }
                    | HubError::HubDenied { .. },
                ),
                Some(_),
            ) => None,
            (Err(error), _) => return Err(error),
        };
        let (path, commit) = match (&self.id.file, &listing) {
            (Some(file), _) => self.fetch_parts(file, listing.as_ref())?,
            (None, Some(listing)) => self.choose(listing)?,
            (None, None) => unreachable!("without a listing a file is named"),
        };
        let noted = match &listing {
            Some(listing) => self.cache.store_listing(listing),
            None => Ok(()),
        };
        // Last of all: what a branch leads to is then there.
        noted
            .and_then(|()| self.cache.store_commit(&commit))
            .map_err(|error| HubError::in_hub_cache(&self.cache.home(), 0, error))?;
        Ok(Pulled {
            path,
            verified: self.verified,
        })
    }

    /// The files of a model for which none was named.
    fn choose(&mut self, listing: &Listing) -> Result<(PathBuf, String), HubError> {
        let names = listing.files.keys();
        let gguf: Vec<_> = names.filter(|file| is_gguf_file(file)).cloned().collect();
        let small = folder::small_files(listing);
        if !gguf.is_empty() || small.is_empty() || self.id.pattern.is_some() {
            return self.fetch_parts(&only_gguf(self.id, gguf)?, Some(listing));
        }
        for file in &small {
            self.fetch(file, Some(listing))?;
        }
        let snapshot = self.cache.snapshot(&listing.commit);
        let weights = folder::weights(&snapshot);
        let weights = weights.and_then(|weights| {
            folder::check_once(listing, &weights)?;
            Ok(weights)
        });
        let weights = weights.map_err(|reason| {
            let reason = format!("{}: {reason}", folder::INDEX);
            self.client.failed(&self.id.repo, reason)
        })?;
        for file in &weights {
            self.fetch(file, Some(listing))?;
        }
        Ok((snapshot.join(CONFIG), listing.commit.clone()))
    }

    /// [`Pull::fetch`] for a file and, if it was split, the other parts; returns the first.
    fn fetch_parts(
        &mut self,
        file: &str,
        listing: Option<&Listing>,
    ) -> Result<(PathBuf, String), HubError> {
        let parts = parts(file);
        let first = self.fetch(&parts[0], listing)?;
        for part in &parts[1..] {
            self.fetch(part, listing)?;
        }
        Ok(first)
    }

    /// Makes a file of the model be there and be right. Returns its path and its commit.
    fn fetch(
        &mut self,
        file: &str,
        listing: Option<&Listing>,
    ) -> Result<(PathBuf, String), HubError> {
        let what = self.id.what(file);
        let revision = listing.map_or(BRANCH, |listing| &listing.commit);
        let url = self.client.file_url(&self.id.repo, revision, file)?;
        let wish = Wish {
            url: &url,
            repo: &self.id.repo,
            what: &what,
        };
        let entry = listing.and_then(|listing| listing.files.get(file));
        if listing.is_some() && entry.is_none() {
            return Err(HubError::HubNotFound {
                endpoint: self.client.endpoint(),
                what,
            });
        }
        let mut expected = entry.map(listing::Entry::expected).unwrap_or_default();
        let (mut commit, mut tag) = (listing.map(|it| it.commit.clone()), None);
        if expected.digest.is_none() {
            let told = self.client.metadata(wish)?;
            expected.digest = told.expected.digest;
            expected.size = expected.size.or(told.expected.size);
            commit = commit.or(told.commit);
            tag = told.tag;
        }
        let Some(commit) = commit.filter(|commit| is_name(commit)) else {
            let reason = "it does not tell the file's commit (X-Repo-Commit), so it is not the \
                          hub, nor a mirror of it; check HF_ENDPOINT and the proxy";
            return Err(self.client.failed(&what, reason.into()));
        };
        let name = expected.digest.clone().or(tag);
        let path =
            self.place(wish, &commit, file, name, &expected)
                .map_err(|error| match error {
                    Failure::Hub(error) => error,
                    Failure::Local(error) => {
                        let home = self.cache.home();
                        HubError::in_hub_cache(&home, expected.size.unwrap_or(0), error)
                    }
                })?;
        Ok((path, commit))
    }

    /// The file in its snapshot, downloaded if it is not there or not right.
    fn place(
        &mut self,
        wish: Wish,
        commit: &str,
        file: &str,
        name: Option<String>,
        expected: &Expected,
    ) -> Result<PathBuf, Failure> {
        let pointer = self.cache.snapshot(commit).join(file);
        if pointer.is_file() {
            let known = Expected {
                size: expected.size,
                digest: expected.digest.clone().or_else(|| digest_of_link(&pointer)),
            };
            if compare(&known, &pointer, self.progress)?.is_none() {
                self.verified.push(Verified::new(&pointer, known.digest));
                return Ok(pointer);
            }
        }
        self.cache.prepare()?;
        // A file without a name of its own is not continued later: it could be another by then.
        let key = name.clone().unwrap_or_else(|| nameless(commit, file));
        let part = self.cache.blob(&format!("{key}.incomplete"));
        let total = expected.size.unwrap_or(0);
        let progress = &mut *self.progress;
        let _lock = self.cache.lock(&key, &mut || {
            progress(Progress {
                phase: Phase::Download,
                done: part.metadata().map_or(0, |found| found.len()),
                total,
            });
        })?;
        if name.is_none() {
            remove(&part)?;
        }
        let blob = self.cache.blob(&key);
        if !blob.is_file() || compare(expected, &blob, self.progress)?.is_some() {
            self.download(wish, expected, &part)?;
            let name = match &name {
                Some(name) => name.clone(),
                None => sha256(&part)?,
            };
            fs::File::open(&part)?.sync_all()?;
            fs::rename(&part, self.cache.blob(&name))?;
            return self.linked(&name, commit, file, expected);
        }
        self.linked(&key, commit, file, expected)
    }

    /// The file in its snapshot, made of a blob that was compared.
    fn linked(
        &mut self,
        blob: &str,
        commit: &str,
        file: &str,
        expected: &Expected,
    ) -> Result<PathBuf, Failure> {
        let path = self.cache.link(blob, commit, file)?;
        self.verified
            .push(Verified::new(&path, expected.digest.clone()));
        Ok(path)
    }

    /// Downloads a file and compares it, as it lies on the disk, with its checksum. What another
    /// pull began is thrown away once if the whole turns out wrong.
    fn download(&mut self, wish: Wish, expected: &Expected, part: &Path) -> Result<(), Failure> {
        loop {
            let progress = &mut *self.progress;
            let transfer = Transfer {
                client: self.client,
                wish,
                expected,
                part,
                report: &mut |done, total| {
                    progress(Progress {
                        phase: Phase::Download,
                        done,
                        total: total.unwrap_or(0),
                    });
                },
            };
            let was_continued = transfer.run()?;
            let Some(difference) = compare(expected, part, self.progress)? else {
                return Ok(());
            };
            remove(part)?;
            if !was_continued {
                return Err(Failure::Hub(HubError::Mismatch {
                    file: wish.what.to_owned(),
                    expected: difference.expected,
                    got: difference.got,
                }));
            }
        }
    }
}

/// A stand-in for the name of a file whose checksum nobody tells.
fn nameless(commit: &str, file: &str) -> String {
    format!("{commit}-{}", file.replace('/', "-"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Why a file could not be put in its place.
enum Failure {
    Hub(HubError),
    Local(io::Error),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

#[cfg(test)]
mod tests;

//! Models of the Hugging Face hub, kept in the cache that all programs using the hub share.

mod id;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use sha2::{Digest, Sha256};

use super::cache;
use super::error::{HubError, is_disk_full};
use super::options::{Phase, Progress, PullOptions};
pub(super) use id::HubId;
use id::{CONFIG, folder_files, is_gguf_file, only_gguf};

const ENDPOINT: &str = "https://huggingface.co";

/// Bytes hashed between two reports.
const CHUNK: usize = 1 << 20;

/// The file of a model that was downloaded before.
pub(super) fn locate(id: &HubId, options: &PullOptions) -> Result<Option<PathBuf>, HubError> {
    let cache = Cache::new(cache_dir(options)?);
    let file = match &id.file {
        Some(file) => file.clone(),
        None => match cached_files(&cache, id) {
            // It is downloaded last, so the other files of a folder are there.
            files if files.is_empty() => CONFIG.to_owned(),
            files => only_gguf(id, files)?,
        },
    };
    Ok(cache.repo(id.repo()).get(&file))
}

/// Downloads a file of a model; where none is named and it has no GGUF file, its folder with
/// safetensors, of which the path of config.json is returned.
pub(super) fn pull(
    id: &HubId,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, HubError> {
    let hub = Hub::new(options)?;
    let files = match &id.file {
        Some(file) => vec![file.clone()],
        None => hub.choose(id)?,
    };
    let mut reporter = Reporter {
        progress,
        done: 0,
        total: 0,
    };
    let mut last = PathBuf::new();
    for file in &files {
        last = hub
            .api
            .repo(id.repo())
            .download_with_progress(file, &mut reporter)
            .map_err(|error| hub.explain(error, id, Some(file), reporter.total))?;
        verify(&last, file, &mut reporter)?;
    }
    Ok(last)
}

fn cache_dir(options: &PullOptions) -> Result<PathBuf, HubError> {
    options
        .hub_cache
        .clone()
        .ok_or(HubError::NoCacheDir { setting: "HF_HOME" })
}

/// The GGUF files of a model that are in the cache.
fn cached_files(cache: &Cache, id: &HubId) -> Vec<String> {
    let repo = id.repo();
    let home = cache.path().join(repo.folder_name());
    match fs::read_to_string(home.join("refs").join(repo.revision())) {
        Ok(commit) => gguf_files(&home.join("snapshots").join(commit.trim()), ""),
        Err(_) => Vec::new(),
    }
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

struct Hub {
    api: Api,
    endpoint: String,
    cache: PathBuf,
}

impl Hub {
    fn new(options: &PullOptions) -> Result<Self, HubError> {
        let cache = cache_dir(options)?;
        let endpoint = options
            .hub_endpoint
            .as_deref()
            .unwrap_or(ENDPOINT)
            .to_owned();
        let scheme = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        if !scheme || !endpoint.chars().all(|it| it.is_ascii_graphic()) {
            return Err(HubError::BadEndpoint { endpoint });
        }
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let mut builder =
            ApiBuilder::from_cache(Cache::new(cache.clone())).with_endpoint(endpoint.clone());
        if options.hub_token.is_some() {
            builder = builder.with_token(options.hub_token.clone());
        }
        match builder.build() {
            Ok(api) => Ok(Self {
                api,
                endpoint,
                cache,
            }),
            Err(error) => Err(HubError::Hub {
                endpoint,
                what: "models".into(),
                reason: error.to_string(),
                cache,
            }),
        }
    }

    /// The files of a model for which none was named.
    fn choose(&self, id: &HubId) -> Result<Vec<String>, HubError> {
        let info = self.api.repo(id.repo()).info();
        let info = info.map_err(|error| self.explain(error, id, None, 0))?;
        let all: Vec<_> = info.siblings.into_iter().map(|it| it.rfilename).collect();
        let mut files = all.clone();
        files.retain(|file| is_gguf_file(file));
        files.sort();
        let folder = folder_files(all);
        if files.is_empty() && !folder.is_empty() {
            Ok(folder)
        } else {
            Ok(vec![only_gguf(id, files)?])
        }
    }

    fn explain(&self, error: ApiError, id: &HubId, file: Option<&str>, needed: u64) -> HubError {
        let (endpoint, repo) = (self.endpoint.clone(), id.repo.clone());
        let what = match file {
            Some(file) => format!("{repo}:{file}"),
            None => repo.clone(),
        };
        let reason = error.to_string();
        let cache = self.cache.join(id.repo().folder_name()).join("blobs");
        match error {
            ApiError::RequestError(error) => match error.into_response().map(|it| it.status()) {
                None => HubError::HubNetwork {
                    endpoint,
                    what,
                    reason,
                },
                Some(404) => HubError::HubNotFound { endpoint, what },
                Some(status @ (401 | 403)) => HubError::HubDenied {
                    endpoint,
                    repo,
                    status,
                },
                Some(_) => HubError::Hub {
                    endpoint,
                    what,
                    reason,
                    cache,
                },
            },
            // What has arrived so far stays, to continue from when there is room.
            ApiError::IoError(error) if is_disk_full(&error) => HubError::DiskFull {
                dir: self.cache.clone(),
                needed,
                setting: "HF_HOME",
            },
            ApiError::IoError(reason) if is_local(&reason) => HubError::Io {
                path: cache,
                reason,
            },
            ApiError::IoError(error) if error.kind() != io::ErrorKind::InvalidData => {
                HubError::HubNetwork {
                    endpoint,
                    what,
                    reason,
                }
            }
            ApiError::LockAcquisition(path) => HubError::Hub {
                endpoint,
                what,
                reason: format!("another process is downloading it ({})", path.display()),
                cache,
            },
            _ => HubError::Hub {
                endpoint,
                what,
                reason,
                cache,
            },
        }
    }
}

/// Whether an error concerns the cache: hf-hub has one kind of error for files and sockets.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied};
    let kinds = [AlreadyExists, NotADirectory, NotFound, PermissionDenied];
    kinds.contains(&error.kind()) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Passes on the progress reports of hf-hub.
struct Reporter<'a> {
    progress: &'a mut dyn FnMut(Progress),
    done: u64,
    total: u64,
}

impl Reporter<'_> {
    fn report(&mut self, phase: Phase) {
        (self.progress)(Progress {
            phase,
            done: self.done,
            total: self.total,
        });
    }
}

impl hf_hub::api::Progress for &mut Reporter<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.done, self.total) = (0, size as u64);
        self.report(Phase::Download);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.report(Phase::Download);
    }

    fn finish(&mut self) {}
}

/// Compares a downloaded file with its checksum, and removes it if they differ. The hub's cache
/// names large files by their SHA-256; small ones have other names and are not compared.
fn verify(path: &Path, file: &str, reporter: &mut Reporter) -> Result<(), HubError> {
    let fail = |reason| HubError::Io {
        path: path.to_path_buf(),
        reason,
    };
    let blob = path.canonicalize().map_err(fail)?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy();
    if name.len() != 64 || !name.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut source = File::open(&blob).map_err(fail)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    reporter.done = 0;
    loop {
        let count = source.read(&mut chunk).map_err(fail)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        reporter.done += count as u64;
        reporter.report(Phase::Verify);
    }
    let got = cache::hex(hash);
    if name.eq_ignore_ascii_case(&got) {
        return Ok(());
    }
    // The link first: a file that is no longer found cannot be mistaken for a good one.
    fs::remove_file(path)
        .and_then(|()| fs::remove_file(&blob))
        .map_err(fail)?;
    Err(HubError::Mismatch {
        file: file.into(),
        expected: format!("SHA-256 {name}"),
        got,
    })
}

#[cfg(test)]
mod tests;

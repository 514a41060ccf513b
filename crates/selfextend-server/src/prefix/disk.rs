//! Blocks of long prompts in files, across restarts.
//!
//! Files are written by a thread of their own, which nothing waits for. What cannot be used at the
//! next start is left out with a warning.

use super::file::{self, Header};
use crate::config::DiskCacheConfig;
use selfextend::{Block, Session};
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

const SUFFIX: &str = "kv";
/// Suffix of a file being written; one that is found at the start was left by a crash.
const DRAFT: &str = "part";
/// A file that has been written for so long is not being written any more.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Blocks that may wait to be written; they stay in memory until then.
const WAITING: usize = 256;

struct Job {
    header: Header,
    content: Content,
}

/// What a file holds.
enum Content {
    Block(Block),
    Bytes(Vec<u8>),
}

/// The thread that writes.
#[derive(Debug)]
pub struct Disk {
    config: DiskCacheConfig,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A block that was read.
pub struct Loaded {
    /// The number of the rung it is for.
    pub rung: usize,
    /// All tokens from the start of the prompt to the end of the block.
    pub tokens: Vec<u32>,
    pub block: Block,
}

impl Disk {
    /// Opens the directory and starts the thread.
    ///
    /// # Errors
    /// A directory that cannot be created or listed.
    pub fn open(config: DiskCacheConfig) -> io::Result<Self> {
        create(&config.dir)?;
        let now = SystemTime::now();
        let is_old = |changed| now.duration_since(changed).is_ok_and(|age| age > ABANDONED);
        // Another process may be writing the others.
        let drafts = files(&config.dir, DRAFT)?.into_iter();
        for (path, _) in drafts.filter(|(_, changed)| is_old(*changed)) {
            tracing::warn!(path = %path.display(), "removing a partly written file");
            let _ = fs::remove_file(path);
        }
        let (jobs, inbox) = sync_channel::<Job>(WAITING);
        let theirs = config.clone();
        let work = move || {
            for job in inbox {
                if let Err(error) = write(&theirs, &job) {
                    tracing::warn!(%error, dir = %theirs.dir.display(), "cannot keep a prefix");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("prefix-disk".into())
            .spawn(work)?;
        Ok(Self {
            config,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// The fewest tokens of a prompt that is kept.
    pub fn least_tokens(&self) -> usize {
        self.config.least_tokens
    }

    /// Queues a block that ends `tokens` to be written, or drops it where too many are queued;
    /// `identity` is that of [its rung](selfextend::Model::block_identity).
    pub fn keep(&self, identity: &str, tokens: &[u32], block: &Block) {
        let job = self.job(identity, tokens, block);
        let sent = |jobs: &SyncSender<Job>| jobs.try_send(job).is_ok();
        if !self.jobs.as_ref().is_some_and(sent) {
            tracing::debug!("too many blocks wait to be written: a prefix is not kept");
        }
    }

    /// [`Disk::keep`] that waits where too many are queued.
    pub fn keep_surely(&self, identity: &str, tokens: &[u32], block: &Block) {
        self.send(self.job(identity, tokens, block));
    }

    /// The same for bytes that are no block.
    pub fn keep_bytes(&self, identity: &str, tokens: &[u32], bytes: Vec<u8>) {
        self.send(Job {
            header: self.header(identity, tokens, bytes.len()),
            content: Content::Bytes(bytes),
        });
    }

    /// Where the block of a header is kept.
    pub fn path_of(&self, header: &Header) -> PathBuf {
        path_of(&self.config, header)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // An error means that the thread has panicked, which was reported.
            let _ = jobs.send(job);
        }
    }

    fn header(&self, identity: &str, tokens: &[u32], bytes: usize) -> Header {
        Header {
            model: self.config.model.clone(),
            identity: identity.to_owned(),
            tokens: tokens.to_vec(),
            bytes,
        }
    }

    fn job(&self, identity: &str, tokens: &[u32], block: &Block) -> Job {
        Job {
            header: self.header(identity, tokens, block.bytes()),
            content: Content::Block(block.clone()),
        }
    }

    /// The blocks of rungs with these identities (and an empty session of each) as far as `room`
    /// bytes hold them, the most recently used first. A block comes after those that it continues.
    pub fn load(&self, rungs: &[(String, Session)], mut room: usize) -> Vec<Loaded> {
        let mut loaded = Vec::new();
        let mut listed = files(&self.config.dir, SUFFIX).unwrap_or_default();
        listed.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        for (path, _) in listed {
            let rung_of = |header: &Header| {
                let same = |(identity, _): &(String, Session)| *identity == header.identity;
                let rung = rungs.iter().position(same)?;
                let fits = header.bytes == rungs[rung].1.block_bytes() && header.bytes <= room;
                (fits && header.model == self.config.model).then_some(rung)
            };
            let leave_out = |error: &dyn Display| {
                tracing::warn!(path = %path.display(), %error, "leaving out a damaged or foreign file");
            };
            let (header, bytes) = match file::read(&path, |header| rung_of(header).is_some()) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    leave_out(&error);
                    continue;
                }
            };
            let Some(rung) = rung_of(&header) else {
                continue;
            };
            match rungs[rung].1.read_block(&bytes) {
                Ok(Some(block)) => {
                    room -= block.bytes();
                    loaded.push(Loaded {
                        rung,
                        tokens: header.tokens,
                        block,
                    });
                }
                Ok(None) => leave_out(&"its block has another shape"),
                Err(error) => {
                    tracing::warn!(%error, "the device has no memory for more prefixes from disk");
                    break;
                }
            }
        }
        loaded.sort_by_key(|loaded| loaded.tokens.len());
        loaded
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Queued blocks are still written.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A file of a cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CachedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// The model of its text, as [`DiskCacheConfig::model`] identifies it; `None` where the file is
    /// damaged or of another version.
    pub model: Option<String>,
    /// Tokens from the start of its text to the end of what it holds.
    pub tokens: usize,
}

/// The files of a cache's directory, which need not exist. The last used comes first.
///
/// # Errors
/// A directory that cannot be listed.
pub fn cached_files(dir: &Path) -> io::Result<Vec<CachedFile>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut all = files(dir, SUFFIX)?;
    all.extend(files(dir, DRAFT)?);
    let describe = |(path, used): (PathBuf, SystemTime)| {
        let mut header = None;
        let _ = file::read(&path, |found| {
            header = Some(found.clone());
            false
        });
        CachedFile {
            bytes: fs::metadata(&path).map_or(0, |data| data.len()),
            used,
            tokens: header.as_ref().map_or(0, |header| header.tokens.len()),
            model: header.map(|header| header.model),
            path,
        }
    };
    let mut described: Vec<CachedFile> = all.into_iter().map(describe).collect();
    described.sort_by_key(|file| std::cmp::Reverse(file.used));
    Ok(described)
}

/// Files of a directory with a suffix, and when they were last changed.
fn files(dir: &Path, suffix: &str) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let entries = fs::read_dir(dir)?.filter_map(Result::ok);
    let matching = entries.filter_map(|entry| {
        let path = entry.path();
        let matches = path.extension().is_some_and(|found| found == suffix);
        let data = entry
            .metadata()
            .ok()
            .filter(|data| matches && data.is_file())?;
        Some((path, data.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
    });
    Ok(matching.collect())
}

fn write(config: &DiskCacheConfig, job: &Job) -> io::Result<()> {
    let path = path_of(config, &job.header);
    if let Ok(file) = File::options().append(true).open(&path) {
        // It exists already: this counts as a use.
        return file.set_modified(SystemTime::now());
    }
    // Another process may write the same file.
    let draft = path.with_extension(format!("{}.{DRAFT}", std::process::id()));
    match &job.content {
        Content::Block(block) => {
            let block = block.to_bytes().map_err(io::Error::other)?;
            file::write(&path, &draft, &job.header, &block)?;
        }
        Content::Bytes(bytes) => file::write(&path, &draft, &job.header, bytes)?,
    }
    make_room(config)
}

fn path_of(config: &DiskCacheConfig, header: &Header) -> PathBuf {
    config.dir.join(header.file_name()).with_extension(SUFFIX)
}

/// Creates a directory that its user alone can read: the files hold texts.
pub fn create(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Removes the oldest files until all fit.
fn make_room(config: &DiskCacheConfig) -> io::Result<()> {
    let mut all = files(&config.dir, SUFFIX)?;
    all.sort_by_key(|(_, changed)| *changed);
    let size = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
    let mut total: u64 = all.iter().map(|(path, _)| size(path)).sum();
    for (path, _) in all {
        if total <= config.most_bytes {
            break;
        }
        total -= size(&path);
        fs::remove_file(path)?;
    }
    Ok(())
}

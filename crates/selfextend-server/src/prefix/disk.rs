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
use std::time::SystemTime;

const SUFFIX: &str = "kv";
/// Suffix of a file being written; one that is found at the start was left by a crash.
const DRAFT: &str = "part";
/// Blocks that may wait to be written; they stay in memory until then.
const WAITING: usize = 256;

struct Job {
    header: Header,
    block: Block,
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
    /// The number of the session it is for.
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
        fs::create_dir_all(&config.dir)?;
        for (path, _) in files(&config.dir, DRAFT)? {
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

    /// Queues a block that ends `tokens` to be written, or drops it where too many are queued.
    pub fn keep(&self, session: &Session, tokens: &[u32], block: &Block) {
        let job = Job {
            header: Header {
                model: self.config.model.clone(),
                options: describe(session),
                tokens: tokens.to_vec(),
                bytes: block.bytes(),
            },
            block: block.clone(),
        };
        let sent = |jobs: &SyncSender<Job>| jobs.try_send(job).is_ok();
        if !self.jobs.as_ref().is_some_and(sent) {
            tracing::debug!("too many blocks wait to be written: a prefix is not kept");
        }
    }

    /// The blocks for sessions like these (one for each rung) as far as `room` bytes hold them, the
    /// most recently used first. A block comes after those that it continues.
    pub fn load(&self, sessions: &[Session], mut room: usize) -> Vec<Loaded> {
        let options: Vec<String> = sessions.iter().map(describe).collect();
        let mut loaded = Vec::new();
        let mut listed = files(&self.config.dir, SUFFIX).unwrap_or_default();
        listed.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        for (path, _) in listed {
            let rung_of = |header: &Header| {
                let same = |options: &String| *options == header.options;
                let rung = options.iter().position(same)?;
                let fits = header.bytes == sessions[rung].block_bytes() && header.bytes <= room;
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
            match sessions[rung].read_block(&bytes) {
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

fn describe(session: &Session) -> String {
    let (extension, kv_type) = (session.extension(), session.options().kv_type);
    let place = if session.shares_blocks() {
        ""
    } else {
        " on a device"
    };
    format!(
        "{} {:?} {:?} {:?} {kv_type:?}{place}",
        env!("CARGO_PKG_VERSION"),
        extension.map(),
        extension.frequencies(),
        extension.query_scaling(),
    )
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
    let name = job.header.file_name();
    let path = config.dir.join(name).with_extension(SUFFIX);
    if let Ok(file) = File::options().append(true).open(&path) {
        // It exists already: this counts as a use.
        return file.set_modified(SystemTime::now());
    }
    let block = job.block.to_bytes().map_err(io::Error::other)?;
    file::write(&path, &path.with_extension(DRAFT), &job.header, &block)?;
    make_room(config)
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

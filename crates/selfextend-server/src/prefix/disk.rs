//! Blocks of long prompts in files, across restarts.
//!
//! A file holds one block: a magic number and version, what it belongs to (model, map, storage),
//! the tokens from the start of the prompt, the numbers, and a SHA-256 of all that. It is written
//! beside its place and renamed, so that a crash leaves no half of one; whatever cannot be used is
//! left out with a warning. Its name is a digest of all it depends on, so prompts that start alike
//! share files.

use selfextend::{Block, Session};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

const MAGIC: &[u8; 8] = b"SELFEXKV";
/// Raised when the layout changes; the engine's version is part of what a file belongs to.
const VERSION: u32 = 1;
const DIGEST: usize = 32;
const SUFFIX: &str = "kv";
/// A file being written; one that is found at the start is left from a crash.
const DRAFT: &str = "part";
/// Blocks that may wait to be written; they stay in memory meanwhile.
const WAITING: usize = 256;
/// No description is longer: 2 million token ids.
const LONGEST_HEADER: usize = 32 << 20;

/// Where blocks are kept, and which.
#[derive(Debug, Clone)]
pub struct DiskCache {
    /// The directory; made if need be.
    pub dir: PathBuf,
    /// Names the model's weights: see [`selfextend::fingerprint`].
    pub model: String,
    /// Prompts of fewer tokens are not kept.
    pub least_tokens: usize,
    /// Bytes of all files; the oldest go first.
    pub most_bytes: u64,
}

/// What a block belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    model: String,
    /// Map, frequencies, query scaling and storage; on a device, whose blocks are laid out otherwise,
    /// that it is one.
    options: String,
    /// All tokens from the start of the prompt to the end of the block.
    tokens: Vec<u32>,
    bytes: usize,
}

struct Job {
    name: String,
    header: Header,
    block: Block,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Disk {
    settings: DiskCache,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A block that was read, and its place.
pub struct Kept {
    /// The number of the session it is for.
    pub step: usize,
    /// All tokens from the start of the prompt to its end.
    pub tokens: Vec<u32>,
    pub block: Block,
}

impl Disk {
    /// Opens the directory and starts to write in the background.
    ///
    /// # Errors
    /// A directory that cannot be made or listed.
    pub fn open(settings: DiskCache) -> io::Result<Self> {
        fs::create_dir_all(&settings.dir)?;
        for (path, _) in files(&settings.dir, DRAFT)? {
            tracing::warn!(path = %path.display(), "removing what a crash left half written");
            let _ = fs::remove_file(path);
        }
        let (jobs, inbox) = sync_channel::<Job>(WAITING);
        let theirs = settings.clone();
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
            settings,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// The least tokens of a prompt that is kept.
    pub fn least_tokens(&self) -> usize {
        self.settings.least_tokens
    }

    /// Keeps a block that ends `tokens`. Nothing waits for it: where too much is to be written
    /// already, it is left out.
    pub fn keep(&self, session: &Session, tokens: &[u32], block: &Block) {
        let header = Header {
            model: self.settings.model.clone(),
            options: describe(session),
            tokens: tokens.to_vec(),
            bytes: block.bytes(),
        };
        let job = Job {
            name: name(&header),
            header,
            block: block.clone(),
        };
        let sent = |jobs: &SyncSender<Job>| jobs.try_send(job).is_ok();
        if !self.jobs.as_ref().is_some_and(sent) {
            tracing::debug!("too much is being written: a prefix is not kept");
        }
    }

    /// The blocks for sessions like these (each of its number), those before others that continue
    /// them, as long as `room` takes them; the last used ones first.
    pub fn load(&self, sessions: &[Session], mut room: usize) -> Vec<Kept> {
        let options: Vec<String> = sessions.iter().map(describe).collect();
        let mut found = Vec::new();
        let mut listed = files(&self.settings.dir, SUFFIX).unwrap_or_default();
        listed.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        for (path, _) in listed {
            let step_of = |header: &Header| {
                let step = options
                    .iter()
                    .position(|options| *options == header.options)?;
                let fits = header.bytes == sessions[step].block_bytes() && header.bytes <= room;
                (fits && header.model == self.settings.model).then_some(step)
            };
            let leave_out = |error: &dyn Display| {
                tracing::warn!(path = %path.display(), %error, "leaving out a damaged or foreign file");
            };
            let Wanted {
                step,
                tokens,
                numbers,
            } = match read(&path, &step_of) {
                Ok(Some(wanted)) => wanted,
                Ok(None) => continue,
                Err(error) => {
                    leave_out(&error);
                    continue;
                }
            };
            match sessions[step].read_block(&numbers) {
                Ok(Some(block)) => {
                    room -= block.bytes();
                    found.push(Kept {
                        step,
                        tokens,
                        block,
                    });
                }
                Ok(None) => leave_out(&"its block has another shape"),
                Err(error) => {
                    tracing::warn!(%error, "the device takes no more prefixes from disk: lower --kv-memory");
                    break;
                }
            }
        }
        found.sort_by_key(|kept| kept.tokens.len());
        found
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What waits is still written.
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

fn name(header: &Header) -> String {
    let mut digest = Sha256::new();
    digest.update(&header.model);
    digest.update([0]);
    digest.update(&header.options);
    digest.update([0]);
    header
        .tokens
        .iter()
        .for_each(|id| digest.update(id.to_le_bytes()));
    hex(&digest.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

fn write(settings: &DiskCache, job: &Job) -> io::Result<()> {
    let path = settings.dir.join(&job.name).with_extension(SUFFIX);
    if let Ok(file) = File::options().append(true).open(&path) {
        // It is there: it counts as used.
        return file.set_modified(SystemTime::now());
    }
    let header = serde_json::to_vec(&job.header)?;
    let block = job.block.to_bytes().map_err(io::Error::other)?;
    let mut digest = Sha256::new();
    let draft = path.with_extension(DRAFT);
    let mut file = File::create(&draft)?;
    let length = (header.len() as u32).to_le_bytes();
    for part in [&MAGIC[..], &VERSION.to_le_bytes(), &length, &header, &block] {
        digest.update(part);
        file.write_all(part)?;
    }
    file.write_all(&digest.finalize())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&draft, &path)?;
    make_room(settings)
}

/// Removes the oldest files until all fit.
fn make_room(settings: &DiskCache) -> io::Result<()> {
    let mut all = files(&settings.dir, SUFFIX)?;
    all.sort_by_key(|(_, changed)| *changed);
    let size = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
    let mut total: u64 = all.iter().map(|(path, _)| size(path)).sum();
    for (path, _) in all {
        if total <= settings.most_bytes {
            break;
        }
        total -= size(&path);
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The number of the session a file is for, if any.
type StepOf<'a> = dyn Fn(&Header) -> Option<usize> + 'a;

/// What is in a file that a session wants.
struct Wanted {
    /// The session's number.
    step: usize,
    tokens: Vec<u32>,
    /// The block's.
    numbers: Vec<u8>,
}

/// Reads a file, if a session wants it.
fn read(path: &Path, step_of: &StepOf) -> io::Result<Option<Wanted>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut start = [0; 16];
    file.read_exact(&mut start)?;
    if start[..8] != *MAGIC {
        return Err(bad("it is no file of this cache"));
    }
    let number =
        |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    if number(8) != VERSION {
        return Err(bad("it is of another version"));
    }
    let header_length = number(12) as usize;
    if header_length > LONGEST_HEADER || header_length as u64 > length {
        return Err(bad("its description is longer than it"));
    }
    let mut header = vec![0; header_length];
    file.read_exact(&mut header)?;
    let Ok(described) = serde_json::from_slice::<Header>(&header) else {
        return Err(bad("its description cannot be read"));
    };
    let expected = start.len() + header_length + described.bytes + DIGEST;
    if length != expected as u64 {
        return Err(bad("its length is not what it says"));
    }
    let Some(step) = step_of(&described) else {
        return Ok(None);
    };
    let mut rest = Vec::with_capacity(described.bytes + DIGEST);
    file.read_to_end(&mut rest)?;
    let Some((numbers, sum)) = rest.split_at_checked(described.bytes) else {
        return Err(bad("it is cut short"));
    };
    let mut digest = Sha256::new();
    for part in [&start[..], &header, numbers] {
        digest.update(part);
    }
    if digest.finalize()[..] != *sum {
        return Err(bad("its checksum is wrong"));
    }
    rest.truncate(described.bytes);
    Ok(Some(Wanted {
        step,
        tokens: described.tokens,
        numbers: rest,
    }))
}

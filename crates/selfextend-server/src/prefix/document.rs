//! The cache on disk for one sequence at a time: what command lines read of it and keep in it.

use super::disk::{Disk, create};
use super::file::{self, Header};
use super::passes::Passes;
use crate::config::DiskCacheConfig;
use selfextend::config::ModelConfig;
use selfextend::{PAGE, Session, SessionOptions};
use std::fs::File;
use std::io;
use std::time::SystemTime;

/// Bytes of one token's log-probability.
const SCORE: usize = 8;

/// Keys and values of long texts, and how probable their tokens are, kept in files between runs. The
/// files are those of a server's [`disk`](crate::ServerConfig::disk) cache, under the same rules: what
/// is found is, on the CPU, bit for bit what a fresh run computes.
#[derive(Debug)]
pub struct DocumentCache {
    disk: Disk,
    model: String,
}

impl DocumentCache {
    /// Opens a directory, which is created where it does not exist; then `model` says what
    /// [`DiskCacheConfig::model`] is, and may remember it in the directory.
    ///
    /// # Errors
    /// A directory that cannot be created or listed, and whatever `model` returns.
    pub fn open(
        mut config: DiskCacheConfig,
        model: impl FnOnce() -> io::Result<String>,
    ) -> io::Result<Self> {
        create(&config.dir)?;
        config.model = model()?;
        let model = config.model.clone();
        let disk = Disk::open(config)?;
        Ok(Self { disk, model })
    }

    /// Puts what is kept of the start of a text into an empty session, as far as its rest can be read as a
    /// fresh run reads it. Returns how many tokens that is.
    ///
    /// # Errors
    /// A session that the model has no layout for; a device without memory.
    pub fn restore(
        &self,
        session: &mut Session,
        text: &[u32],
        passes: Passes,
    ) -> selfextend::Result<usize> {
        let held = self.restore_most(session, text, passes.most_held())?;
        Ok(session.truncate(passes.start(held)))
    }

    /// [`DocumentCache::restore`] of at most so many tokens.
    fn restore_most(
        &self,
        session: &mut Session,
        text: &[u32],
        most: usize,
    ) -> selfextend::Result<usize> {
        let identity = session.model().block_identity(session.options())?;
        for start in (0..most).step_by(PAGE) {
            let bytes = session.block_bytes();
            let end = (start + PAGE).min(text.len());
            let Some(found) = self.find(&identity, &text[..end], bytes) else {
                break;
            };
            match session.read_block(&found)? {
                Some(block) => session.push_block(&block, (most - start).min(PAGE))?,
                None => break,
            }
        }
        Ok(session.len())
    }

    /// Keeps the blocks of a text that a session has read, those after its first `before` tokens; the
    /// last block only where the session holds all of the text. A fresh session must have read all of it.
    ///
    /// # Errors
    /// A session that the model has no layout for.
    pub fn keep(
        &self,
        session: &Session,
        text: &[u32],
        passes: Passes,
        before: usize,
    ) -> selfextend::Result<()> {
        let identity = session.model().block_identity(session.options())?;
        let read = session.len().min(passes.long());
        for start in (before / PAGE * PAGE..read).step_by(PAGE) {
            let end = (start + PAGE).min(text.len());
            if end > read {
                break;
            }
            let Some(block) = session.block(start / PAGE) else {
                continue;
            };
            self.disk.keep_surely(&identity, &text[..end], &block);
        }
        Ok(())
    }

    /// Puts what is kept of the start of a text into an empty session, as far as the probabilities of
    /// its tokens are kept too; `passes` are those over all tokens but the last. Returns `ln p` of its
    /// second token and those after it: as many as tokens are in the session then, or of all tokens, and
    /// then nothing is in the session.
    ///
    /// # Errors
    /// As [`DocumentCache::restore`].
    pub fn restore_scores(
        &self,
        session: &mut Session,
        text: &[u32],
        passes: Passes,
    ) -> selfextend::Result<Vec<f64>> {
        let identity = session.model().block_identity(session.options())?;
        let mut scores = Vec::new();
        for start in (0..text.len()).step_by(PAGE) {
            let end = (start + PAGE).min(text.len());
            let name = scores_of(&identity, session, text, passes, end);
            let Some(found) = self.find(&name, &text[..end], (end - start) * SCORE) else {
                break;
            };
            let (values, _) = found.as_chunks::<SCORE>();
            scores.extend(values.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        }
        // Nothing is said of the first token.
        if !scores.is_empty() {
            scores.remove(0);
        }
        if scores.len() + 1 < text.len() {
            let most = scores.len().min(passes.most_held());
            let held = self.restore_most(session, text, most)?;
            scores.truncate(session.truncate(passes.start(held)));
        }
        Ok(scores)
    }

    /// Keeps the probabilities of a text's tokens, as far as they are known: `ln p` of the second one and
    /// those after it. Those of its first `before` tokens are kept already.
    ///
    /// # Errors
    /// As [`DocumentCache::keep`].
    pub fn keep_scores(
        &self,
        session: &Session,
        text: &[u32],
        passes: Passes,
        scores: &[f64],
        before: usize,
    ) -> selfextend::Result<()> {
        let identity = session.model().block_identity(session.options())?;
        let known = scores.len() + 1;
        for start in (before / PAGE * PAGE..known).step_by(PAGE) {
            let end = (start + PAGE).min(text.len());
            if end > known {
                break;
            }
            let of = |at: usize| if at == 0 { 0.0 } else { scores[at - 1] };
            let bytes = (start..end).flat_map(|at| of(at).to_le_bytes());
            let name = scores_of(&identity, session, text, passes, end);
            self.disk.keep_bytes(&name, &text[..end], bytes.collect());
        }
        Ok(())
    }

    /// The bytes that are kept for the end of some tokens. They count as used.
    fn find(&self, identity: &str, tokens: &[u32], bytes: usize) -> Option<Vec<u8>> {
        let header = Header {
            model: self.model.clone(),
            identity: identity.to_owned(),
            tokens: tokens.to_vec(),
            bytes,
        };
        let path = self.disk.path_of(&header);
        match file::read(&path, |found| *found == header) {
            Ok(found) => {
                let (_, bytes) = found?;
                // Files that were used last are removed last.
                let opened = File::options().append(true).open(&path);
                let _ = opened.and_then(|file| file.set_modified(SystemTime::now()));
                Some(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "leaving out a damaged file");
                None
            }
        }
    }
}

/// Under which identity the probabilities of tokens up to `end` are kept, beside the keys and values of
/// another one. Those of a short last pass are of texts of this length, read in these chunks.
fn scores_of(
    identity: &str,
    session: &Session,
    text: &[u32],
    passes: Passes,
    end: usize,
) -> String {
    // The last of them comes from the logits of the token before it.
    if end <= passes.long() + 1 {
        return format!("{identity} ln p");
    }
    let (len, chunk) = (text.len(), session.options().chunk);
    format!("{identity} ln p of {len} in chunks of {chunk}")
}

/// The most tokens that one pass may read if each block is to be kept: with more, a layer that forgets
/// pages, as under a sliding window, could drop one before that.
pub fn most_read(config: &ModelConfig, options: &SessionOptions) -> usize {
    let windows = config.attention.iter().filter_map(|layer| layer.window);
    let last = options.extension.context();
    let forgotten = options.extension.map().positions().forgotten(last);
    let kept = (!forgotten.is_empty()).then(|| last - forgotten.end);
    let reach = windows.chain(kept).min().unwrap_or(usize::MAX);
    reach.saturating_add(PAGE)
}

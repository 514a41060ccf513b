//! The cache of long texts.

use super::print;
use super::source::Source;
use crate::args::cache::CacheArgs;
use crate::error::{CliError, Result};
use crate::output;
use selfextend::Session;
use selfextend_server::{DiskCacheConfig, DocumentCache, Passes};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// The cache of long texts, opened for the first text that is long enough.
pub struct TextCache<'a> {
    args: &'a CacheArgs,
    source: &'a Source,
    opened: OnceCell<Option<DocumentCache>>,
}

impl<'a> TextCache<'a> {
    /// The cache that the arguments name, for a model.
    pub fn new(args: &'a CacheArgs, source: &'a Source) -> Self {
        Self {
            args,
            source,
            opened: OnceCell::new(),
        }
    }

    /// The cache for a text of which a session reads so many tokens, and the passes of a fresh run over
    /// them; `None` where it is not kept.
    pub fn of(&self, tokens: usize, session: &Session) -> Result<Option<(&DocumentCache, Passes)>> {
        if self.args.no_cache || tokens < self.args.cache_least_tokens {
            return Ok(None);
        }
        let Some(passes) = Passes::new(tokens, session.options().chunk) else {
            return Ok(None);
        };
        if self.opened.get().is_none() {
            let _ = self.opened.set(self.open()?);
        }
        let opened = self.opened.get().and_then(Option::as_ref);
        Ok(opened.map(|cache| (cache, passes)))
    }

    /// Opens the directory. One that was not asked for may be impossible.
    fn open(&self) -> Result<Option<DocumentCache>> {
        let dir = match dir(self.args.cache_dir.as_deref()) {
            Ok(dir) => dir,
            Err(_) => return Ok(None),
        };
        // The directory first: fingerprints are remembered there.
        let mut config = DiskCacheConfig::new(&dir, String::new());
        config.most_bytes = self.args.cache_size as u64;
        let opened = DocumentCache::open(config, || {
            let print = print::fingerprint(self.source.path(), &dir)?;
            Ok(identity(self.source, &print))
        });
        match opened {
            Ok(cache) => Ok(Some(cache)),
            Err(error) if self.args.cache_dir.is_some() => Err(CliError::failure(format!(
                "cannot keep texts in {}: {error}; choose another with --cache-dir",
                dir.display()
            ))),
            Err(error) => {
                output::note(&format!(
                    "note: texts cannot be kept in {}: {error} (--no-cache does not try)",
                    dir.display()
                ));
                Ok(None)
            }
        }
    }
}

/// The directory of a cache: the one that was named, or the user's.
pub fn dir(named: Option<&Path>) -> Result<PathBuf> {
    let users = || Some(dirs::cache_dir()?.join("selfextend").join("texts"));
    named.map(Path::to_owned).or_else(users).ok_or_else(|| {
        CliError::usage("this user has no directory for caches; name one with --cache-dir")
    })
}

/// Identifies a model and how its weights are held, for files of the cache.
pub fn model(source: &Source) -> Result<String> {
    let path = source.path();
    let print = selfextend::fingerprint(path)
        .map_err(|error| CliError::failure(format!("cannot read {}: {error}", path.display())))?;
    Ok(identity(source, &print))
}

fn identity(source: &Source, print: &str) -> String {
    // Widened weights give other numbers.
    format!("{print} {}", source.weights_name())
}

//! `selfextend cache`: what `run`, `chat` and `score` keep of long texts.

use crate::args::cache::{CacheAction, CacheCommand, CacheDirArgs};
use crate::error::{CliError, Result};
use crate::{output, setup};
use selfextend_server::{CachedFile, cached_files};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

/// Shows or empties the cache.
pub fn cache(command: &CacheCommand) -> Result<()> {
    match &command.action {
        CacheAction::List(args) => list(args),
        CacheAction::Clear(args) => clear(args),
    }
}

/// What is kept for one model.
#[derive(Debug, Default, Serialize)]
struct Kept {
    model: String,
    files: usize,
    bytes: u64,
    longest_text: usize,
    /// Seconds since one of them was used.
    used_s_ago: u64,
}

#[derive(Debug, Serialize)]
struct Listing {
    dir: String,
    files: usize,
    bytes: u64,
    models: Vec<Kept>,
}

fn files_of(args: &CacheDirArgs) -> Result<(std::path::PathBuf, Vec<CachedFile>)> {
    let dir = setup::cache_dir(args.cache_dir.as_deref())?;
    let files = cached_files(&dir).map_err(|error| failed(&dir, &error))?;
    Ok((dir, files))
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failure(format!("{}: {error}", path.display()))
}

fn list(args: &CacheDirArgs) -> Result<()> {
    let (dir, files) = files_of(args)?;
    let now = SystemTime::now();
    let mut models: BTreeMap<String, Kept> = BTreeMap::new();
    for file in &files {
        // The first digits tell models apart.
        let name = file
            .model
            .as_deref()
            .unwrap_or("damaged or of another version");
        let name = match name.split_once(' ') {
            Some((print, weights)) if print.len() == 64 => format!("{} {weights}", &print[..12]),
            _ => name.to_owned(),
        };
        let ago = now.duration_since(file.used).map_or(0, |ago| ago.as_secs());
        let kept = models.entry(name.clone()).or_insert_with(|| Kept {
            model: name,
            used_s_ago: ago,
            ..Kept::default()
        });
        kept.files += 1;
        kept.bytes += file.bytes;
        kept.longest_text = kept.longest_text.max(file.tokens);
        kept.used_s_ago = kept.used_s_ago.min(ago);
    }
    let listing = Listing {
        dir: dir.display().to_string(),
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        models: models.into_values().collect(),
    };
    if args.json {
        return output::json(&listing);
    }
    output::text(&format!(
        "{}: {} files, {}\n",
        listing.dir,
        listing.files,
        output::size(listing.bytes as usize)
    ))?;
    for kept in &listing.models {
        output::text(&format!(
            "  model {}: {} files, {}, texts of up to {} tokens, last used {} min ago\n",
            kept.model,
            kept.files,
            output::size(kept.bytes as usize),
            output::grouped(kept.longest_text),
            kept.used_s_ago / 60
        ))?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Cleared {
    dir: String,
    files: usize,
    bytes: u64,
}

fn clear(args: &CacheDirArgs) -> Result<()> {
    let (dir, files) = files_of(args)?;
    for file in &files {
        match std::fs::remove_file(&file.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&file.path, &error));
            }
            _ => {}
        }
    }
    // What was remembered of models, if anything.
    let _ = std::fs::remove_file(dir.join(setup::REMEMBERED_PRINTS));
    let cleared = Cleared {
        dir: dir.display().to_string(),
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    };
    if args.json {
        return output::json(&cleared);
    }
    output::text(&format!(
        "{}: removed {} files, {}\n",
        cleared.dir,
        cleared.files,
        output::size(cleared.bytes as usize)
    ))
}

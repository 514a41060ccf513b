//! Which files of a model without GGUF make up a folder to load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::listing::Listing;

/// The file that says what a folder with safetensors holds.
pub(super) const CONFIG: &str = "config.json";
/// The file that names the files of weights, if there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The only file of weights.
const SINGLE: &str = "model.safetensors";
/// Files that change what a model answers, and that not every model has.
const OPTIONAL: [&str; 4] = [
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The files to fetch before those with weights; empty if the model has no folder to load.
pub(super) fn small_files(listing: &Listing) -> Vec<String> {
    let has = |name: &&str| listing.files.contains_key(*name);
    if !has(&CONFIG) || ![INDEX, SINGLE].iter().any(has) {
        return Vec::new();
    }
    let small = [CONFIG, INDEX].into_iter().chain(OPTIONAL);
    small.filter(has).map(str::to_owned).collect()
}

/// Refuses a model that has its weights twice: libraries differ in which of the two they read.
///
/// # Errors
/// What it has.
pub(super) fn check_once(listing: &Listing, weights: &BTreeSet<String>) -> Result<(), String> {
    if weights.contains(SINGLE) || !listing.files.contains_key(SINGLE) {
        return Ok(());
    }
    Err(format!(
        "the model has its weights twice, in {SINGLE} and in the files that this one names; fetch one \
         of them with another program, into a folder without the other, and name that folder"
    ))
}

/// The files with weights of a folder whose small files are there.
///
/// # Errors
/// What is wrong with the index.
pub(super) fn weights(folder: &Path) -> Result<BTreeSet<String>, String> {
    let index = folder.join(INDEX);
    if !index.is_file() {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bytes = std::fs::read(&index).map_err(|error| error.to_string())?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(format!("it names {name:?}, which is no file of the folder")),
        None if names.is_empty() => Err("it names no files".into()),
        None => Ok(names),
    }
}

/// A name becomes part of URLs and of paths in the cache.
fn is_plain(name: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    name.chars().all(plain) && !name.starts_with('.') && name.ends_with(".safetensors")
}

/// What a folder in the cache lacks. Without a listing, `is_absent` says of an optional file
/// whether the model is known not to have it.
pub(super) fn lacking(
    folder: &Path,
    listing: Option<&Listing>,
    is_absent: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let mut names: BTreeSet<String> = match listing {
        Some(listing) => small_files(listing).into_iter().collect(),
        None => OPTIONAL
            .into_iter()
            .filter(|name| !is_absent(name))
            .map(str::to_owned)
            .collect(),
    };
    names.insert(CONFIG.to_owned());
    match weights(folder) {
        Ok(weights) => names.extend(weights),
        Err(_) => return vec![INDEX.to_owned()],
    }
    let is_there = |name: &String| {
        let size = listing.and_then(|it| it.files.get(name)?.expected().size);
        let found = folder.join(name).metadata();
        found.is_ok_and(|found| found.is_file() && size.is_none_or(|size| size == found.len()))
    };
    names.into_iter().filter(|name| !is_there(name)).collect()
}

/// What of these files no folder can do without. A tokenizer is among them: no other format of
/// one is read.
pub(super) fn lacking_of_needed(folder: &Path, mut lacking: Vec<String>) -> Vec<String> {
    let optional = |name: &String| OPTIONAL.contains(&name.as_str()) && name != "tokenizer.json";
    lacking.retain(|name| !optional(name) || folder.join(name).exists());
    lacking
}

/// The files of a folder in the cache that are loaded from it.
pub(super) fn present(folder: &Path) -> Vec<PathBuf> {
    let small = [CONFIG, INDEX].into_iter().chain(OPTIONAL);
    let names = small.map(str::to_owned);
    let names = names.chain(weights(folder).unwrap_or_default());
    let paths = names.map(|name| folder.join(name));
    paths.filter(|path| path.is_file()).collect()
}

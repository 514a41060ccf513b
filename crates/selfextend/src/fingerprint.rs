//! Identifies a model by the contents of its files.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of each sample between a file's start and its end.
const PIECE: u64 = 64 << 10;
/// Bytes of the start: a GGUF file's metadata, and some weights.
const START: u64 = 16 << 20;

/// Identifies a model file by its length and a digest of its start, its end and samples in between:
/// hashing all of a file of many gigabytes would take longer than loading it. A folder is identified
/// by its safetensors files and its config.json. Hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    for file in files(path)? {
        add(&mut digest, &file)?;
    }
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| {
        file.extension().is_some_and(|found| found == "safetensors")
            || file.file_name().is_some_and(|name| name == "config.json")
    });
    files.sort();
    Ok(files)
}

fn add(digest: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    digest.update(length.to_le_bytes());
    let mut piece = Vec::new();
    let between = (0..=64).map(|n| (length.saturating_sub(PIECE) * n / 64, PIECE));
    for (at, count) in std::iter::once((0, START)).chain(between) {
        file.seek(SeekFrom::Start(at))?;
        piece.clear();
        (&mut file).take(count).read_to_end(&mut piece)?;
        digest.update(&piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_weights_have_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.gguf", "one");
        write("b.gguf", "two");
        let of = |name: &str| fingerprint(&dir.path().join(name)).unwrap();
        assert_ne!(of("a.gguf"), of("b.gguf"));
        write("config.json", "{}");
        write("model.safetensors", "one");
        let before = of("");
        write("README.md", "words");
        assert_eq!(of(""), before);
        write("model.safetensors", "two");
        assert_ne!(of(""), before);
        assert!(fingerprint(&dir.path().join("absent")).is_err());
    }
}

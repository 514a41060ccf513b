//! Identifies a model by the contents of its files.

use crate::gguf::part_names;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that one thread hashes at a time.
const PIECE: u64 = 8 << 20;

/// Identifies a model file by all of its bytes (and those of its other parts), and a folder by those
/// of its safetensors files and its config.json: SHA-256 of the SHA-256 of pieces of 8 MiB, which all threads hash together.
/// Hexadecimal digits.
///
/// A changed weight anywhere gives another fingerprint. It costs one read of the files; from the
/// system's cache, one thread with SHA instructions takes under a second for each GiB.
///
/// # Errors
/// A file that cannot be read.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    for file in files(path)? {
        let length = fs::metadata(&file)?.len();
        digest.update(length.to_le_bytes());
        let pieces = (0..length.div_ceil(PIECE)).into_par_iter();
        let pieces = pieces.map(|n| hashed(&file, n * PIECE));
        for piece in pieces.collect::<io::Result<Vec<_>>>()? {
            digest.update(piece);
        }
    }
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        let mut files = vec![path.to_owned()];
        files.extend(part_names::others(path).filter(|part| part.exists()));
        return Ok(files);
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

/// The digest of the piece of a file that begins at `start`.
fn hashed(path: &Path, start: u64) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut piece = file.take(PIECE);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match piece.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            count => digest.update(&buffer[..count]),
        }
    }
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

    #[test]
    fn one_bit_anywhere_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let mut bytes = vec![7u8; 3 * PIECE as usize + 5];
        fs::write(&path, &bytes).unwrap();
        let before = fingerprint(&path).unwrap();
        for at in [0, PIECE as usize + 12_345, bytes.len() - 1] {
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_ne!(fingerprint(&path).unwrap(), before, "byte {at}");
            bytes[at] ^= 1;
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(fingerprint(&path).unwrap(), before);
    }
}

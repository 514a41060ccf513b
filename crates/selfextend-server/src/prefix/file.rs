//! The format of a file that holds one block of a prompt.
//!
//! In order: a magic number, a version and the header's length (little-endian), the header as JSON,
//! the block's bytes, and a SHA-256 of all that. A file is written under another name and renamed,
//! so a crash leaves no partial file that could be used.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"SELFEXKV";
/// Raised when the layout changes; the engine's version is part of the header.
const VERSION: u32 = 2;
/// Bytes before the header.
const START: usize = 16;
/// Bytes of the checksum.
const CHECKSUM: usize = 32;
/// The longest header in bytes: 2 million token ids.
const LONGEST_HEADER: usize = 32 << 20;

/// What a block belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Identifies the model's weights.
    pub model: String,
    /// Everything else that its keys and values depend on, and how they are laid out: see
    /// [`selfextend::Model::block_identity`].
    pub identity: String,
    /// All tokens from the start of the prompt to the end of the block.
    pub tokens: Vec<u32>,
    /// Bytes of the block.
    pub bytes: usize,
}

impl Header {
    /// A name for the file: a digest of what identifies the block, so that prompts that start alike
    /// share files.
    pub fn file_name(&self) -> String {
        let mut digest = Sha256::new();
        for text in [&self.model, &self.identity] {
            digest.update(text);
            digest.update([0]);
        }
        for id in &self.tokens {
            digest.update(id.to_le_bytes());
        }
        let hex = |byte: &u8| format!("{byte:02x}");
        digest.finalize()[..16].iter().map(hex).collect()
    }
}

/// Writes a file, first under the name `draft`.
pub fn write(path: &Path, draft: &Path, header: &Header, block: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let length = (header.len() as u32).to_le_bytes();
    let mut file = File::create(draft)?;
    let mut digest = Sha256::new();
    for bytes in [&MAGIC[..], &VERSION.to_le_bytes(), &length, &header, block] {
        digest.update(bytes);
        file.write_all(bytes)?;
    }
    file.write_all(&digest.finalize())?;
    file.sync_all()?;
    drop(file);
    fs::rename(draft, path)
}

/// The header and the block's bytes of a file whose header is wanted; `None` where it is not.
///
/// # Errors
/// The system's, and `InvalidData` for a file that is damaged or of another kind.
pub fn read(
    path: &Path,
    wanted: impl FnOnce(&Header) -> bool,
) -> io::Result<Option<(Header, Vec<u8>)>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    parse(file, length, wanted)
}

/// [`read`] from any reader of so many bytes.
fn parse(
    mut file: impl Read,
    length: u64,
    wanted: impl FnOnce(&Header) -> bool,
) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut start = [0; START];
    file.read_exact(&mut start)?;
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        u32::from_le_bytes(bytes)
    };
    if start[..8] != *MAGIC {
        return Err(invalid("not a file of this cache"));
    }
    if number(8) != VERSION {
        return Err(invalid("a file of another version"));
    }
    let header_length = number(12) as usize;
    if header_length > LONGEST_HEADER || header_length as u64 > length {
        return Err(invalid("the header is longer than the file"));
    }
    let mut header = vec![0; header_length];
    file.read_exact(&mut header)?;
    let Ok(described) = serde_json::from_slice::<Header>(&header) else {
        return Err(invalid("the header is not valid"));
    };
    let expected = described
        .bytes
        .checked_add(START + CHECKSUM + header_length);
    if expected.map(|bytes| bytes as u64) != Some(length) {
        return Err(invalid("the length differs from the header's"));
    }
    if described.tokens.is_empty() {
        return Err(invalid("the block has no tokens"));
    }
    if !wanted(&described) {
        return Ok(None);
    }
    let mut block = vec![0; described.bytes];
    file.read_exact(&mut block)?;
    let mut sum = [0; CHECKSUM];
    file.read_exact(&mut sum)?;
    let mut digest = Sha256::new();
    for bytes in [&start[..], &header, &block] {
        digest.update(bytes);
    }
    if digest.finalize()[..] != sum {
        return Err(invalid("the checksum is wrong"));
    }
    Ok(Some((described, block)))
}

/// Reads the bytes of a file; whether they hold a block.
#[cfg(feature = "unstable")]
pub fn read_bytes(bytes: &[u8]) -> bool {
    matches!(parse(bytes, bytes.len() as u64, |_| true), Ok(Some(_)))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(bytes: usize) -> Header {
        Header {
            model: "m".into(),
            identity: "o".into(),
            tokens: vec![1, 2, 3],
            bytes,
        }
    }

    /// The bytes of a good file.
    fn file(block: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (path, draft) = (dir.path().join("a.kv"), dir.path().join("a.part"));
        write(&path, &draft, &header(block.len()), block).unwrap();
        assert!(!draft.exists());
        fs::read(path).unwrap()
    }

    fn parsed(bytes: &[u8]) -> io::Result<Option<(Header, Vec<u8>)>> {
        parse(bytes, bytes.len() as u64, |_| true)
    }

    /// A file around a header, with a right checksum.
    fn around(header: &[u8], block: &[u8]) -> Vec<u8> {
        let length = (header.len() as u32).to_le_bytes();
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &length, header, block].concat();
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let block: Vec<u8> = (0..200).collect();
        let (found, bytes) = parsed(&file(&block)).unwrap().unwrap();
        assert_eq!((found, bytes), (header(200), block.clone()));
        let bytes = file(&block);
        let unwanted = parse(&bytes[..], bytes.len() as u64, |_| false);
        assert!(unwanted.unwrap().is_none());
    }

    #[test]
    fn names_depend_on_all_that_identifies_a_block() {
        let name = |change: &dyn Fn(&mut Header)| {
            let mut header = header(5);
            change(&mut header);
            header.file_name()
        };
        let same = name(&|_| {});
        assert_eq!(same, name(&|h| h.bytes = 6));
        assert_ne!(same, name(&|h| h.tokens = vec![1, 2]));
        assert_ne!(same, name(&|h| h.model = "n".into()));
        assert_ne!(same, name(&|h| h.identity = "p".into()));
    }

    #[test]
    fn headers_cannot_make_the_reader_overflow_or_allocate() {
        for header in [
            r#"{"model":"","identity":"","tokens":[1],"bytes":18446744073709551615}"#,
            r#"{"model":"","identity":"","tokens":[1],"bytes":9223372036854775807}"#,
            r#"{"model":"","identity":"","tokens":[],"bytes":0}"#,
            r#"{"model":"","identity":"","tokens":[-1],"bytes":0}"#,
            "[]",
            "",
        ] {
            assert!(parsed(&around(header.as_bytes(), b"")).is_err(), "{header}");
        }
    }

    proptest! {
        /// Any change to a file is noticed.
        #[test]
        fn damage_is_noticed(at in 0usize..1000, bit in 0u8..8, cut in prop::bool::ANY) {
            let mut bytes = file(&[7; 100]);
            let at = at % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
            prop_assert!(parsed(&bytes).is_err());
        }

        /// No bytes make the reader panic, with a right checksum or without.
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            header in "\\PC{0,80}",
            length in any::<u64>(),
        ) {
            let _ = parsed(&bytes);
            let _ = parsed(&around(header.as_bytes(), &bytes));
            let framed = around(header.as_bytes(), &bytes);
            let _ = parse(&framed[..], length, |_| true);
        }
    }
}

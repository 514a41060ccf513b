//! What a file is known to be before it is read, and whether it is that.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes hashed between two reports.
const CHUNK: usize = 1 << 20;

/// The size and the checksum that the hub publishes for a file, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) size: Option<u64>,
    pub(super) digest: Option<String>,
}

/// How a file differs from what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) expected: String,
    pub(super) got: String,
}

impl Expected {
    /// The checksum in an entity tag or in the name of a blob, if it is one: the SHA-256 of a large
    /// file, git's SHA-1 of a small one. Other servers put other things into their tags.
    pub(super) fn digest_in(text: &str) -> Option<String> {
        let is_digest =
            matches!(text.len(), 40 | 64) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_digest.then(|| text.to_ascii_lowercase())
    }

    /// Reads the file and compares it; `Ok(None)` if it is what it should be.
    pub(super) fn compare(
        &self,
        path: &Path,
        report: &mut dyn FnMut(u64),
    ) -> io::Result<Option<Difference>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if let Some(expected) = self.size.filter(|&expected| expected != size) {
            return Ok(Some(Difference {
                expected: format!("{expected} bytes"),
                got: format!("{size} bytes"),
            }));
        }
        let Some(expected) = &self.digest else {
            return Ok(None);
        };
        let (name, got) = if expected.len() == 64 {
            ("SHA-256", vec![hash(Sha256::new(), &mut file, report)?])
        } else {
            // Git hashes a header too; mirrors of other makers hash the bytes alone.
            let header = Sha1::new_with_prefix(format!("blob {size}\0"));
            let git = hash(header, &mut file, report)?;
            if git == *expected {
                return Ok(None);
            }
            io::Seek::rewind(&mut file)?;
            ("SHA-1", vec![git, hash(Sha1::new(), &mut file, report)?])
        };
        Ok((!got.contains(expected)).then(|| Difference {
            expected: format!("{name} {expected}"),
            got: got[0].clone(),
        }))
    }
}

/// The SHA-256 of a file.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    hash(Sha256::new(), &mut File::open(path)?, &mut |_| {})
}

fn hash(mut hash: impl Digest, file: &mut File, report: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(crate::hub::cache::hex(&hash.finalize()));
        }
        hash.update(&chunk[..count]);
        done += count as u64;
        report(done);
    }
}

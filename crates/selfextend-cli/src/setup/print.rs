//! Fingerprints of model files, remembered: to read a large model again at every question about a text
//! would take longer than the answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

/// The file in a cache's directory that remembers them.
pub const REMEMBERED: &str = "fingerprints.json";

/// What a file looked like when it was read: any change to it changes this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    bytes: u64,
    inode: u64,
    /// Nanoseconds of the last change of its contents, and of anything.
    changed: (i64, i64),
    touched: (i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    look: Look,
    print: String,
}

/// A model's [`selfextend::fingerprint`], computed only where its file has changed since the last time.
pub fn fingerprint(model: &Path, dir: &Path) -> io::Result<String> {
    // The parts of folders and split files are not looked at one by one.
    let Some(look) = look(model) else {
        return selfextend::fingerprint(model);
    };
    let path = dir.join(REMEMBERED);
    let read = fs::read(&path).unwrap_or_default();
    let mut known: BTreeMap<String, Remembered> = serde_json::from_slice(&read).unwrap_or_default();
    let name = fs::canonicalize(model)?.display().to_string();
    if let Some(found) = known.get(&name).filter(|found| found.look == look) {
        return Ok(found.print.clone());
    }
    let print = selfextend::fingerprint(model)?;
    let remembered = Remembered {
        look,
        print: print.clone(),
    };
    known.insert(name, remembered);
    // Not to remember costs time, nothing else.
    let draft = dir.join(format!("{REMEMBERED}.{}", std::process::id()));
    let written = serde_json::to_vec(&known).map_err(io::Error::other);
    let _ = written
        .and_then(|bytes| fs::write(&draft, bytes))
        .and_then(|()| fs::rename(&draft, &path));
    Ok(print)
}

fn look(model: &Path) -> Option<Look> {
    let name = model.file_name()?.to_str()?;
    let data = fs::metadata(model).ok()?;
    (data.is_file() && !name.contains("-of-")).then(|| of(&data))?
}

#[cfg(unix)]
fn of(data: &Metadata) -> Option<Look> {
    use std::os::unix::fs::MetadataExt;
    Some(Look {
        bytes: data.len(),
        inode: data.ino(),
        changed: (data.mtime(), data.mtime_nsec()),
        touched: (data.ctime(), data.ctime_nsec()),
    })
}

#[cfg(not(unix))]
fn of(_: &Metadata) -> Option<Look> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.gguf");
        for contents in ["one", "two", "three"] {
            fs::write(&model, contents).unwrap();
            let print = fingerprint(&model, dir.path()).unwrap();
            assert_eq!(print, selfextend::fingerprint(&model).unwrap());
            assert_eq!(fingerprint(&model, dir.path()).unwrap(), print);
        }
        // What is remembered is believed.
        let path = dir.path().join(REMEMBERED);
        let known = fs::read_to_string(&path).unwrap();
        let print = selfextend::fingerprint(&model).unwrap();
        fs::write(&path, known.replace(&print, "remembered")).unwrap();
        assert_eq!(fingerprint(&model, dir.path()).unwrap(), "remembered");
        fs::write(&path, "damaged").unwrap();
        assert_eq!(fingerprint(&model, dir.path()).unwrap(), print);
    }
}

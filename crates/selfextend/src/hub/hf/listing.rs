//! The files of one commit of a model, with their checksums.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checksum::Expected;

/// The version of the format of a stored listing.
const FORMAT: u32 = 1;

/// What is known of a file. The names are those of huggingface_hub's stored listings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

impl Entry {
    /// The size and the checksum of the file itself, not of the pointer that git keeps for it.
    pub(super) fn expected(&self) -> Expected {
        let digest = self.lfs_sha256.as_ref().or(self.blob_id.as_ref());
        Expected {
            size: self.lfs_size.or(self.size),
            digest: digest.and_then(|digest| Expected::digest_in(digest)),
        }
    }
}

/// The files of one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Entry>,
}

impl Listing {
    /// Reads the hub's answer about a model.
    pub(super) fn from_answer(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            #[serde(rename = "blobId")]
            blob_id: Option<String>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            sha256: String,
            size: u64,
        }
        let answer: Answer = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let entry = |it: Sibling| {
            let (lfs_sha256, lfs_size) = it.lfs.map(|lfs| (lfs.sha256, lfs.size)).unzip();
            let entry = Entry {
                size: it.size,
                blob_id: it.blob_id,
                lfs_sha256,
                lfs_size,
                xet_hash: None,
            };
            (it.rfilename, entry)
        };
        Ok(Self {
            commit: answer.sha,
            files: answer.siblings.into_iter().map(entry).collect(),
        })
    }

    /// Reads a listing that was stored, by us or by huggingface_hub.
    pub(super) fn from_stored(commit: &str, bytes: &[u8]) -> Option<Self> {
        let stored: Stored<BTreeMap<String, Entry>> = serde_json::from_slice(bytes).ok()?;
        (stored.format_version == FORMAT).then(|| Self {
            commit: commit.to_owned(),
            files: stored.files,
        })
    }

    /// The form in which a listing is stored; `None` if the hub has not told enough.
    pub(super) fn to_stored(&self) -> Option<Vec<u8>> {
        let is_whole = |entry: &Entry| entry.size.is_some() && entry.blob_id.is_some();
        if !self.files.values().all(is_whole) {
            return None;
        }
        serde_json::to_vec_pretty(&Stored {
            format_version: FORMAT,
            files: &self.files,
        })
        .ok()
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format_version: u32,
    files: T,
}

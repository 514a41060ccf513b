//! An opened GGUF file.

use super::header::{Header, Place};
use super::metadata::{Metadata, Value};
use super::split::{self, Part};
use crate::error::{Error, Result};
use crate::tensor::{RawTensor, TensorInfo};
use crate::weights::Checkpoint;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// An opened GGUF file, or all parts of one that was split, whose headers were read and checked.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    parts: Vec<Part>,
    header: Header,
    ignored_keys: Vec<String>,
}

impl GgufFile {
    /// Opens a file, reads its header and checks that every tensor it announces is inside it. Of a
    /// split model the first part is named; the others are found by their names.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::Model`] when it is not a whole GGUF file or
    /// a part is missing, [`Error::Unsupported`] for another version, byte order or tensor type.
    pub fn open(path: &Path) -> Result<Self> {
        let (header, parts) = split::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            parts,
            header,
            ignored_keys: Vec::new(),
        })
    }

    /// The same, to be read in spite of these unknown keys of its header.
    #[must_use]
    pub fn ignoring(self, keys: &[String]) -> Self {
        Self {
            ignored_keys: keys.to_vec(),
            ..self
        }
    }

    /// Keys that may be unknown.
    pub(super) fn ignored_keys(&self) -> &[String] {
        &self.ignored_keys
    }

    /// The file; of a split model the first part.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of all parts, of which there may be one.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The key-value pairs of the header.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        let tensors = self.header.tensors.iter();
        tensors.map(|(name, place)| TensorInfo {
            name,
            format: place.format.to_string(),
            elements: place.elements(),
            bytes: place.bytes,
        })
    }

    /// What kind of tokenizer the file has, in a few words; `None` without one.
    ///
    /// # Errors
    /// [`Error::Model`] where that is not a string.
    pub fn tokenizer_kind(&self) -> Result<Option<String>> {
        let kind = self.string("tokenizer.ggml.model")?.map(|kind| match kind {
            "gpt2" => "byte-level BPE",
            "llama" => "SentencePiece BPE",
            other => other,
        });
        let rules = self.string("tokenizer.ggml.pre")?;
        let rules = rules.map_or(String::new(), |rules| format!(", rules {rules}"));
        Ok(kind.map(|kind| format!("{kind}{rules}")))
    }

    /// A key's value as a string; `None` when absent.
    ///
    /// # Errors
    /// [`Error::Model`] for a value of another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.read(key, "a string", Value::as_str)
    }

    /// A key's value as a size, from an integer of any width; `None` when absent.
    ///
    /// # Errors
    /// [`Error::Model`] for a value of another type, or a number that is negative or 2^32 or more.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        // No real model comes near 2^32 of anything; larger numbers only overflow what follows.
        let small = |n: i128| u32::try_from(n).ok().map(|n| n as usize);
        self.read(key, "a size", |value| value.as_integer().and_then(small))
    }

    /// A key's value as a number, from a float of either width; `None` when absent.
    ///
    /// # Errors
    /// [`Error::Model`] for a value of another type.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_float)
    }

    /// A key's value as a truth value; `None` when absent.
    ///
    /// # Errors
    /// [`Error::Model`] for a value of another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.header.metadata.get(key) else {
            return Ok(None);
        };
        convert(value)
            .map(Some)
            .ok_or_else(|| self.bad(format!("{key} should be {expected}, but is {value}")))
    }

    /// A tensor's place, with its rows and columns; a vector is one row.
    fn matrix(&self, name: &str) -> Result<Option<(&Place, (usize, usize))>> {
        let Some(place) = self.header.tensors.get(name) else {
            return Ok(None);
        };
        match place.shape[..] {
            [columns] => Ok(Some((place, (1, columns)))),
            [rows, columns] => Ok(Some((place, (rows, columns)))),
            _ => Err(self.bad(format!(
                "tensor {name} has {} dimensions, not 1 or 2",
                place.shape.len()
            ))),
        }
    }

    /// Some bytes of a tensor.
    fn bytes(&self, place: &Place, from: usize, count: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; count];
        let part = &self.parts[place.part];
        let read = |source| Error::Read {
            path: part.path.clone(),
            source,
        };
        let mut file = part.file.lock().unwrap_or_else(PoisonError::into_inner);
        let start = place.start + from as u64;
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        file.read_exact(&mut data).map_err(read)?;
        Ok(data)
    }

    /// An error about this file.
    pub(super) fn bad(&self, reason: impl Into<String>) -> Error {
        Error::Model {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

impl Checkpoint for GgufFile {
    fn tensor_names(&self) -> Vec<&str> {
        self.header.tensors.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Result<Option<(usize, usize)>> {
        Ok(self.matrix(name)?.map(|(_, shape)| shape))
    }

    fn stack(&self, name: &str) -> Result<Option<[usize; 3]>> {
        let Some(place) = self.header.tensors.get(name) else {
            return Ok(None);
        };
        match place.shape[..] {
            [matrices, rows, columns] => Ok(Some([matrices, rows, columns])),
            _ => Err(self.bad(format!(
                "tensor {name} has {} dimensions, not 3",
                place.shape.len()
            ))),
        }
    }

    fn stacked(&self, name: &str, number: usize) -> Result<Option<RawTensor>> {
        let (Some(place), Some([matrices, rows, columns])) =
            (self.header.tensors.get(name), self.stack(name)?)
        else {
            return Ok(None);
        };
        // A row is whole blocks, so a matrix is whole bytes.
        let bytes = place.bytes / matrices.max(1);
        let data = self.bytes(place, number * bytes, bytes)?;
        Ok(Some(RawTensor {
            name: name.to_owned(),
            format: place.format,
            rows,
            columns,
            data,
        }))
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor>> {
        let Some((place, (rows, columns))) = self.matrix(name)? else {
            return Ok(None);
        };
        let data = self.bytes(place, 0, place.bytes)?;
        Ok(Some(RawTensor {
            name: name.to_owned(),
            format: place.format,
            rows,
            columns,
            data,
        }))
    }

    fn bad(&self, reason: String) -> Error {
        self.bad(reason)
    }

    fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            what,
            supported,
        }
    }
}

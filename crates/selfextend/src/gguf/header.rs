//! The header of a GGUF file: pairs, then what is said of each tensor.
//!
//! The layout is that of `gguf.md` (ggml project), versions 2 and 3, little endian. Every length is
//! held against the bytes that the file still has before anything is allocated for it.

use super::metadata::{Array, Kind, Metadata, Value};
use super::types;
use crate::error::{Error, Result};
use crate::tensor::TensorFormat;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, Place>,
}

/// Where a tensor is, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub format: TensorFormat,
    /// Rows first, as elsewhere here; the file has the length of a row first.
    pub shape: Vec<usize>,
    /// From the start of the file.
    pub start: u64,
    pub bytes: usize,
    /// Which of the model's files has it.
    pub part: usize,
}

impl Place {
    /// How many numbers it has.
    pub(super) fn elements(&self) -> usize {
        self.bytes / self.format.block_bytes() * self.format.block_len()
    }
}

/// The key that moves tensors, and its value where a header lacks it.
pub(super) const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// `GGML_MAX_DIMS` of `ggml.h`.
const MAX_DIMENSIONS: u32 = 4;
/// Bytes of magic, version and the two counts.
const PREAMBLE: u64 = 24;

/// Reads the header of a file of `len` bytes.
///
/// # Errors
/// [`Error::Model`] for what is damaged or truncated, [`Error::Unsupported`] for other versions,
/// other byte orders and tensor types that are not read; both name the key or the tensor.
pub(super) fn read(path: &Path, len: u64, reader: impl Read) -> Result<Header> {
    let mut source = Source {
        path,
        reader,
        at: 0,
        len,
    };
    source.check_version()?;
    let (tensors, pairs) = (source.number("the header")?, source.number("the header")?);
    let mut metadata = Metadata::default();
    for n in 0..pairs {
        let key = source.name(&format!("the name of key {n}"))?;
        let value = source.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(source.damaged(format!("key {key} is there twice")));
        }
    }
    let alignment = source.alignment(&metadata)?;
    let mut entries = BTreeMap::new();
    for n in 0..tensors {
        let name = source.name(&format!("the name of tensor {n}"))?;
        let entry = source.tensor(&name)?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(source.damaged(format!("tensor {name} is there twice")));
        }
    }
    let start = source.at.checked_next_multiple_of(alignment);
    let places = entries.into_iter().map(|(name, entry)| {
        let place = source.place(&name, entry, start, alignment)?;
        Ok((name, place))
    });
    let tensors = places.collect::<Result<_>>()?;
    source.check_overlaps(&tensors)?;
    Ok(Header { metadata, tensors })
}

/// A tensor as the header has it.
struct Entry {
    format: TensorFormat,
    /// The length of a row first.
    lengths: Vec<u64>,
    offset: u64,
}

/// A file, read from its start to its end.
struct Source<'a, R> {
    path: &'a Path,
    reader: R,
    at: u64,
    len: u64,
}

impl<R: Read> Source<'_, R> {
    fn error(&self, reason: String) -> Error {
        Error::Model {
            path: self.path.to_owned(),
            reason,
        }
    }

    fn damaged(&self, reason: String) -> Error {
        self.error(format!("damaged header: {reason}"))
    }

    fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path.to_owned(),
            what,
            supported,
        }
    }

    /// Appends the next bytes; `what` they belong to is for the error.
    fn take(&mut self, count: u64, what: &str, to: &mut Vec<u8>) -> Result<()> {
        let left = self.len - self.at;
        let fits = usize::try_from(count).ok().filter(|_| count <= left);
        let Some(size) = fits else {
            return Err(self.error(format!(
                "damaged or truncated header: {what} needs {count} bytes, but {left} are left; download it again"
            )));
        };
        let from = to.len();
        to.resize(from + size, 0);
        let read = |source| Error::Read {
            path: self.path.to_owned(),
            source,
        };
        self.reader.read_exact(&mut to[from..]).map_err(read)?;
        self.at += count;
        Ok(())
    }

    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(count, what, &mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.bytes(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn short_number(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A string: its length, then its bytes.
    fn string(&mut self, what: &str) -> Result<Vec<u8>> {
        let length = self.number(what)?;
        self.bytes(length, what)
    }

    /// A string that names something.
    fn name(&mut self, what: &str) -> Result<String> {
        let bytes = self.string(what)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(format!("{what} is not UTF-8")))
    }

    fn check_version(&mut self) -> Result<()> {
        let magic = self.len >= PREAMBLE && &self.array::<4>("the header")? == b"GGUF";
        if !magic {
            return Err(self.error("is not a GGUF file (it does not start with \"GGUF\")".into()));
        }
        let version = self.short_number("the header")?;
        let what = match version {
            2 | 3 => return Ok(()),
            // Versions are small, so the bytes of a small number in the other order.
            _ if (1..1 << 16).contains(&version.swap_bytes()) => "a big-endian GGUF file".into(),
            _ => format!("GGUF version {version}"),
        };
        let supported = "little-endian files of versions 2 and 3 are; convert it again with a current llama.cpp";
        Err(self.unsupported(what, supported.into()))
    }

    fn kind(&mut self, what: &str) -> Result<Kind> {
        let number = self.short_number(what)?;
        Kind::find(number).ok_or_else(|| {
            self.damaged(format!(
                "{what} is of type {number}, which GGUF does not define"
            ))
        })
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let what = format!("key {key}");
        match self.kind(&what)? {
            Kind::String => {
                let bytes = self.string(&what)?;
                Ok(String::from_utf8(bytes)
                    .map_or_else(|error| Value::Bytes(error.into_bytes()), Value::String))
            }
            Kind::Array => self.values(&what).map(Value::Array),
            kind => {
                let bytes = self.bytes(kind.size().unwrap_or(0) as u64, &what)?;
                let value = Value::scalar(kind, &bytes);
                value.ok_or_else(|| self.damaged(format!("{what} is {bytes:?}, not true or false")))
            }
        }
    }

    /// An array: the type of its values, how many, and all of them.
    fn values(&mut self, what: &str) -> Result<Array> {
        let kind = self.kind(what)?;
        let count = self.number(what)?;
        if let Some(size) = kind.size() {
            let bytes = self.bytes(count.saturating_mul(size as u64), what)?;
            if kind == Kind::Bool && bytes.iter().any(|byte| *byte > 1) {
                return Err(self.damaged(format!("{what} has values that are not true or false")));
            }
            return Ok(Array::numbers(kind, bytes));
        }
        if kind == Kind::Array {
            return Err(self.unsupported(
                format!("{what}, an array of arrays,"),
                "arrays of numbers and strings are".into(),
            ));
        }
        // Nothing is reserved by the count: strings that the file does not hold end the loop.
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let length = self.number(what)?;
            self.take(length, what, &mut bytes)?;
            ends.push(bytes.len());
        }
        Ok(Array::of_strings(bytes, ends))
    }

    fn alignment(&self, metadata: &Metadata) -> Result<u64> {
        let Some(value) = metadata.get(ALIGNMENT) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let number = value.as_integer().and_then(|n| u64::try_from(n).ok());
        number.filter(|n| n.is_power_of_two()).ok_or_else(|| {
            self.damaged(format!(
                "{ALIGNMENT} should be a power of two, but is {value}"
            ))
        })
    }

    fn tensor(&mut self, name: &str) -> Result<Entry> {
        let what = format!("tensor {name}");
        let dimensions = self.short_number(&what)?;
        if dimensions > MAX_DIMENSIONS {
            return Err(self.damaged(format!(
                "{what} has {dimensions} dimensions, more than GGUF's {MAX_DIMENSIONS}"
            )));
        }
        let lengths = (0..dimensions).map(|_| self.number(&what));
        let lengths = lengths.collect::<Result<_>>()?;
        let number = self.short_number(&what)?;
        let format = types::find(number).map_err(|number| {
            let supported = format!("types that are: {}", types::read());
            self.unsupported(format!("{what} of {number},"), supported)
        })?;
        Ok(Entry {
            format,
            lengths,
            offset: self.number(&what)?,
        })
    }

    /// Checks a tensor's shape and that all of it is inside the file.
    fn place(&self, name: &str, entry: Entry, start: Option<u64>, alignment: u64) -> Result<Place> {
        let Entry {
            format,
            lengths,
            offset,
        } = entry;
        let sizes = lengths.iter().map(|n| usize::try_from(*n).ok());
        let shape: Option<Vec<usize>> = sizes.rev().collect();
        let bytes = shape.as_ref().and_then(|shape| {
            let (columns, others) = shape.split_last().unwrap_or((&1, &[]));
            // Blocks lie within rows.
            let row = format.bytes(*columns)?;
            others.iter().try_fold(row, |n, size| n.checked_mul(*size))
        });
        let (Some(shape), Some(bytes)) = (shape, bytes) else {
            return Err(self.error(format!(
                "tensor {name} has an impossible shape for {format}: {lengths:?}"
            )));
        };
        if !offset.is_multiple_of(alignment) {
            return Err(self.damaged(format!(
                "tensor {name} is at {offset}, which is not a multiple of the file's alignment, {alignment}"
            )));
        }
        let start = start.and_then(|start| start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(bytes as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.len => Ok(Place {
                format,
                shape,
                start,
                bytes,
                part: 0,
            }),
            _ => Err(self.error(format!(
                "truncated: tensor {name} does not fit in the file's {} bytes; download it again",
                self.len
            ))),
        }
    }

    /// Two tensors in one place are a damaged header: one of them would be read as the other.
    fn check_overlaps(&self, tensors: &BTreeMap<String, Place>) -> Result<()> {
        let mut places: Vec<_> = tensors.iter().collect();
        places.retain(|(_, place)| place.bytes > 0);
        places.sort_by_key(|(_, place)| place.start);
        for pair in places.windows(2) {
            let [(name, place), (next, other)] = pair else {
                continue;
            };
            if place.start + place.bytes as u64 > other.start {
                return Err(self.damaged(format!("tensors {name} and {next} overlap")));
            }
        }
        Ok(())
    }
}

//! GGUF files: the one place where tensor and key names of this format appear.

mod config;
mod families;
mod k_quants;
mod pack;

use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::decoder::Weights;
use crate::error::{Error, Result};
use crate::weights::{self, Checkpoint};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
pub(crate) use pack::pack;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An opened GGUF file whose header was read and checked.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// Locked from a seek to the end of its read: tensors are read from several threads, and
    /// clones of a file share its place.
    file: Mutex<File>,
    content: Content,
}

/// A tensor's bytes as the file has them, row-major.
#[derive(Debug)]
pub struct RawTensor {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: GgmlDType,
    /// Rows.
    pub rows: usize,
    /// Columns of a row.
    pub columns: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What the header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The format of its numbers, as GGUF calls it: `F32`, `Q4_1`, ...
    pub format: String,
    /// How many numbers it has.
    pub elements: usize,
    /// Bytes it takes in the file.
    pub bytes: usize,
}

impl GgufFile {
    /// Opens a file, reads its header and checks that every tensor it announces is inside it.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::Model`] when it is not a whole GGUF file.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if metadata.is_dir() {
            return Err(bad(path, "is a folder; name the .gguf file in it"));
        }
        let mut reader = BufReader::new(&file);
        let mut magic = [0; 4];
        if metadata.len() < 24 || reader.read_exact(&mut magic).is_err() || &magic != b"GGUF" {
            return Err(bad(
                path,
                "is not a GGUF file (it does not start with \"GGUF\")",
            ));
        }
        if declares_zero_alignment(&file).map_err(read)? {
            return Err(bad(path, "damaged header: general.alignment is 0"));
        }
        reader.seek(SeekFrom::Start(0)).map_err(read)?;
        let content = Content::read(&mut reader).map_err(|error| {
            bad(
                path,
                format!("damaged or truncated header: {}", first_line(&error)),
            )
        })?;
        let gguf = Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            content,
        };
        gguf.check_extents(metadata.len())?;
        Ok(gguf)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything the header says.
    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    /// The tensors, in no particular order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.content.tensor_infos.iter().map(|(name, info)| {
            let (dtype, elements) = (info.ggml_dtype, info.shape.elem_count());
            let bytes = elements / dtype.block_size() * dtype.type_size();
            // candle names the k-quants without the underscore of the format.
            let format = format!("{dtype:?}").to_uppercase();
            let format = match format.strip_suffix('K') {
                Some(bits) => format!("{bits}_K"),
                None => format,
            };
            TensorInfo {
                name,
                format,
                elements,
                bytes,
            }
        })
    }

    /// An error about this file.
    pub(crate) fn bad(&self, reason: impl Into<String>) -> Error {
        bad(&self.path, reason)
    }

    fn check_extents(&self, file_len: u64) -> Result<()> {
        for (name, info) in &self.content.tensor_infos {
            let elements = info
                .shape
                .dims()
                .iter()
                .try_fold(1usize, |n, &d| n.checked_mul(d));
            // Blocks lie within rows.
            let columns = info.shape.dims().last().copied().unwrap_or(1);
            let bytes = elements
                .filter(|_| columns.is_multiple_of(info.ggml_dtype.block_size()))
                .map(|n| n / info.ggml_dtype.block_size())
                .and_then(|blocks| blocks.checked_mul(info.ggml_dtype.type_size()))
                .ok_or_else(|| {
                    self.bad(format!(
                        "tensor {name} has an impossible shape {:?}",
                        info.shape
                    ))
                })?;
            let end = self
                .content
                .tensor_data_offset
                .checked_add(info.offset)
                .and_then(|at| at.checked_add(bytes as u64));
            if end.is_none_or(|end| end > file_len) {
                return Err(self.bad(format!(
                    "truncated: tensor {name} does not fit in the file's {file_len} bytes; download it again"
                )));
            }
        }
        Ok(())
    }

    /// Reads all weights, several tensors at a time on the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Model`] for tensors that are missing or of the wrong shape,
    /// [`Error::Unsupported`] for tensors that nothing here would use.
    pub fn weights<B: Backend>(&self, config: &ModelConfig, backend: &B) -> Result<Weights<B>> {
        weights::load(self, self.family()?.reading(), config, backend)
    }

    /// Rows and columns of a tensor of one or two dimensions.
    fn tensor_shape(&self, name: &str) -> Result<Option<(usize, usize)>> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Ok(None);
        };
        match info.shape.dims() {
            [columns] => Ok(Some((1, *columns))),
            [rows, columns] => Ok(Some((*rows, *columns))),
            dims => Err(self.bad(format!(
                "tensor {name} has {} dimensions, not 1 or 2",
                dims.len()
            ))),
        }
    }

    /// Reads a tensor of one or two dimensions; `None` when the file has none of that name.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<RawTensor>> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Ok(None);
        };
        let Some((rows, columns)) = self.tensor_shape(name)? else {
            return Ok(None);
        };
        let blocks = rows * columns / info.ggml_dtype.block_size();
        let mut data = vec![0; blocks * info.ggml_dtype.type_size()];
        let read = |source| Error::Read {
            path: self.path.clone(),
            source,
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(
            self.content.tensor_data_offset + info.offset,
        ))
        .map_err(read)?;
        file.read_exact(&mut data).map_err(read)?;
        drop(file);
        Ok(Some(RawTensor {
            name: name.to_owned(),
            dtype: info.ggml_dtype,
            rows,
            columns,
            data,
        }))
    }

    /// A tensor's numbers as floats.
    pub(crate) fn floats(&self, tensor: &RawTensor) -> Result<Vec<f32>> {
        dequantize(tensor.dtype, &tensor.data, tensor.rows * tensor.columns)
            .map_err(|reason| self.bad(format!("tensor {}: {reason}", tensor.name)))
    }

    /// What kind of tokenizer the file has, in a few words; `None` without one.
    ///
    /// # Errors
    /// [`Error::Model`] where that is no string.
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
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.metadata().get(key) else {
            return Ok(None);
        };
        let text = value
            .to_string()
            .map_err(|_| self.bad(format!("{key} should be a string")))?;
        Ok(Some(text.as_str()))
    }

    /// A key's value as a size; `None` when absent.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.metadata().get(key) else {
            return Ok(None);
        };
        let number = match value {
            Value::I32(n) => u64::try_from(*n).ok(),
            Value::I64(n) => u64::try_from(*n).ok(),
            value => value.to_u64().ok(),
        };
        // No real model comes near 2^32 of anything; larger numbers only overflow what follows.
        let small = number.filter(|&n| n < 1 << 32);
        small
            .map(|n| Some(n as usize))
            .ok_or_else(|| self.bad(format!("{key} should be a size, but is {value:?}")))
    }

    /// A key's value as a number; `None` when absent.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.metadata().get(key) else {
            return Ok(None);
        };
        let number = match value {
            Value::F32(x) => f64::from(*x),
            Value::F64(x) => *x,
            _ => return Err(self.bad(format!("{key} should be a number, but is {value:?}"))),
        };
        Ok(Some(number))
    }
}

impl RawTensor {
    /// Some of its rows, one range after the other.
    pub(crate) fn take_rows(&self, ranges: &[Range<usize>]) -> Self {
        let row = self.data.len() / self.rows.max(1);
        let bytes = |rows: &Range<usize>| &self.data[rows.start * row..rows.end * row];
        Self {
            name: self.name.clone(),
            dtype: self.dtype,
            rows: ranges.iter().map(|rows| rows.len()).sum(),
            columns: self.columns,
            data: ranges.iter().map(bytes).collect::<Vec<_>>().concat(),
        }
    }
}

impl Checkpoint for GgufFile {
    fn tensor_names(&self) -> Vec<&str> {
        self.content
            .tensor_infos
            .keys()
            .map(String::as_str)
            .collect()
    }

    fn shape(&self, name: &str) -> Result<Option<(usize, usize)>> {
        self.tensor_shape(name)
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor>> {
        self.tensor(name)
    }

    fn bad(&self, reason: String) -> Error {
        self.bad(reason)
    }

    fn unsupported(&self, what: String, supported: String) -> Error {
        self.unsupported(what, supported)
    }
}

/// A block format's numbers as floats, by candle's conversions.
pub(crate) fn dequantize(dtype: GgmlDType, data: &[u8], count: usize) -> Result<Vec<f32>, String> {
    // candle wants the bytes aligned like its blocks; a fresh allocation always is.
    let aligned = Cow::Owned(data.to_vec());
    match dtype.from_data(aligned).dequantize(count) {
        Ok(candle_core::CpuStorage::F32(floats)) => Ok(floats),
        Ok(_) => Err("did not convert to floats".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::Model {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// candle's errors carry a backtrace after their first line.
fn first_line(error: &candle_core::Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// candle divides by the declared alignment without looking at it: a zero would panic.
fn declares_zero_alignment(mut file: &File) -> std::io::Result<bool> {
    const KEY: &[u8] = b"general.alignment";
    // The largest vocabularies take some 10 MB of the header.
    const SEARCHED: u64 = 16 << 20;
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(SEARCHED).read_to_end(&mut head)?;
    Ok(memchr::memmem::find_iter(&head, KEY).any(|at| {
        let after = &head[at + KEY.len()..];
        let Some((kind, value)) = after.split_first_chunk() else {
            return false;
        };
        // The integers that candle takes as an alignment, signed or not.
        let bytes = match u32::from_le_bytes(*kind) {
            0 | 1 => 1,
            2 | 3 => 2,
            4 | 5 => 4,
            _ => return false,
        };
        value
            .get(..bytes)
            .is_some_and(|value| value.iter().all(|byte| *byte == 0))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::{QTensor, gguf_file};
    use candle_core::{Device, Tensor};
    use rayon::prelude::*;

    #[test]
    fn an_alignment_of_zero_is_refused_whatever_its_type() {
        let values = [
            gguf_file::Value::U8(0),
            gguf_file::Value::I8(0),
            gguf_file::Value::U16(0),
            gguf_file::Value::I16(0),
            gguf_file::Value::U32(0),
            gguf_file::Value::I32(0),
        ];
        let dir = tempfile::tempdir().unwrap();
        for value in values {
            let path = dir.path().join("zero.gguf");
            // Another value behind it: the bytes after a short zero are not zero.
            let more = gguf_file::Value::U32(u32::MAX);
            let metadata = [("general.alignment", &value), ("x", &more)];
            gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &[]).unwrap();
            let error = GgufFile::open(&path).unwrap_err().to_string();
            assert!(
                error.contains("general.alignment is 0"),
                "{value:?}: {error}"
            );
        }
    }

    #[test]
    fn a_row_that_ends_within_a_block_is_refused() {
        let numbers = Tensor::zeros((8, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&numbers, GgmlDType::Q4_0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.gguf");
        gguf_file::write(&mut File::create(&path).unwrap(), &[], &[("w", &tensor)]).unwrap();
        assert!(GgufFile::open(&path).is_ok());
        // As many numbers, but rows of 16; the file's first dimension is the row's length.
        let bytes = std::fs::read(&path).unwrap();
        let shape = [32u64.to_le_bytes(), 8u64.to_le_bytes()].concat();
        let at = memchr::memmem::find(&bytes, &shape).unwrap();
        let lie = [16u64.to_le_bytes(), 16u64.to_le_bytes()].concat();
        std::fs::write(&path, [&bytes[..at], &lie, &bytes[at + 16..]].concat()).unwrap();
        let error = GgufFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("impossible shape"), "{error}");
    }

    /// Every tensor holds its own number; a read that starts in another's place is seen.
    #[test]
    fn tensors_read_by_several_threads_are_not_mixed_up() {
        let tensor = |n: usize| {
            let numbers = vec![n as f32; 512];
            let tensor = Tensor::from_vec(numbers, (16, 32), &Device::Cpu).unwrap();
            let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
            (n.to_string(), tensor)
        };
        let tensors: Vec<_> = (0..200).map(tensor).collect();
        let named: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers.gguf");
        gguf_file::write(&mut File::create(&path).unwrap(), &[], &named).unwrap();
        let gguf = GgufFile::open(&path).unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(8)
            .build()
            .unwrap();
        pool.install(|| {
            (0..2000usize).into_par_iter().for_each(|n| {
                let raw = gguf.tensor(&(n % 200).to_string()).unwrap().unwrap();
                let numbers = gguf.floats(&raw).unwrap();
                assert!(numbers.iter().all(|&number| number == (n % 200) as f32));
            });
        });
    }
}

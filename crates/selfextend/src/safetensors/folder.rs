//! An opened folder of safetensors files.

use super::packed::{self, Eights, Fours, Packed};
use crate::error::{Error, Result};
use crate::tensor::{RawTensor, TensorFormat, TensorInfo};
use crate::weights::Checkpoint;
use ::safetensors::Dtype;
use ::safetensors::tensor::{self, Metadata};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The longest header of a safetensors file that is read; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// The longest JSON file that is read: real tokenizers take up to 40 MB.
const MAX_JSON: u64 = 1 << 28;

/// A folder whose config.json and headers were read and checked.
#[derive(Debug)]
pub struct SafetensorsFolder {
    path: PathBuf,
    config: Value,
    shards: Vec<Shard>,
    /// Which shard has a tensor.
    tensors: HashMap<String, usize>,
    /// Tensors that others make up.
    packed: Packed,
    ignored_keys: Vec<String>,
}

/// One safetensors file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Locked from a seek to the end of its read.
    file: Mutex<File>,
    metadata: Metadata,
    data_offset: u64,
}

impl SafetensorsFolder {
    /// Opens a folder, reads config.json and the headers of its safetensors files, and checks
    /// that every tensor they announce is inside its file.
    ///
    /// # Errors
    /// [`Error::Read`] for files that cannot be read, [`Error::Model`] for those that are damaged
    /// or missing.
    pub fn open(path: &Path) -> Result<Self> {
        let config = path.join("config.json");
        if !config.is_file() {
            return Err(bad(
                path,
                "is a folder without a config.json; name a .gguf file, or a folder with config.json, tokenizer.json and safetensors files",
            ));
        }
        let config = read_json(&config)?;
        let index = path.join("model.safetensors.index.json");
        let single = "model.safetensors";
        let names = if index.is_file() {
            shard_names(&index)?
        } else {
            BTreeSet::from([single.to_owned()])
        };
        // Libraries differ in which of the two they read.
        if !names.contains(single) && path.join(single).is_file() {
            return Err(bad(
                path,
                "holds weights twice, as model.safetensors and in the files of model.safetensors.index.json; remove one of them",
            ));
        }
        let shards = names.iter().map(|name| Shard::open(&path.join(name)));
        let shards = shards.collect::<Result<Vec<_>>>()?;
        let mut tensors = HashMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for name in shard.metadata.offset_keys() {
                if tensors.insert(name.clone(), number).is_some() {
                    return Err(bad(&shard.path, format!("tensor {name} is in two files")));
                }
            }
        }
        let info = |name: &str| {
            let shard: &Shard = &shards[*tensors.get(name)?];
            shard.metadata.info(name)
        };
        let names = tensors.keys().map(String::as_str);
        let packed = Packed::find(names, info, &config).map_err(|reason| bad(path, reason))?;
        Ok(Self {
            packed,
            path: path.to_owned(),
            config,
            shards,
            tensors,
            ignored_keys: Vec::new(),
        })
    }

    /// The same, to be read in spite of these unknown keys of config.json, or of tokenizer.json where
    /// they begin with `tokenizer.json:`.
    #[must_use]
    pub fn ignoring(self, keys: &[String]) -> Self {
        Self {
            ignored_keys: keys.to_vec(),
            ..self
        }
    }

    /// Keys that may be unknown, of config.json and of tokenizer.json.
    pub(super) fn all_ignored_keys(&self) -> &[String] {
        &self.ignored_keys
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors, in no particular order.
    pub fn tensors(&self) -> Vec<TensorInfo<'_>> {
        let info = |name: &'_ String| self.find(name).map(|(_, info)| info);
        let tensors = self
            .tensors
            .keys()
            .filter_map(|name| Some((name, info(name)?)));
        let tensors = tensors.map(|(name, info)| TensorInfo {
            name,
            format: format!("{:?}", info.dtype),
            elements: info.shape.iter().product(),
            bytes: info.data_offsets.1 - info.data_offsets.0,
        });
        tensors.collect()
    }

    /// What the folder's tokenizer is, in a few words; `None` without one.
    pub fn tokenizer_kind(&self) -> Option<String> {
        let file = self.path.join("tokenizer.json");
        file.is_file().then(|| "tokenizer.json".to_owned())
    }

    /// The chat template, of chat_template.jinja or tokenizer_config.json.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn chat_template(&self) -> Result<Option<String>> {
        let path = self.path.join("chat_template.jinja");
        if path.is_file() {
            let source = std::fs::read_to_string(&path);
            return source
                .map(Some)
                .map_err(|source| Error::Read { path, source });
        }
        let config = self.tokenizer_config()?;
        let named = |template: &Value| {
            let is_default = template["name"] == "default";
            is_default.then(|| template["template"].as_str().map(str::to_owned))
        };
        Ok(match &config["chat_template"] {
            Value::String(source) => Some(source.clone()),
            Value::Array(templates) => templates.iter().find_map(named).flatten(),
            Value::Null => None,
            _ => {
                let path = self.path.join("tokenizer_config.json");
                return Err(bad(&path, "has a chat_template that is not text"));
            }
        })
    }

    /// tokenizer_config.json; null where there is none.
    pub(super) fn tokenizer_config(&self) -> Result<Value> {
        self.optional_json("tokenizer_config.json")
    }

    pub(super) fn optional_json(&self, name: &str) -> Result<Value> {
        let path = self.path.join(name);
        if path.is_file() {
            read_json(&path)
        } else {
            Ok(Value::Null)
        }
    }

    /// Where config.json is, and what it says.
    pub(super) fn config_json(&self) -> (PathBuf, &Value) {
        (self.path.join("config.json"), &self.config)
    }

    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// One of the matrices that tensors of codes and of scales make up.
    fn fours(&self, name: &str, fours: &Fours, number: usize) -> Result<RawTensor> {
        let [matrices, rows, columns] = fours.shape;
        let read = |name: &str| match self.find(name) {
            Some((shard, info)) => shard.read(info, number, matrices),
            None => Err(bad(&self.path, format!("tensor {name} is missing"))),
        };
        Ok(RawTensor {
            name: name.to_owned(),
            format: TensorFormat::MXFP4,
            rows,
            columns,
            data: packed::blocks(&read(&fours.blocks)?, &read(&fours.scales)?),
        })
    }

    /// A matrix of floats of 8 bits, widened.
    fn eights(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        eights: &Eights,
    ) -> Result<RawTensor> {
        let missing = |name: &str| bad(&self.path, format!("tensor {name} is missing"));
        let (shard, info) = self.find(name).ok_or_else(|| missing(name))?;
        let scales = self.tensor(&eights.scales)?;
        let scales = scales.ok_or_else(|| missing(&eights.scales))?.to_floats();
        let codes = RawTensor {
            name: name.to_owned(),
            // Replaced with its numbers.
            format: TensorFormat::BF16,
            rows,
            columns,
            data: shard.read(info, 0, 1)?,
        };
        Ok(eights.widen(codes, &scales))
    }

    fn find(&self, name: &str) -> Option<(&Shard, &tensor::TensorInfo)> {
        let shard = &self.shards[*self.tensors.get(name)?];
        Some((shard, shard.metadata.info(name)?))
    }
}

impl SafetensorsFolder {
    /// One of so many equal parts of a tensor, of so many rows and columns.
    fn part(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        number: usize,
        parts: usize,
    ) -> Result<Option<RawTensor>> {
        let Some((shard, info)) = self.find(name) else {
            return Ok(None);
        };
        let format = match info.dtype {
            Dtype::F32 => TensorFormat::F32,
            Dtype::F16 => TensorFormat::F16,
            Dtype::BF16 => TensorFormat::BF16,
            other => {
                return Err(Error::Unsupported {
                    path: shard.path.clone(),
                    what: format!("tensor {name} in {other:?}"),
                    supported: "supported: F32, F16, BF16".into(),
                });
            }
        };
        Ok(Some(RawTensor {
            name: name.to_owned(),
            format,
            rows,
            columns,
            data: shard.read(info, number, parts)?,
        }))
    }
}

impl Shard {
    /// The bytes of one of so many equal parts of a tensor.
    fn read(&self, info: &tensor::TensorInfo, number: usize, parts: usize) -> Result<Vec<u8>> {
        let (from, to) = info.data_offsets;
        let bytes = (to - from) / parts.max(1);
        let mut data = vec![0; bytes];
        let read = |source| Error::Read {
            path: self.path.clone(),
            source,
        };
        let start = self.data_offset + (from + number * bytes) as u64;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        file.read_exact(&mut data).map_err(read)?;
        Ok(data)
    }
}

impl Checkpoint for SafetensorsFolder {
    fn tensor_names(&self) -> Vec<&str> {
        let own = self.tensors.keys().map(String::as_str);
        let own = own.filter(|name| !self.packed.is_part(name));
        own.chain(self.packed.names()).collect()
    }

    fn shape(&self, name: &str) -> Result<Option<(usize, usize)>> {
        let Some((shard, info)) = self.find(name) else {
            return Ok(None);
        };
        match info.shape[..] {
            [] => Ok(Some((1, 1))),
            [columns] => Ok(Some((1, columns))),
            [rows, columns] => Ok(Some((rows, columns))),
            _ => Err(bad(
                &shard.path,
                format!(
                    "tensor {name} has {} dimensions, not up to 2",
                    info.shape.len()
                ),
            )),
        }
    }

    fn stack(&self, name: &str) -> Result<Option<[usize; 3]>> {
        if let Some(fours) = self.packed.fours(name) {
            return Ok(Some(fours.shape));
        }
        let Some((shard, info)) = self.find(name) else {
            return Ok(None);
        };
        match info.shape[..] {
            [matrices, rows, columns] => Ok(Some([matrices, rows, columns])),
            _ => Err(bad(
                &shard.path,
                format!("tensor {name} has {} dimensions, not 3", info.shape.len()),
            )),
        }
    }

    fn stacked(&self, name: &str, number: usize) -> Result<Option<RawTensor>> {
        if let Some(fours) = self.packed.fours(name) {
            return self.fours(name, fours, number).map(Some);
        }
        match self.stack(name)? {
            Some([matrices, rows, columns]) => self.part(name, (rows, columns), number, matrices),
            None => Ok(None),
        }
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor>> {
        let Some(shape) = self.shape(name)? else {
            return Ok(None);
        };
        match self.packed.eights(name) {
            None => self.part(name, shape, 0, 1),
            Some(eights) => self.eights(name, shape, eights).map(Some),
        }
    }

    fn bad(&self, reason: String) -> Error {
        bad(&self.path, reason)
    }

    fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            what,
            supported,
        }
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(read)?;
        let file_len = file.metadata().map_err(read)?.len();
        let mut len = [0; 8];
        let length = file.read_exact(&mut len).map(|()| u64::from_le_bytes(len));
        let length = length
            .ok()
            .filter(|&n| n <= MAX_HEADER && n <= file_len.saturating_sub(8));
        let Some(length) = length else {
            return Err(bad(
                path,
                "is not a safetensors file, or its header is cut off; download it again",
            ));
        };
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(read)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| bad(path, format!("damaged header: {error}")))?;
        let data_offset = 8 + length;
        if data_offset.checked_add(metadata.data_len() as u64) != Some(file_len) {
            return Err(bad(
                path,
                format!(
                    "is cut off or damaged: its header announces {} bytes of tensors, the file has {}; download it again",
                    metadata.data_len(),
                    file_len - data_offset
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            metadata,
            data_offset,
        })
    }
}

/// The files that an index names. They lie beside it: a name that leads elsewhere is refused.
fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    let json = read_json(index)?;
    let map = json["weight_map"].as_object();
    let map = map.ok_or_else(|| bad(index, "has no weight_map"))?;
    let name = |file: &Value| match file.as_str() {
        Some(name) if !name.contains(['/', '\\']) && name.ends_with(".safetensors") => {
            Ok(name.to_owned())
        }
        _ => Err(bad(index, format!("names {file} as a file of weights"))),
    };
    map.values().map(name).collect()
}

pub(super) fn read_json(path: &Path) -> Result<Value> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    if file.metadata().map_err(read)?.len() > MAX_JSON {
        return Err(bad(path, "is larger than any file of its kind"));
    }
    let mut text = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut text).map_err(read)?;
    serde_json::from_slice(&text).map_err(|error| bad(path, format!("is damaged: {error}")))
}

pub(super) fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::Model {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

//! A model on disk, in either format.

use crate::backend::Backend;
use crate::chat_template::{ChatTemplate, TemplateError};
use crate::config::ModelConfig;
use crate::decoder::Weights;
use crate::error::Result;
use crate::gguf::GgufFile;
use crate::keys::Key;
use crate::safetensors::SafetensorsFolder;
use crate::sampling::Sampling;
use crate::tensor::TensorInfo;
use crate::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;

/// An opened model whose headers were read and checked.
pub enum ModelFile {
    /// A GGUF file.
    Gguf(GgufFile),
    /// A folder as `transformers` writes it.
    Safetensors(Box<SafetensorsFolder>),
}

impl ModelFile {
    /// Opens a GGUF file, a folder with config.json and safetensors files, or one of these files.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is neither of these.
    pub fn open(path: &Path) -> Result<Self> {
        let in_folder =
            |extension: &std::ffi::OsStr| extension == "safetensors" || extension == "json";
        if path.is_dir() {
            Ok(Self::Safetensors(Box::new(SafetensorsFolder::open(path)?)))
        } else if path.extension().is_some_and(in_folder) {
            let folder = path.parent().unwrap_or(Path::new("."));
            Ok(Self::Safetensors(Box::new(SafetensorsFolder::open(
                folder,
            )?)))
        } else {
            Ok(Self::Gguf(GgufFile::open(path)?))
        }
    }

    /// The same, to be read in spite of these unknown keys of its header or config.json
    /// ([`crate::keys`]).
    #[must_use]
    pub fn ignoring(self, keys: &[String]) -> Self {
        match self {
            Self::Gguf(file) => Self::Gguf(file.ignoring(keys)),
            Self::Safetensors(folder) => Self::Safetensors(Box::new(folder.ignoring(keys))),
        }
    }

    /// What became of each key of the header or of config.json.
    ///
    /// # Errors
    /// As [`ModelFile::config`].
    pub fn keys(&self) -> Result<Vec<Key>> {
        match self {
            Self::Gguf(file) => file.keys(),
            Self::Safetensors(folder) => folder.keys(),
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(file) => file.path(),
            Self::Safetensors(folder) => folder.path(),
        }
    }

    /// The files that hold the weights of a GGUF model: one, or all parts. None for a folder.
    pub fn parts(&self) -> Vec<&Path> {
        match self {
            Self::Gguf(file) => file.files().collect(),
            Self::Safetensors(_) => Vec::new(),
        }
    }

    /// The tensors, in no particular order.
    pub fn tensors(&self) -> Vec<TensorInfo<'_>> {
        match self {
            Self::Gguf(file) => file.tensors().collect(),
            Self::Safetensors(folder) => folder.tensors(),
        }
    }

    /// What kind of tokenizer the model has, in a few words; `None` without one.
    ///
    /// # Errors
    /// A file that has it in the wrong type.
    pub fn tokenizer_kind(&self) -> Result<Option<String>> {
        match self {
            Self::Gguf(file) => file.tokenizer_kind(),
            Self::Safetensors(folder) => Ok(folder.tokenizer_kind()),
        }
    }

    /// The model's configuration.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an architecture or option this version does not run, and for
    /// unknown keys, [`crate::Error::Model`] for a configuration that contradicts itself.
    pub fn config(&self) -> Result<ModelConfig> {
        match self {
            Self::Gguf(file) => file.config(),
            Self::Safetensors(folder) => folder.config(),
        }
    }

    /// Reads all weights, several tensors at a time on the current rayon pool.
    ///
    /// # Errors
    /// Tensors that are missing, of the wrong shape, or that the architecture does not use.
    pub fn weights<B: Backend>(&self, config: &ModelConfig, backend: &B) -> Result<Weights<B>> {
        match self {
            Self::Gguf(file) => file.weights(config, backend),
            Self::Safetensors(folder) => folder.weights(config, backend),
        }
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// A tokenizer that is missing or that this version cannot use.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match self {
            Self::Gguf(file) => Ok(Tokenizer::from_gguf(file.metadata())?),
            Self::Safetensors(folder) => folder.tokenizer(),
        }
    }

    /// The settings of sampling that the model's publisher recommends, by their names in
    /// generation_config.json or after `general.sampling.` in a GGUF header. Nothing uses them unasked.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sampling_defaults(&self) -> Result<BTreeMap<&'static str, String>> {
        match self {
            Self::Gguf(file) => Ok(file.sampling_defaults()),
            Self::Safetensors(folder) => folder.sampling_defaults(),
        }
    }

    /// The sampling that the model's publisher recommends; `None` if the files recommend none.
    ///
    /// # Errors
    /// A file that cannot be read, settings of the wrong type, or samplers that are not supported.
    pub fn recommended_sampling(&self) -> Result<Option<Sampling>> {
        match self {
            Self::Gguf(file) => file.recommended_sampling(),
            Self::Safetensors(folder) => folder.recommended_sampling(),
        }
    }

    /// The model's chat template, where it has one; `bos` and `eos` are the texts of those tokens. One
    /// that cannot be read or does not parse remembers why: see [`ChatTemplate::fault`].
    pub fn template(&self, bos: &str, eos: &str) -> Option<ChatTemplate> {
        match self.chat_template() {
            Ok(source) => source.map(|source| ChatTemplate::of_model(&source, bos, eos)),
            Err(error) => Some(ChatTemplate::faulty(TemplateError::Fault {
                message: error.to_string(),
            })),
        }
    }

    /// The source of the model's chat template, where it has one.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that is not text.
    pub fn chat_template(&self) -> Result<Option<String>> {
        match self {
            Self::Gguf(file) => Ok(file.string("tokenizer.chat_template")?.map(str::to_owned)),
            Self::Safetensors(folder) => folder.chat_template(),
        }
    }
}

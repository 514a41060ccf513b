//! Folders as `transformers` writes them: config.json, one or several safetensors files, and
//! tokenizer.json. The one place where the names of these files and of their contents appear.

mod config;
mod experts;
mod folder;
mod generation;
mod model_types;
mod names;
mod nested;
mod options;
mod packed;
mod reader;
mod rope;
mod tokenizer_config;
mod tokenizer_keys;

use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::decoder::Weights;
use crate::error::Result;
use crate::keys::Key;
use crate::tokenizer::Tokenizer;
use crate::weights;
pub use folder::SafetensorsFolder;
use folder::{bad, read_json};

/// What `transformers` calls the models that are read, and those with such a model in them.
#[cfg(test)]
pub(crate) fn model_types() -> [Vec<&'static str>; 2] {
    let nesting = nested::NESTINGS.iter().map(|known| known.name);
    [
        model_types::all().map(|known| known.name).collect(),
        nesting.collect(),
    ]
}

impl SafetensorsFolder {
    /// Reads the model's configuration.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a model type or an option this version does not run,
    /// [`crate::Error::Model`] for values that are missing or contradict each other.
    pub fn config(&self) -> Result<ModelConfig> {
        Ok(self.described()?.config)
    }

    /// What became of each key of config.json, and of tokenizer.json and tokenizer_config.json where they
    /// are.
    ///
    /// # Errors
    /// As [`SafetensorsFolder::config`], and one of these that cannot be read or has unknown keys.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = self.described()?.keys;
        let path = self.path().join("tokenizer.json");
        if path.is_file() {
            keys.extend(self.tokenizer_keys(&read_json(&path)?)?);
            keys.extend(self.tokenizer_config_keys(&self.tokenizer_config()?)?);
        }
        Ok(keys)
    }

    fn described(&self) -> Result<config::Described> {
        let (path, json) = self.config_json();
        let ignored = self.all_ignored_keys().iter().cloned();
        let ignored: Vec<String> = ignored.filter(|key| !tokenizer_keys::is_own(key)).collect();
        config::read(&path, json, &ignored)
    }

    /// Reads all weights, several tensors at a time on the current rayon pool.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for tensors that are missing or of the wrong shape,
    /// [`crate::Error::Unsupported`] for tensors that the architecture does not use.
    pub fn weights<B: Backend>(&self, config: &ModelConfig, backend: &B) -> Result<Weights<B>> {
        let described = self.described()?;
        let mut reading = described.reading;
        if described.is_nested {
            reading.names = nested::names(reading.names, |name| self.has_tensor(name));
        }
        weights::load(self, reading, config, backend)
    }

    /// The tokenizer of tokenizer.json.
    ///
    /// # Errors
    /// A file that is missing or that this version cannot use.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.path().join("tokenizer.json");
        if !path.is_file() {
            return Err(bad(self.path(), "has no tokenizer.json"));
        }
        let json = read_json(&path)?;
        self.tokenizer_keys(&json)?;
        let json = self.without_ignored(json);
        let (_, config) = self.config_json();
        let own_config = self.tokenizer_config()?;
        self.tokenizer_config_keys(&own_config)?;
        let json = self.configured(json, &own_config)?;
        let mut tokenizer = Tokenizer::from_json(json, &own_config, &nested::flat(config))?;
        tokenizer.add_end_tokens(self.generation_config()?.end_tokens()?);
        Ok(tokenizer)
    }
}

//! GGUF files: the one place where tensor and key names of this format appear.

mod config;
mod experts;
mod file;
mod header;
mod keys;
mod metadata;
mod names;
pub(crate) mod part_names;
mod sampling;
mod split;
#[cfg(test)]
mod tests;
mod types;

use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::decoder::Weights;
use crate::error::Result;
use crate::keys::Key;
use crate::weights;
pub use file::GgufFile;
pub use metadata::{Array, Metadata, Value};

/// What GGUF calls the architectures that are read.
#[cfg(test)]
pub(crate) fn architectures() -> Vec<&'static str> {
    names::ARCHITECTURES
        .iter()
        .map(|known| known.name)
        .collect()
}

impl GgufFile {
    /// Reads the model's configuration.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an architecture or feature this version does not run,
    /// [`crate::Error::Model`] for keys that are missing or contradict each other.
    pub fn config(&self) -> Result<ModelConfig> {
        Ok(self.described()?.config)
    }

    /// What became of each key of the header.
    ///
    /// # Errors
    /// As [`GgufFile::config`].
    pub fn keys(&self) -> Result<Vec<Key>> {
        Ok(self.described()?.keys)
    }

    fn described(&self) -> Result<config::Described> {
        config::read(self, self.ignored_keys())
    }

    /// Reads all weights, several tensors at a time on the current rayon pool.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for tensors that are missing or of the wrong shape,
    /// [`crate::Error::Unsupported`] for tensors that the architecture does not use.
    pub fn weights<B: Backend>(&self, config: &ModelConfig, backend: &B) -> Result<Weights<B>> {
        weights::load(self, self.described()?.reading, config, backend)
    }
}

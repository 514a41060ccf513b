//! A small model that guesses tokens for a larger one with the same vocabulary.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::model_file::ModelFile;
use crate::options::{LoadOptions, SessionOptions};
use crate::request::ContextRequest;
use crate::tokenizer::Tokenizer;
use crate::{KvType, SessionBytes};
use std::borrow::Cow;
use std::path::Path;

/// An opened draft model, whose weights are not loaded yet: so that a vocabulary that does not fit is
/// refused before anything large is read.
pub struct DraftFile {
    file: ModelFile,
    tokenizer: Tokenizer,
    /// Rows of its embedding.
    rows: usize,
}

impl DraftFile {
    /// Opens a GGUF file or a folder of safetensors files; `ignored_keys` as in [`LoadOptions`].
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds a model or tokenizer this version cannot use.
    pub fn open(path: &Path, ignored_keys: &[String]) -> Result<Self> {
        let file = ModelFile::open(path)?.ignoring(ignored_keys);
        Ok(Self {
            rows: file.config()?.vocab,
            tokenizer: file.tokenizer()?,
            file,
        })
    }

    /// Whether it knows every token of a vocabulary by the same id. Padding on either side does not
    /// matter, nor do further tokens of the draft's: they are never proposed.
    ///
    /// # Errors
    /// [`Error::Draft`] names the first token that differs.
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        let differs = |id: &u32| !self.knows(*id, tokenizer);
        let tokens = tokenizer.vocab_size() as u32;
        let Some(id) = (0..tokens).find(differs) else {
            return Ok(());
        };
        let there = match self.tokenizer.token_text(id) {
            Some(text) => format!("{text:?}"),
            None => "missing".to_owned(),
        };
        let here = tokenizer.token_text(id).unwrap_or_default();
        Err(Error::Draft {
            path: self.file.path().to_owned(),
            reason: format!(
                "token {id} is {here:?} in the model and {there} in the draft; choose a smaller model of the same family, whose vocabulary is the same"
            ),
        })
    }

    fn knows(&self, id: u32, tokenizer: &Tokenizer) -> bool {
        let theirs = bytes(tokenizer, id);
        if is_padding(&theirs, id) {
            return true;
        }
        if id as usize >= self.rows {
            return false;
        }
        let ours = bytes(&self.tokenizer, id);
        ours == theirs || is_padding(&ours, id)
    }

    /// Loads the weights, to guess for a model and on its threads.
    ///
    /// # Errors
    /// As [`DraftFile::check`] and [`Model::load`]; a model on a device where speculation could change
    /// the text ([`Model::check_exact_steps`]).
    pub fn load(
        self,
        model: &Model,
        tokenizer: &Tokenizer,
        options: LoadOptions,
    ) -> Result<DraftModel> {
        model.check_exact_steps()?;
        self.check(tokenizer)?;
        let (tokens, rows) = (tokenizer.vocab_size(), model.config().vocab);
        Ok(DraftModel {
            model: Model::from_file_beside(&self.file, options, model)?,
            kv_type: KvType::default(),
            chunk: crate::DEFAULT_CHUNK,
            proposed: tokens.min(rows),
        })
    }
}

/// Nothing outside the vocabulary.
fn bytes(tokenizer: &Tokenizer, id: u32) -> Cow<'_, [u8]> {
    tokenizer.token_bytes(id).unwrap_or_default()
}

/// Rows that fill an embedding up: without text, or as llama.cpp's converter names them.
fn is_padding(bytes: &[u8], id: u32) -> bool {
    bytes.is_empty() || bytes == format!("[PAD{id}]").as_bytes()
}

/// A small model that guesses tokens for a larger one ([`crate::speculate`]). Cloning shares it.
#[derive(Clone)]
pub struct DraftModel {
    pub(super) model: Model,
    kv_type: KvType,
    chunk: usize,
    /// Only lower ids are proposed: those that the larger model can draw.
    pub(super) proposed: usize,
}

impl std::fmt::Debug for DraftModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DraftModel").finish_non_exhaustive()
    }
}

impl DraftModel {
    /// With keys and values stored in another type.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }

    /// With so many tokens of a prefill at a time.
    #[must_use]
    pub fn with_chunk(self, chunk: usize) -> Self {
        Self { chunk, ..self }
    }

    /// For a model whose tokens are numbers.
    #[cfg(test)]
    pub(crate) fn of(model: Model) -> Self {
        Self {
            proposed: model.config().vocab,
            model,
            kv_type: KvType::default(),
            chunk: crate::DEFAULT_CHUNK,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it can read a token.
    pub(super) fn reads(&self, token: u32) -> bool {
        (token as usize) < self.model.config().vocab
    }

    /// How it reads a text that comes to `needed` tokens: plain within its own trained window, beyond
    /// it under SelfExtend for the next power of two of windows.
    pub(super) fn options(&self, needed: usize) -> Result<SessionOptions> {
        let trained = self.model.config().trained_window;
        let windows = needed.div_ceil(trained.max(1)).max(1).next_power_of_two();
        let context = trained.saturating_mul(windows);
        let request = ContextRequest::new().with_context(context);
        let extension = request.with_needed(needed).resolve(trained)?;
        Ok(SessionOptions::new(extension)
            .with_kv_type(self.kv_type)
            .with_chunk(self.chunk))
    }

    /// What it takes of the memory that holds keys and values, for texts that come to so many tokens.
    ///
    /// # Errors
    /// As [`Model::session_bytes`]; a trained window that cannot be extended so far.
    pub fn session_bytes(&self, needed: usize) -> Result<SessionBytes> {
        self.model.session_bytes(&self.options(needed)?)
    }
}

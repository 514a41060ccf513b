//! The draft model that `--draft` names.

use super::source::{Source, fetch};
use crate::error::Result;
use crate::output;
use selfextend::speculate::{DraftFile, DraftModel};
use selfextend::{ModelFile, TextModel};

impl Source {
    /// Loads the model, and a draft model where one is named. Whether their vocabularies are the same is
    /// known before either is loaded.
    pub fn load_with(&self, draft: Option<&str>) -> Result<(TextModel, Option<DraftModel>)> {
        let Some(name) = draft else {
            return Ok((self.load()?, None));
        };
        self.check_speculate("--draft")?;
        let load = self.load_options();
        let file = DraftFile::open(&fetch(name)?, &load.ignored_keys)?;
        let target = ModelFile::open(self.path())?.ignoring(&load.ignored_keys);
        // An unsupported architecture is named before its tokenizer is.
        target.config()?;
        file.check(&target.tokenizer()?)?;
        let text = self.load()?;
        let draft = file.load(&text.model, &text.tokenizer, load.clone())?;
        let draft = draft.with_kv_type(self.kv_type()).with_chunk(self.chunk());
        // Names what does not fit the draft model, as a type of keys and values.
        let bytes = draft.session_bytes(1)?;
        output::note(&format!(
            "note: {name} drafts: {} of weights, and {} of keys and values for {} tokens",
            output::size(draft.model().weight_bytes()),
            output::size(bytes.block),
            selfextend::PAGE,
        ));
        Ok((text, Some(draft)))
    }
}

//! The `tokenizers` crate: the engine of byte-level BPE and of every tokenizer.json.
//!
//! It gets no added tokens; [`AddedTokens`](super::added::AddedTokens) finds those first.

use super::error::TokenizerError;
use std::fmt;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Tokenizer,
};

/// Normalisation, the cutting of text into words, and the merging of words.
pub(super) struct Engine(Tokenizer);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self(tokenizer)
    }

    /// What is done to text before anything else.
    pub(super) fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        self.0
            .get_normalizer()
            .map_or(Ok(()), |it| it.normalize(text))
    }

    /// Appends the ids of normalised text that is cut at its added tokens.
    pub(super) fn encode(
        &self,
        mut parts: PreTokenizedString,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        if let Some(words) = self.0.get_pre_tokenizer() {
            words.pre_tokenize(&mut parts)?;
        }
        self.0
            .get_model()
            .tokenize_in_pretokenized(&mut parts, None)?;
        for (_, _, tokens) in parts.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(())
    }

    /// Whether a space is put before a text, as the engine's tokens write it.
    pub(super) fn adds_space(&self) -> Result<bool, TokenizerError> {
        let mut text = NormalizedString::from("a");
        let mut ids = Vec::new();
        self.normalize(&mut text)
            .and_then(|()| self.encode(text.into(), &mut ids))
            .map_err(TokenizerError::engine)?;
        let first = ids
            .first()
            .and_then(|id| self.0.get_model().id_to_token(*id));
        Ok(first.is_some_and(|text| text.starts_with(['Ġ', '\u{2581}'])))
    }
}

//! Text from ids, one at a time.

use super::error::TokenizerError;
use super::vocabulary::{TokenKind, Vocabulary};

/// What decoding does with control tokens such as `<|im_end|>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They are left out of the text.
    Skip,
    /// They appear as they are written in the vocabulary.
    Show,
}

/// Decodes ids as they are generated: what [`push`](Self::push) and
/// [`finish`](Self::finish) return, put together, is what decoding all ids at once gives.
///
/// Made by [`Tokenizer::decode_stream`](super::Tokenizer::decode_stream) and
/// [`Tokenizer::continue_stream`](super::Tokenizer::continue_stream).
#[derive(Clone, Debug)]
pub struct DecodeStream<'t> {
    vocabulary: &'t Vocabulary,
    special: SpecialTokens,
    /// Nothing has been decoded yet, and the first space is one that encoding added.
    drop_space: bool,
    /// The start of a character whose end is in tokens to come.
    pending: Vec<u8>,
}

impl<'t> DecodeStream<'t> {
    pub(super) fn new(
        vocabulary: &'t Vocabulary,
        special: SpecialTokens,
        drop_space: bool,
    ) -> Self {
        Self {
            vocabulary,
            special,
            drop_space,
            pending: Vec::new(),
        }
    }

    /// Takes the next id and returns the text that is complete with it, if there is any.
    /// Bytes that cannot be part of UTF-8 become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if the id is outside the vocabulary; the stream is
    /// unchanged then.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        let (_, kind) = self.vocabulary.token(id)?;
        if kind == TokenKind::Control && self.special == SpecialTokens::Skip {
            return Ok(None);
        }
        self.push_shown(id)
    }

    /// As [`push`](Self::push), but a control token appears in the text.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_shown(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        let (_, kind) = self.vocabulary.token(id)?;
        let bytes = self.vocabulary.bytes(id)?;
        let drop_space = std::mem::take(&mut self.drop_space) && kind == TokenKind::Normal;
        let bytes = match bytes.strip_prefix(b" ") {
            Some(rest) if drop_space => rest,
            _ => &bytes,
        };
        self.pending.extend_from_slice(bytes);
        let text = self.take_complete();
        Ok((!text.is_empty()).then_some(text))
    }

    /// Ends the stream and returns what was held back: U+FFFD if the last character is
    /// incomplete, otherwise nothing.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    fn take_complete(&mut self) -> String {
        let held = incomplete_tail(&self.pending);
        let tail = self.pending.split_off(self.pending.len() - held);
        let complete = std::mem::replace(&mut self.pending, tail);
        String::from_utf8_lossy(&complete).into_owned()
    }
}

/// How many bytes at the end start a character that more bytes could complete.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let invalid = last.map_or(&[][..], |chunk| chunk.invalid());
    // An invalid sequence that more bytes cannot complete has a definite length; one that
    // they can is reported as running into the end of the input.
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_still_become_a_character_is_held_back() {
        assert_eq!(incomplete_tail(b""), 0);
        assert_eq!(incomplete_tail(b"abc"), 0);
        assert_eq!(incomplete_tail("é".as_bytes()), 0);
        assert_eq!(incomplete_tail(b"a\xC3"), 1);
        assert_eq!(incomplete_tail(b"\xF0\x9F\xA6"), 3);
        assert_eq!(incomplete_tail(b"\xFF"), 0);
        assert_eq!(incomplete_tail(b"\xC3\x41"), 0);
        assert_eq!(incomplete_tail(b"\xFF\xE2\x82"), 2);
        assert_eq!(incomplete_tail(b"\xE0\x80"), 0);
    }
}

//! Byte-level BPE: text is bytes, each byte is written as one character, and a list of
//! merges joins them.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::{
    TokenizerError,
    metadata::Metadata,
    pre_tokenizer::PreTokenizer,
    vocabulary::{TokenKind, Vocabulary},
};

const MERGES: &str = "tokenizer.ggml.merges";

/// The model behind `tokenizer.ggml.model` = `gpt2`.
pub(super) struct ByteLevel {
    engine: tokenizers::Tokenizer,
    bytes: HashMap<char, u8>,
}

impl fmt::Debug for ByteLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteLevel").finish_non_exhaustive()
    }
}

impl ByteLevel {
    pub(super) fn new(
        metadata: Metadata<'_>,
        vocabulary: &Vocabulary,
        rule: &PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        // Without the control tokens, no merge and no whole word can become one.
        let tokens: Vocab = plain(vocabulary)
            .map(|(id, text)| (text.to_owned(), id))
            .collect();
        let lines = metadata.strings(MERGES)?;
        let merges = lines.iter().enumerate().map(|(index, line)| {
            split_merge(line).ok_or_else(|| malformed(index, line, NOT_A_PAIR.to_owned()))
        });
        let merges: Merges = merges.collect::<Result<_, _>>()?;
        let model = BPE::builder()
            .vocab_and_merges(tokens, merges)
            .ignore_merges(rule.ignore_merges)
            .build()
            .map_err(|error| explain(error, &lines, vocabulary))?;
        let mut engine = tokenizers::Tokenizer::new(model);
        engine.with_pre_tokenizer(Some(rule.build()?));
        let bytes = (0..=u8::MAX).map(|byte| (char_of(byte), byte)).collect();
        Ok(Self { engine, bytes })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let encoding = self
            .engine
            .encode_fast(text, false)
            .map_err(TokenizerError::engine)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The bytes that the text of a token stands for.
    pub(super) fn bytes_of<'v>(&self, text: &'v str) -> Cow<'v, [u8]> {
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            match self.bytes.get(&c) {
                Some(byte) => bytes.push(*byte),
                // Not of the alphabet: the token can only stand for itself.
                None => return Cow::Borrowed(text.as_bytes()),
            }
        }
        Cow::Owned(bytes)
    }
}

fn plain(vocabulary: &Vocabulary) -> impl Iterator<Item = (u32, &str)> {
    vocabulary.iter().filter_map(|(id, text, kind)| {
        matches!(kind, TokenKind::Normal | TokenKind::UserDefined).then_some((id, text))
    })
}

const NOT_A_PAIR: &str = "it is not two tokens with one space between them";

fn split_merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let is_token = |part: &str| !part.is_empty() && !part.contains(' ');
    (is_token(left) && is_token(right)).then(|| (left.to_owned(), right.to_owned()))
}

fn malformed(index: usize, merge: &str, reason: String) -> TokenizerError {
    let merge = merge.to_owned();
    TokenizerError::MalformedMerge {
        index,
        merge,
        reason,
    }
}

/// The engine says which token it lacks, but not which merge asked for it.
fn explain(error: tokenizers::Error, lines: &[&str], vocabulary: &Vocabulary) -> TokenizerError {
    let known: HashSet<&str> = plain(vocabulary).map(|(_, text)| text).collect();
    for (index, line) in lines.iter().enumerate() {
        let product = line.replacen(' ', "", 1);
        let parts = line.split(' ').chain([product.as_str()]);
        if let Some(lacking) = parts.into_iter().find(|part| !known.contains(part)) {
            let reason = format!("`{lacking}` is not among the plain tokens of the vocabulary");
            return malformed(index, line, reason);
        }
    }
    TokenizerError::engine(error)
}

/// The character that stands for a byte: itself where it is printable Latin-1, otherwise
/// the next one from U+0100 on.
fn char_of(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !is_printable(*b)).count();
    // At most 67 bytes are not printable, so this stays below U+0143.
    u32::try_from(before)
        .ok()
        .and_then(|before| char::from_u32(0x100 + before))
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_that_of_the_engine() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let ours: Vec<char> = (0..=u8::MAX).map(char_of).collect();
        assert_eq!(alphabet, ours.iter().copied().collect());
        assert_eq!(ours[usize::from(b' ')], 'Ġ');
        assert_eq!(ours[usize::from(b'\n')], 'Ċ');
        assert_eq!(ours[0xAD], '\u{143}');
    }
}

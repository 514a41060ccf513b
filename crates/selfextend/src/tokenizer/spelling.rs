//! How the text of a token, as a vocabulary writes it, spells the bytes the token stands for.

use std::{borrow::Cow, collections::HashMap};

/// Stands for a space in the text of pieces.
pub(super) const SPACE: char = '\u{2581}';

/// The spelling of a vocabulary's normal tokens.
#[derive(Debug)]
pub(super) enum Spelling {
    /// Byte-level BPE: a character for each byte.
    Bytes(HashMap<char, u8>),
    /// SentencePiece: text as it is, with U+2581 for a space.
    Pieces,
}

impl Spelling {
    /// The spelling of byte-level BPE.
    pub(super) fn bytes() -> Self {
        Self::Bytes((0..=u8::MAX).map(|byte| (char_of(byte), byte)).collect())
    }

    /// The bytes of a token's text.
    pub(super) fn bytes_of<'v>(&self, text: &'v str) -> Cow<'v, [u8]> {
        match self {
            Self::Bytes(alphabet) => {
                let bytes: Option<Vec<u8>> =
                    text.chars().map(|c| alphabet.get(&c).copied()).collect();
                // A character outside the alphabet: the token can only stand for itself.
                bytes.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
            }
            Self::Pieces if text.contains(SPACE) => {
                Cow::Owned(text.replace(SPACE, " ").into_bytes())
            }
            Self::Pieces => Cow::Borrowed(text.as_bytes()),
        }
    }
}

/// The character that stands for a byte in byte-level BPE: the byte itself where it is printable
/// Latin-1, otherwise the next character from U+0100 on.
fn char_of(byte: u8) -> char {
    let is_printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !is_printable(*b)).count();
    // 68 bytes are not printable, so this stays below U+0144.
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

//! The tokens of a model, what each is for, and the special ids.

use super::error::TokenizerError;
use super::metadata::{Metadata, not_utf8};
use super::spelling::Spelling;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// Control tokens that end a turn or a text. Files name one or two of them under keys of
/// their own; models also stop at the others that their vocabulary has.
const END_TEXTS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<EOT>",
    "<eos>",
    "</s>",
];

/// Markup of chat templates that some files mark as user-defined, which would let the
/// text of a message write it.
const MARKUP_TEXTS: &[&str] = &[
    "<s>",
    "<bos>",
    "<start_of_turn>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
];

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Made by merging text.
    Normal,
    /// Markup that only a chat template or the engine may write, or the unknown token.
    Control,
    /// Found in text as a whole, before any merging.
    UserDefined,
    /// One byte of text that no other token covers.
    Byte(u8),
}

/// The tokens of a model in the order of their ids, and the special ones among them.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: Vec<Box<str>>,
    kinds: Vec<TokenKind>,
    /// Those whose bytes are not UTF-8. They have no text: no text becomes one of them.
    raw: BTreeMap<u32, Box<[u8]>>,
    spelling: Spelling,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) end_tokens: BTreeSet<u32>,
}

/// The ids of the special tokens that a file names.
#[derive(Debug, Default)]
pub(super) struct SpecialIds {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    /// Ends of turns and texts besides `eos`.
    pub(super) ends: Vec<u32>,
}

impl Vocabulary {
    /// The vocabulary of a GGUF file. Of tokens with the same text, which some files have, encoding
    /// takes the last, as llama.cpp does.
    pub(super) fn from_metadata(
        metadata: Metadata<'_>,
        spelling: Spelling,
    ) -> Result<Self, TokenizerError> {
        let strings = metadata.byte_strings(TOKENS)?;
        check_size(strings.len())?;
        let texts: Vec<&str> = strings
            .iter()
            .map(|bytes| std::str::from_utf8(bytes).unwrap_or_default())
            .collect();
        let types = if metadata.has(TOKEN_TYPES) {
            metadata.integers(TOKEN_TYPES)?
        } else {
            // llama.cpp takes them for normal tokens, and finds those of bytes by their text.
            let byte =
                |text: &&str| matches!(spelling, Spelling::Pieces) && parse_byte(text).is_some();
            let kind = |text| if byte(text) { BYTE_TYPE } else { NORMAL_TYPE };
            texts.iter().map(kind).collect()
        };
        check_length(TOKEN_TYPES, types.len(), texts.len())?;
        let kinds = texts.iter().zip(&types).enumerate();
        let kinds = kinds
            .map(|(id, (text, kind))| kind_of(id, text, *kind))
            .collect::<Result<Vec<_>, _>>()?;
        let mut raw = BTreeMap::new();
        for (id, bytes) in strings.iter().enumerate() {
            if std::str::from_utf8(bytes).is_ok() {
                continue;
            }
            // What llama.cpp writes for one of them. Others are looked for in texts, or spell bytes.
            if !matches!(
                (&spelling, kinds[id]),
                (Spelling::Pieces, TokenKind::Normal)
            ) {
                return Err(not_utf8(TOKENS, id, bytes));
            }
            raw.insert(id as u32, Box::from(*bytes));
        }
        let special = |key| metadata.token_id(key, texts.len());
        let ids = SpecialIds {
            bos: special(BOS)?,
            eos: special(EOS)?,
            unknown: special(UNKNOWN)?,
            ends: [special(EOT)?, special(EOM)?]
                .into_iter()
                .flatten()
                .collect(),
        };
        let texts = texts.into_iter().map(Box::from).collect();
        Ok(Self {
            raw,
            ..Self::new(texts, kinds, spelling, ids)?
        })
    }

    /// Tokens in the order of their ids; those without text are padding.
    pub(super) fn new(
        texts: Vec<Box<str>>,
        kinds: Vec<TokenKind>,
        spelling: Spelling,
        ids: SpecialIds,
    ) -> Result<Self, TokenizerError> {
        check_size(texts.len())?;
        let mut end_tokens: BTreeSet<u32> = end_texts(&texts, &kinds).collect();
        end_tokens.extend(ids.ends.into_iter().chain(ids.eos));
        Ok(Self {
            texts,
            kinds,
            raw: BTreeMap::new(),
            spelling,
            bos: ids.bos,
            eos: ids.eos,
            unknown: ids.unknown,
            end_tokens,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(AsRef::as_ref)
    }

    /// The text and kind of a token.
    pub(super) fn token(&self, id: u32) -> Result<(&str, TokenKind), TokenizerError> {
        let unknown = || TokenizerError::UnknownId {
            id,
            tokens: self.len(),
        };
        let text = self.text(id).ok_or_else(unknown)?;
        let kind = self.kinds.get(id as usize).ok_or_else(unknown)?;
        Ok((text, *kind))
    }

    /// The bytes that a token stands for, which need not be UTF-8 on their own.
    pub(super) fn bytes(&self, id: u32) -> Result<Cow<'_, [u8]>, TokenizerError> {
        let (text, kind) = self.token(id)?;
        Ok(match kind {
            TokenKind::Byte(byte) => Cow::Owned(vec![byte]),
            TokenKind::Control | TokenKind::UserDefined => Cow::Borrowed(text.as_bytes()),
            TokenKind::Normal => match self.raw.get(&id) {
                Some(bytes) => Cow::Borrowed(bytes),
                None => self.spelling.bytes_of(text),
            },
        })
    }

    /// Every token as (id, text, kind); those without text are left out, as nothing can
    /// encode to them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        let tokens = (0u32..).zip(self.texts.iter().zip(&self.kinds));
        tokens
            .map(|(id, (text, kind))| (id, text.as_ref(), *kind))
            .filter(|(_, text, _)| !text.is_empty())
    }

    /// The control tokens, but for one that stands for what no other token covers.
    pub(super) fn markups(&self, unknown: Option<&str>) -> Markups<'_> {
        let controls = self
            .iter()
            .filter(|(_, text, kind)| *kind == TokenKind::Control && Some(*text) != unknown);
        Markups(controls.map(|(_, text, _)| text).collect())
    }
}

/// The texts of tokens that plain text must never become, neither as a whole word nor by a merge.
pub(super) struct Markups<'v>(HashSet<&'v str>);

impl Markups<'_> {
    pub(super) fn contains(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// Whether a merge takes or makes one of them.
    pub(super) fn touch(&self, left: &str, right: &str) -> bool {
        self.contains(left) || self.contains(right) || self.contains(&format!("{left}{right}"))
    }
}

pub(super) fn check_length(
    key: &'static str,
    found: usize,
    tokens: usize,
) -> Result<(), TokenizerError> {
    if found == tokens {
        return Ok(());
    }
    Err(TokenizerError::LengthMismatch { key, found, tokens })
}

fn check_size(found: usize) -> Result<(), TokenizerError> {
    if found == 0 || u32::try_from(found).is_err() {
        return Err(TokenizerError::VocabularySize { found });
    }
    Ok(())
}

/// What the GGUF format calls a token of no special kind.
const NORMAL_TYPE: i64 = 1;
/// And one that stands for a byte.
const BYTE_TYPE: i64 = 6;

fn kind_of(id: usize, text: &str, kind: i64) -> Result<TokenKind, TokenizerError> {
    // The numbers of the GGUF format: 1 normal, 2 unknown, 3 control, 4 user-defined,
    // 5 unused, 6 byte.
    match kind {
        2 | 3 => Ok(TokenKind::Control),
        4 if is_markup(text) => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        6 => {
            let byte = parse_byte(text).ok_or_else(|| TokenizerError::MalformedByteToken {
                id,
                text: text.to_owned(),
            })?;
            Ok(TokenKind::Byte(byte))
        }
        _ => Ok(TokenKind::Normal),
    }
}

/// Whether a token's text is that of markup, whatever the file says it is for.
pub(super) fn is_markup(text: &str) -> bool {
    let enclosed = |open, close| text.starts_with(open) && text.ends_with(close);
    enclosed("<|", "|>")
        || enclosed("<｜", "｜>")
        || END_TEXTS.contains(&text)
        || MARKUP_TEXTS.contains(&text)
}

/// The byte that `<0x00>` to `<0xFF>` stands for.
pub(super) fn parse_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let two_digits = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    two_digits.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn end_texts(texts: &[Box<str>], kinds: &[TokenKind]) -> impl Iterator<Item = u32> {
    let has = |text: &str| texts.iter().any(|known| **known == *text);
    // gpt-oss closes each message of a turn with <|end|>, and the turn with <|return|>.
    let ends_messages = has("<|return|>") && has("<|call|>");
    let tokens = (0u32..).zip(texts.iter().zip(kinds));
    tokens
        .filter(move |(_, (text, kind))| {
            let text = text.as_ref();
            **kind == TokenKind::Control
                && END_TEXTS.contains(&text)
                && !(ends_messages && text == "<|end|>")
        })
        .map(|(id, _)| id)
}

//! The tokenizer of a model, built from the metadata of its GGUF file or from a tokenizer.json.
//!
//! Two kinds are known: byte-level BPE (`gpt2`: GPT-2, Llama 3, Qwen, SmolLM, ...), for
//! which the `tokenizers` crate is the engine, and SentencePiece BPE (`llama`: Llama 2,
//! Mistral, Phi-3, Gemma, ...).
//!
//! Control tokens, the markup of chat templates, are never read from plain text: the text
//! of a message cannot end its turn. [`Tokenizer::encode`] is for such text, and
//! [`encode_chat`](crate::chat_prompt::encode_chat) for conversations.

mod byte_level;
mod error;
mod json;
mod metadata;
mod pre_tokenizer;
mod sentence_piece;
mod special;
mod stream;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
};

use crate::gguf;

pub(crate) use self::special::Part;
use self::{
    byte_level::ByteLevel,
    json::Json,
    metadata::Metadata,
    sentence_piece::{SPACE, SentencePiece},
    special::Splitter,
    vocabulary::{TokenKind, Vocabulary},
};
pub use self::{
    error::TokenizerError,
    stream::{DecodeStream, SpecialTokens},
};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const NAME: &str = "general.name";

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    model: Model,
    control: Splitter,
    user_defined: Splitter,
    add_bos: bool,
    strips_after_control: bool,
    /// Control tokens after which white space is dropped.
    strips: HashSet<u32>,
}

#[derive(Debug)]
enum Model {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(SentencePiece),
    Json(Box<Json>),
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata of a GGUF file describes.
    ///
    /// # Errors
    ///
    /// A [`TokenizerError`] that names the key: when one is missing or of the wrong type,
    /// when the arrays of the vocabulary do not fit together, when a merge, a score, a byte
    /// token or a special id is malformed, and when the kind of tokenizer or its rule for
    /// words is not supported.
    pub fn from_gguf(metadata: &gguf::Metadata) -> Result<Self, TokenizerError> {
        let metadata = Metadata(metadata);
        let kind = metadata.string(MODEL)?;
        let kind = kind.ok_or(TokenizerError::MissingKey { key: MODEL })?;
        if !["gpt2", "llama"].contains(&kind) {
            let found = kind.to_owned();
            return Err(TokenizerError::UnsupportedModel { found });
        }
        let vocabulary = Vocabulary::from_metadata(metadata)?;
        let (model, adds_bos) = if kind == "llama" {
            let model = SentencePiece::new(metadata, &vocabulary)?;
            (Model::SentencePiece(model), true)
        } else {
            let rule = pre_tokenizer::find(metadata.string(PRE)?.unwrap_or("default"))?;
            let model = ByteLevel::new(metadata, &vocabulary, rule)?;
            (Model::ByteLevel(Box::new(model)), rule.adds_bos)
        };
        let add_bos = metadata.boolean(ADD_BOS)?.unwrap_or(adds_bos);
        let name = metadata.string(NAME)?.unwrap_or_default().to_lowercase();
        Ok(Self {
            // A single character cannot be kept apart from text in a rendered template, so
            // it is not read as a token.
            control: splitter(&vocabulary, TokenKind::Control, 2)?,
            user_defined: splitter(&vocabulary, TokenKind::UserDefined, 1)?,
            model,
            add_bos: add_bos && vocabulary.bos.is_some(),
            strips_after_control: name.contains("phi-3") || name.contains("phi3"),
            strips: HashSet::new(),
            vocabulary,
        })
    }

    /// The ids of plain text, without BOS. Control tokens are never read from it: their
    /// text is encoded like any other. Tokens that the vocabulary marks as user-defined are
    /// found, as in the models' own tokenizers.
    ///
    /// A vocabulary may lack tokens for some bytes (SmolLM2 lacks a few control characters
    /// and planes of Unicode that are not assigned); as in the models' own tokenizers, such
    /// bytes get no id.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Engine`] if the BPE engine fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_plain(text, true, &mut ids)?;
        Ok(ids)
    }

    /// The ids of text in which the text of control tokens stands for them, as in a prompt
    /// whose markup is written out. Not for conversations whose messages others write: see
    /// [`encode_chat`](crate::chat_prompt::encode_chat).
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_fenced(text, None)
    }

    /// The text of `ids`. Bytes that are not UTF-8, as at the edges of a cut text, become
    /// U+FFFD. The space that encoding put before a text is removed again.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if an id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32], special: SpecialTokens) -> Result<String, TokenizerError> {
        let mut stream = self.decode_stream(special);
        let mut text = String::with_capacity(ids.len() * 4);
        for id in ids {
            text.extend(stream.push(*id)?);
        }
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// Decodes a text from its start, id by id.
    #[must_use]
    pub fn decode_stream(&self, special: SpecialTokens) -> DecodeStream<'_> {
        let drop_space = match &self.model {
            Model::SentencePiece(model) => model.add_space_prefix,
            Model::ByteLevel(_) => false,
            Model::Json(model) => model.adds_space,
        };
        DecodeStream::new(self, special, drop_space)
    }

    /// Decodes what follows a text, id by id, as when a model continues a prompt: a space
    /// at its start is kept.
    #[must_use]
    pub fn continue_stream(&self, special: SpecialTokens) -> DecodeStream<'_> {
        DecodeStream::new(self, special, false)
    }

    /// The bytes that one token stands for, which need not be UTF-8 on their own.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if the id is outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<Cow<'_, [u8]>, TokenizerError> {
        let (text, kind) = self.vocabulary.token(id)?;
        Ok(match (kind, &self.model) {
            (TokenKind::Byte(byte), _) => Cow::Owned(vec![byte]),
            (TokenKind::Control | TokenKind::UserDefined, _) => Cow::Borrowed(text.as_bytes()),
            (TokenKind::Normal, Model::ByteLevel(model)) => model.bytes_of(text),
            (TokenKind::Normal, Model::Json(model)) if model.byte_level => model.bytes_of(text),
            (TokenKind::Normal, _) if text.contains(SPACE) => {
                Cow::Owned(text.replace(SPACE, " ").into_bytes())
            }
            (TokenKind::Normal, _) => Cow::Borrowed(text.as_bytes()),
        })
    }

    /// The text of a token as the vocabulary writes it, `None` outside the vocabulary.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// Whether a token is markup that never stands for text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        let kind = self.vocabulary.token(id).map(|(_, kind)| kind);
        matches!(kind, Ok(TokenKind::Control))
    }

    /// The number of tokens; ids are below it.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that starts a text, if the file names one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.bos
    }

    /// The token that ends a text, if the file names one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.eos
    }

    /// Whether the model expects [`bos`](Self::bos) before a text. The encoding functions
    /// do not add it.
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The tokens at which generation ends: EOS, the ends of turns and messages that the
    /// file names, and control tokens known as such by their text.
    #[must_use]
    pub fn end_tokens(&self) -> &BTreeSet<u32> {
        &self.vocabulary.end_tokens
    }

    /// Splits text at the control tokens written in it.
    pub(crate) fn split_control<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        self.control.split(text)
    }

    /// Encodes text in which control tokens stand for themselves, except where `fence`
    /// keeps their characters apart; the fence itself is no part of the text.
    pub(crate) fn encode_fenced(
        &self,
        text: &str,
        fence: Option<char>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let (mut strip, mut starts) = (false, true);
        for part in self.split_control(text) {
            let starts = std::mem::take(&mut starts);
            strip = match part {
                Part::Text(text) => {
                    let text = fence.map_or(text.into(), |fence| without(text, fence));
                    let text = if strip { strip_start(&text) } else { &text };
                    self.encode_plain(text, starts, &mut ids)?;
                    false
                }
                Part::Token(id) => {
                    ids.push(id);
                    self.strips_after(id)
                }
            };
        }
        Ok(ids)
    }

    /// `starts` where the whole text starts here.
    fn encode_plain(
        &self,
        text: &str,
        starts: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let empty = ids.len();
        let mut first = true;
        for part in self.user_defined.split(text) {
            first = match (part, &self.model) {
                (Part::Token(id), _) => {
                    ids.push(id);
                    true
                }
                (Part::Text(text), Model::SentencePiece(model)) => {
                    model.encode(text, first, ids);
                    false
                }
                (Part::Text(text), Model::ByteLevel(model)) => {
                    model.encode(text, ids)?;
                    false
                }
                (Part::Text(text), Model::Json(model)) => {
                    model.encode(text, starts && ids.len() == empty, ids)?;
                    false
                }
            };
        }
        Ok(())
    }

    /// Phi-3's tokenizer drops white space after its markup, which GGUF files cannot say.
    fn strips_after(&self, id: u32) -> bool {
        let keeps = ["<unk>", "<s>", "<|endoftext|>"];
        let named = self.strips_after_control
            && !self
                .token_text(id)
                .is_some_and(|text| keeps.contains(&text));
        named || self.strips.contains(&id)
    }
}

fn splitter(
    vocabulary: &Vocabulary,
    wanted: TokenKind,
    min_chars: usize,
) -> Result<Splitter, TokenizerError> {
    let tokens = vocabulary
        .iter()
        .filter(|(_, text, kind)| *kind == wanted && text.chars().count() >= min_chars);
    Splitter::new(tokens.map(|(id, text, _)| (id, text)))
}

fn without(text: &str, fence: char) -> Cow<'_, str> {
    if text.contains(fence) {
        return Cow::Owned(text.replace(fence, ""));
    }
    Cow::Borrowed(text)
}

fn strip_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
}

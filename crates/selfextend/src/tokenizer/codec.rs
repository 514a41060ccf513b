//! Text to token ids and back.

use super::added::{AddedToken, AddedTokens, Markup, Part};
use super::byte_level;
use super::engine::Engine;
use super::error::TokenizerError;
use super::json;
use super::metadata::Metadata;
use super::pre_tokenizer;
use super::sentence_piece::SentencePiece;
use super::spelling::Spelling;
use super::stream::{DecodeStream, SpecialTokens};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::gguf;
use std::borrow::Cow;
use std::collections::BTreeSet;
use tokenizers::{OffsetReferential, OffsetType};

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const NAME: &str = "general.name";

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    added: AddedTokens,
    model: Model,
    add_bos: bool,
    /// Encoding puts a space before a text, which decoding removes again.
    adds_space: bool,
    /// The file does not say how text is cut into words.
    guesses_words: bool,
}

#[derive(Debug)]
enum Model {
    Engine(Box<Engine>),
    SentencePiece(SentencePiece),
}

impl Model {
    fn normalize(&self, text: &mut tokenizers::NormalizedString) -> tokenizers::Result<()> {
        match self {
            Self::Engine(engine) => engine.normalize(text),
            Self::SentencePiece(_) => Ok(()),
        }
    }
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
        let (vocabulary, model, adds_bos) = match kind {
            "llama" => {
                let vocabulary = Vocabulary::from_metadata(metadata, Spelling::Pieces)?;
                let model = SentencePiece::new(metadata, &vocabulary)?;
                (vocabulary, Model::SentencePiece(model), true)
            }
            "gpt2" => {
                let vocabulary = Vocabulary::from_metadata(metadata, Spelling::bytes())?;
                let name = metadata.string(PRE)?.unwrap_or("default");
                let rule = pre_tokenizer::find(name)?;
                let engine = byte_level::engine(metadata, &vocabulary, name, rule)?;
                (vocabulary, Model::Engine(Box::new(engine)), rule.adds_bos)
            }
            found => {
                let found = found.to_owned();
                return Err(TokenizerError::UnsupportedModel { found });
            }
        };
        let add_bos = metadata.boolean(ADD_BOS)?.unwrap_or(adds_bos);
        let name = metadata.string(NAME)?.unwrap_or_default().to_lowercase();
        let is_phi3 = name.contains("phi-3") || name.contains("phi3");
        let added = vocabulary
            .iter()
            .filter_map(|token| added_token(token, is_phi3));
        let added = AddedTokens::new(added.collect(), |text| model.normalize(text))?;
        let adds_space = matches!(&model, Model::SentencePiece(model) if model.add_space_prefix);
        Ok(Self {
            add_bos: add_bos && vocabulary.bos.is_some(),
            vocabulary,
            added,
            model,
            adds_space,
            guesses_words: kind == "gpt2" && metadata.string(PRE)?.is_none(),
        })
    }

    /// Builds the tokenizer of a tokenizer.json, with what tokenizer_config.json and config.json
    /// say of special tokens and of the vocabulary's size; either may be null.
    ///
    /// # Errors
    /// [`TokenizerError`] when the file is not a tokenizer, or of a kind the engine does not know.
    pub fn from_json(
        json: serde_json::Value,
        config: &serde_json::Value,
        model: &serde_json::Value,
    ) -> Result<Self, TokenizerError> {
        let read = json::read(json, config, model)?;
        let added = AddedTokens::new(read.added, |text| read.engine.normalize(text))?;
        Ok(Self {
            adds_space: read.engine.adds_space()?,
            vocabulary: read.vocabulary,
            added,
            model: Model::Engine(Box::new(read.engine)),
            add_bos: read.add_bos,
            guesses_words: false,
        })
    }

    /// Whether the file does not say how text is cut into words before its merges (GGUF without
    /// `tokenizer.ggml.pre`, from converters before May 2024). llama.cpp's default is taken then,
    /// which gives most models other tokens than they were trained with.
    pub fn guesses_words(&self) -> bool {
        self.guesses_words
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
        self.encode_as(text, Markup::Text)
    }

    /// The ids of text in which the text of control tokens stands for them, as in a prompt
    /// whose markup is written out. Not for conversations whose messages others write: see
    /// [`encode_chat`](crate::chat_prompt::encode_chat).
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_as(text, Markup::Read)
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
        DecodeStream::new(&self.vocabulary, special, self.adds_space)
    }

    /// Decodes what follows a text, id by id, as when a model continues a prompt: a space
    /// at its start is kept.
    #[must_use]
    pub fn continue_stream(&self, special: SpecialTokens) -> DecodeStream<'_> {
        DecodeStream::new(&self.vocabulary, special, false)
    }

    /// The bytes that one token stands for, which need not be UTF-8 on their own.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if the id is outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<Cow<'_, [u8]>, TokenizerError> {
        self.vocabulary.bytes(id)
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

    /// Ends generation at these tokens too; those outside the vocabulary cannot be generated.
    pub(crate) fn add_end_tokens(&mut self, ids: impl IntoIterator<Item = u32>) {
        let known = self.vocab_size();
        let ids = ids.into_iter().filter(|&id| (id as usize) < known);
        self.vocabulary.end_tokens.extend(ids);
    }

    /// Splits text at the control tokens written in it.
    pub(crate) fn split_control<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        self.added.split_control(text)
    }

    /// Encodes text in which control tokens stand for themselves, except where `fence`
    /// keeps their characters apart; the fence itself is no part of the text.
    pub(crate) fn encode_fenced(
        &self,
        text: &str,
        fence: char,
    ) -> Result<Vec<u32>, TokenizerError> {
        self.encode_as(text, Markup::Fenced(fence))
    }

    fn encode_as(&self, text: &str, markup: Markup) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let parts = self
            .added
            .split(text, markup, |text| self.model.normalize(text))
            .map_err(TokenizerError::engine)?;
        match &self.model {
            Model::Engine(engine) => engine
                .encode(parts, &mut ids)
                .map_err(TokenizerError::engine)?,
            Model::SentencePiece(model) => {
                let parts = parts.get_splits(OffsetReferential::Normalized, OffsetType::None);
                let mut first = true;
                for (text, _, token) in parts.into_iter().filter(|(text, ..)| !text.is_empty()) {
                    first = if let Some(token) = token {
                        ids.extend(token.iter().map(|token| token.id));
                        true
                    } else {
                        model.encode(text, first, &mut ids);
                        false
                    };
                }
            }
        }
        Ok(ids)
    }
}

/// GGUF files do not hold the flags of added tokens. Phi-3's tokens take in the white space
/// behind them, except three: llama.cpp knows the model by its name, too.
fn added_token((id, text, kind): (u32, &str, TokenKind), is_phi3: bool) -> Option<AddedToken> {
    let control = match kind {
        TokenKind::Control => true,
        TokenKind::UserDefined => false,
        TokenKind::Normal | TokenKind::Byte(_) => return None,
    };
    Some(AddedToken {
        id,
        text: text.to_owned(),
        control,
        single_word: false,
        lstrip: false,
        rstrip: is_phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&text),
        normalized: false,
    })
}

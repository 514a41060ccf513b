//! The tokenizer of a tokenizer.json, for which the `tokenizers` crate is the engine.
//!
//! The engine gets the file without its added tokens: finding those in text is done here, so that
//! text of others cannot write the markup of chat templates.

use super::{
    Model, Tokenizer, TokenizerError, splitter,
    vocabulary::{TokenKind, Vocabulary, is_markup, parse_byte},
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// More ids than any vocabulary has: a larger one is a damaged file.
const MAX_TOKENS: u64 = 1 << 24;

/// The model of a tokenizer.json.
pub(super) struct Json {
    engine: tokenizers::Tokenizer,
    /// For text that does not start the whole text, where the model puts a space before that only.
    inner: Option<tokenizers::Tokenizer>,
    pub(super) byte_level: bool,
    /// A space is put before a text.
    pub(super) adds_space: bool,
    bytes: HashMap<char, u8>,
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").finish_non_exhaustive()
    }
}

impl Json {
    fn new(json: &Value) -> Result<Self, TokenizerError> {
        let engine = engine(json)?;
        let mut inner = json.clone();
        let inner = never_prepend(&mut inner).then(|| self::engine(&inner));
        let byte_level = mentions(&json["decoder"], "ByteLevel")
            || mentions(&json["pre_tokenizer"], "ByteLevel");
        let adds_space = {
            let encoding = engine
                .encode_fast("a", false)
                .map_err(TokenizerError::engine)?;
            let first = encoding
                .get_ids()
                .first()
                .and_then(|id| engine.id_to_token(*id));
            first.is_some_and(|text| text.starts_with(if byte_level { 'Ġ' } else { '\u{2581}' }))
        };
        // The engine's alphabet, by what it makes of each byte's character.
        let bytes = alphabet();
        Ok(Self {
            engine,
            inner: inner.transpose()?,
            byte_level,
            adds_space,
            bytes,
        })
    }

    /// Appends the ids of `text`; `starts` if it is the start of the whole text.
    pub(super) fn encode(
        &self,
        text: &str,
        starts: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let engine = self
            .inner
            .as_ref()
            .filter(|_| !starts)
            .unwrap_or(&self.engine);
        let encoding = engine
            .encode_fast(text, false)
            .map_err(TokenizerError::engine)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The bytes that the text of a byte-level token stands for.
    pub(super) fn bytes_of<'v>(&self, text: &'v str) -> Cow<'v, [u8]> {
        let bytes: Option<Vec<u8>> = text.chars().map(|c| self.bytes.get(&c).copied()).collect();
        bytes.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
    }
}

/// The characters of byte-level BPE, each with its byte: printable Latin-1 stands for itself, the
/// others follow from U+0100 on, in order.
fn alphabet() -> HashMap<char, u8> {
    let all: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let own = |byte: &u8| all.contains(&char::from(*byte));
    let mut others = (0x100..).filter_map(char::from_u32);
    (0..=u8::MAX)
        .filter_map(|byte| match own(&byte) {
            true => Some((char::from(byte), byte)),
            false => Some((others.next()?, byte)),
        })
        .collect()
}

impl Tokenizer {
    /// Builds the tokenizer of a tokenizer.json, with what tokenizer_config.json and config.json
    /// say of special tokens and of the vocabulary's size; either may be null.
    ///
    /// # Errors
    /// [`TokenizerError`] when the file is no tokenizer, or of a kind the engine does not know.
    pub fn from_json(
        mut json: Value,
        config: &Value,
        model: &Value,
    ) -> Result<Self, TokenizerError> {
        let added = added_tokens(&json)?;
        let unknown = json["model"]["unk_token"].as_str().map(str::to_owned);
        let (vocabulary, bos) = vocabulary(&json, &added, config, model)?;
        let controls: HashSet<&str> = vocabulary
            .iter()
            .filter(|(_, text, kind)| {
                *kind == TokenKind::Control && Some(*text) != unknown.as_deref()
            })
            .map(|(_, text, _)| text)
            .collect();
        if let Some(tokens) = json["model"]["vocab"].as_object_mut() {
            // Without the control tokens, no merge and no whole word can become one.
            tokens.retain(|text, _| !controls.contains(text.as_str()));
        }
        let starts_with_bos = bos.is_some_and(|bos| {
            let bos = vocabulary.text(bos).unwrap_or_default();
            template_starts_with(&json["post_processor"], bos)
        });
        let add_bos = starts_with_bos || config["add_bos_token"] == true;
        let strips = added
            .iter()
            .filter(|token| token.strips)
            .map(|token| token.id);
        Ok(Self {
            control: splitter(&vocabulary, TokenKind::Control, 2)?,
            user_defined: splitter(&vocabulary, TokenKind::UserDefined, 1)?,
            model: Model::Json(Box::new(Json::new(&json)?)),
            add_bos: add_bos && bos.is_some(),
            strips_after_control: false,
            strips: strips.collect(),
            vocabulary,
        })
    }
}

/// A token that is found in text as a whole.
struct Added {
    id: u32,
    text: String,
    special: bool,
    /// White space after it is dropped.
    strips: bool,
}

fn added_tokens(json: &Value) -> Result<Vec<Added>, TokenizerError> {
    let list = json["added_tokens"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let read = |token: &Value| {
        let id = token["id"].as_u64().filter(|&id| id < MAX_TOKENS);
        let text = token["content"].as_str();
        let (Some(id), Some(text)) = (id, text) else {
            return Err(malformed(format!("added token {token}")));
        };
        Ok(Added {
            id: id as u32,
            text: text.to_owned(),
            special: token["special"] == true,
            strips: token["rstrip"] == true,
        })
    };
    list.iter().map(read).collect()
}

/// The vocabulary, and the token that starts a text.
fn vocabulary(
    json: &Value,
    added: &[Added],
    config: &Value,
    model: &Value,
) -> Result<(Vocabulary, Option<u32>), TokenizerError> {
    let falls_back = json["model"]["byte_fallback"] == true;
    let mut tokens: BTreeMap<u32, (String, TokenKind)> = BTreeMap::new();
    let mut insert = |text: &str, id: Option<u64>| match id.filter(|&id| id < MAX_TOKENS) {
        Some(id) => {
            let byte = parse_byte(text).filter(|_| falls_back);
            let kind = byte.map_or(TokenKind::Normal, TokenKind::Byte);
            tokens.insert(id as u32, (text.to_owned(), kind));
            Ok(())
        }
        None => Err(malformed(format!("token {text:?}"))),
    };
    match &json["model"]["vocab"] {
        Value::Object(vocab) => {
            for (text, id) in vocab {
                insert(text, id.as_u64())?;
            }
        }
        Value::Array(vocab) => {
            for (id, piece) in vocab.iter().enumerate() {
                insert(piece[0].as_str().unwrap_or_default(), Some(id as u64))?;
            }
        }
        _ => return Err(malformed("model.vocab".into())),
    }
    for token in added {
        let kind = match token.special || is_markup(&token.text) {
            true => TokenKind::Control,
            false => TokenKind::UserDefined,
        };
        tokens.insert(token.id, (token.text.clone(), kind));
    }
    // Embeddings are often padded; a model may give the ids of the padding, which have no text.
    let padded = model["vocab_size"]
        .as_u64()
        .filter(|&n| n < MAX_TOKENS)
        .unwrap_or(0);
    let last = tokens
        .last_key_value()
        .map_or(0, |(id, _)| *id as usize + 1);
    let mut texts = vec![Box::from(""); last.max(padded as usize)];
    let mut kinds = vec![TokenKind::Normal; texts.len()];
    for (id, (text, kind)) in tokens {
        texts[id as usize] = text.into();
        kinds[id as usize] = kind;
    }
    let special = |name: &str| {
        let given = &config[name];
        let text = given.as_str().or(given["content"].as_str());
        let by_text = text.and_then(|text| texts.iter().position(|known| **known == *text));
        let by_id = model[format!("{name}_id")].as_u64().map(|id| id as usize);
        by_text
            .or(by_id)
            .filter(|&id| id < texts.len())
            .map(|id| id as u32)
    };
    let (bos, eos) = (special("bos_token"), special("eos_token"));
    // One id or several.
    let listed = &model["eos_token_id"];
    let listed = listed.as_array().cloned().unwrap_or(vec![listed.clone()]);
    let listed = listed
        .iter()
        .filter_map(Value::as_u64)
        .filter(|&id| id < texts.len() as u64);
    let ends: Vec<u32> = listed.map(|id| id as u32).chain(eos).collect();
    Ok((Vocabulary::new(texts, kinds, bos, eos, &ends)?, bos))
}

fn engine(json: &Value) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let mut json = json.clone();
    for key in ["added_tokens", "post_processor", "padding", "truncation"] {
        json[key] = match key {
            "added_tokens" => Value::Array(Vec::new()),
            _ => Value::Null,
        };
    }
    let text = json.to_string();
    tokenizers::Tokenizer::from_bytes(text.as_bytes()).map_err(TokenizerError::engine)
}

/// Whether a step of this type is somewhere in a part of the file.
fn mentions(part: &Value, kind: &str) -> bool {
    match part {
        Value::Object(fields) => {
            part["type"] == kind || fields.values().any(|it| mentions(it, kind))
        }
        Value::Array(steps) => steps.iter().any(|it| mentions(it, kind)),
        _ => false,
    }
}

/// Turns "a space before the start of the text" into none; whether there was such a step.
fn never_prepend(part: &mut Value) -> bool {
    match part {
        Value::Object(fields) => {
            let mut found = false;
            if fields
                .get("prepend_scheme")
                .is_some_and(|scheme| scheme == "first")
            {
                fields.insert("prepend_scheme".into(), "never".into());
                found = true;
            }
            let steps = ["pre_tokenizer", "pretokenizers"];
            for step in steps {
                found |= fields.get_mut(step).is_some_and(never_prepend);
            }
            found
        }
        Value::Array(steps) => {
            steps
                .iter_mut()
                // Every step, also after the first find.
                .map(never_prepend)
                .filter(|found| *found)
                .count()
                > 0
        }
        _ => false,
    }
}

/// Whether a post-processor puts this token before a text.
fn template_starts_with(part: &Value, token: &str) -> bool {
    match part {
        Value::Object(fields) => {
            part["single"][0]["SpecialToken"]["id"] == token
                || fields
                    .get("processors")
                    .is_some_and(|it| template_starts_with(it, token))
        }
        Value::Array(steps) => steps.iter().any(|it| template_starts_with(it, token)),
        _ => false,
    }
}

fn malformed(what: String) -> TokenizerError {
    TokenizerError::Json { what }
}

//! Reading a tokenizer.json, with what tokenizer_config.json and config.json say beside it.

use super::added::AddedToken;
use super::engine::Engine;
use super::error::TokenizerError;
use super::spelling::Spelling;
use super::vocabulary::{Markups, SpecialIds, TokenKind, Vocabulary, is_markup, parse_byte};
use serde_json::Value;
use std::collections::BTreeMap;

/// More ids than any vocabulary has: a larger one is a damaged file.
const MAX_TOKENS: u64 = 1 << 24;

/// What the files say.
pub(super) struct Read {
    pub(super) vocabulary: Vocabulary,
    pub(super) added: Vec<AddedToken>,
    pub(super) engine: Engine,
    pub(super) add_bos: bool,
}

pub(super) fn read(json: Value, config: &Value, model: &Value) -> Result<Read, TokenizerError> {
    let added = added_tokens(&json)?;
    let vocabulary = vocabulary(&json, &added, config, model)?;
    let add_bos = vocabulary.bos.is_some_and(|bos| {
        let bos = vocabulary.text(bos).unwrap_or_default();
        own_bos(config, model).unwrap_or_else(|| template_starts_with(&json["post_processor"], bos))
    });
    Ok(Read {
        engine: engine(json, &vocabulary)?,
        add_bos,
        vocabulary,
        added,
    })
}

/// Whether a text starts with BOS where the tokenizer's class decides it, whatever the
/// post-processor says: these classes of transformers 4 replace it (`update_post_processor`). Others
/// do not read `add_bos_token`. What `add_eos_token` adds ends texts for training: a prompt goes on.
fn own_bos(config: &Value, model: &Value) -> Option<bool> {
    let class = config["tokenizer_class"].as_str();
    let default = match class.map(|class| class.strip_suffix("Fast").unwrap_or(class)) {
        Some("LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer" | "CohereTokenizer") => {
            true
        }
        Some("GPTNeoXTokenizer") => false,
        Some(_) => return None,
        None => match model["model_type"].as_str()? {
            "llama" | "mistral" | "gemma" | "gemma2" | "gemma3" | "gemma3_text" | "llava"
            | "mistral3" => true,
            "gpt_neox" => false,
            _ => return None,
        },
    };
    Some(config["add_bos_token"].as_bool().unwrap_or(default))
}

fn added_tokens(json: &Value) -> Result<Vec<AddedToken>, TokenizerError> {
    let list = match &json["added_tokens"] {
        Value::Null => &[][..],
        Value::Array(list) => list,
        other => return Err(malformed(format!("added_tokens = {other}"))),
    };
    let read = |token: &Value| {
        let id = token["id"].as_u64().filter(|&id| id < MAX_TOKENS);
        let text = token["content"].as_str();
        let (Some(id), Some(text)) = (id, text) else {
            return Err(malformed(format!("added token {token}")));
        };
        Ok(AddedToken {
            id: id as u32,
            text: text.to_owned(),
            control: token["special"] == true || is_markup(text),
            single_word: token["single_word"] == true,
            lstrip: token["lstrip"] == true,
            rstrip: token["rstrip"] == true,
            normalized: token["normalized"] == true,
        })
    };
    list.iter().map(read).collect()
}

fn vocabulary(
    json: &Value,
    added: &[AddedToken],
    config: &Value,
    model: &Value,
) -> Result<Vocabulary, TokenizerError> {
    let falls_back = json["model"]["byte_fallback"] == true;
    let mut tokens: BTreeMap<u32, (String, TokenKind)> = BTreeMap::new();
    let mut insert = |text: &str, id: Option<u64>| {
        let Some(id) = id.filter(|&id| id < MAX_TOKENS) else {
            return Err(malformed(format!("token {text:?}")));
        };
        let byte = parse_byte(text).filter(|_| falls_back);
        let kind = byte.map_or(TokenKind::Normal, TokenKind::Byte);
        tokens.insert(id as u32, (text.to_owned(), kind));
        Ok(())
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
        let kind = if token.control {
            TokenKind::Control
        } else {
            TokenKind::UserDefined
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
    let byte_level =
        mentions(&json["decoder"], "ByteLevel") || mentions(&json["pre_tokenizer"], "ByteLevel");
    let spelling = if byte_level {
        Spelling::bytes()
    } else {
        Spelling::Pieces
    };
    let ids = special_ids(&texts, config, model);
    Vocabulary::new(texts, kinds, spelling, ids)
}

/// The special ids: by their text in tokenizer_config.json, else by number in config.json.
fn special_ids(texts: &[Box<str>], config: &Value, model: &Value) -> SpecialIds {
    let known = |id: u64| {
        let id = u32::try_from(id).ok()?;
        ((id as usize) < texts.len()).then_some(id)
    };
    let special = |name: &str| {
        let given = &config[name];
        let text = given.as_str().or(given["content"].as_str());
        let by_text = text.and_then(|text| texts.iter().position(|known| **known == *text));
        let by_text = by_text.map(|id| id as u64);
        by_text
            .or(model[format!("{name}_id")].as_u64())
            .and_then(known)
    };
    // One id or several.
    let listed = &model["eos_token_id"];
    let ends = match listed {
        Value::Array(ids) => ids
            .iter()
            .filter_map(Value::as_u64)
            .filter_map(known)
            .collect(),
        id => id.as_u64().and_then(known).into_iter().collect(),
    };
    SpecialIds {
        bos: special("bos_token"),
        eos: special("eos_token"),
        unknown: None,
        ends,
    }
}

/// The engine, which gets the file without its added tokens.
fn engine(mut json: Value, vocabulary: &Vocabulary) -> Result<Engine, TokenizerError> {
    let unknown = json["model"]["unk_token"].as_str().map(str::to_owned);
    let markups = vocabulary.markups(unknown.as_deref());
    remove_markups(&mut json["model"], &markups);
    json["added_tokens"] = Value::Array(Vec::new());
    for key in ["post_processor", "padding", "truncation"] {
        json[key] = Value::Null;
    }
    let text = json.to_string();
    let engine =
        tokenizers::Tokenizer::from_bytes(text.as_bytes()).map_err(TokenizerError::engine)?;
    Ok(Engine::new(engine))
}

/// Takes the control tokens, and merges that make them, out of a model: no text becomes one then.
fn remove_markups(model: &mut Value, markups: &Markups<'_>) {
    match &mut model["vocab"] {
        Value::Object(tokens) => tokens.retain(|text, _| !markups.contains(text)),
        // A Unigram model, whose places are ids: what has no text is never found.
        Value::Array(pieces) => {
            for piece in pieces {
                if piece[0].as_str().is_some_and(|text| markups.contains(text)) {
                    piece[0] = "".into();
                }
            }
        }
        _ => {}
    }
    if let Some(merges) = model["merges"].as_array_mut() {
        merges.retain(|merge| {
            let pair = match merge {
                Value::String(line) => line.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            !pair.is_some_and(|(left, right)| markups.touch(left, right))
        });
    }
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

//! Typed access to config.json, with errors that name the key.

use super::names::{MODEL_TYPES, ModelType};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Options that change what a model computes, and what they must be where they are given.
const REFUSED: &[(&str, &[Value])] = &[
    ("quantization_config", &[Value::Null]),
    ("qk_layernorm", &[Value::Null, Value::Bool(false)]),
    ("clip_qkv", &[Value::Null]),
    ("num_local_experts", &[Value::Null]),
    ("num_experts", &[Value::Null]),
];

/// A config.json, read as its model type's.
pub(super) struct Reader<'a> {
    path: &'a Path,
    pub json: &'a Value,
    pub kind: &'static ModelType,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let kind = &MODEL_TYPES[0];
        let mut reader = Self { path, json, kind };
        let name = json["model_type"].as_str();
        let name = name.ok_or_else(|| reader.bad("has no model_type".into()))?;
        reader.kind = ModelType::find(name).ok_or_else(|| {
            let known: Vec<&str> = MODEL_TYPES.iter().map(|known| known.name).collect();
            let what = format!("model type {name:?}");
            reader.unsupported(what, format!("supported: {}", known.join(", ")))
        })?;
        for (key, allowed) in REFUSED {
            if !allowed.contains(&json[*key]) {
                let what = format!("{key} = {} in model type {name:?}", shortened(&json[*key]));
                return Err(reader.unsupported(what, "models without it are".into()));
            }
        }
        Ok(reader)
    }

    pub fn bad(&self, reason: String) -> Error {
        Error::Model {
            path: self.path.to_owned(),
            reason,
        }
    }

    pub fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path.to_owned(),
            what,
            supported,
        }
    }

    /// A size; `None` when it is absent or null.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            // No real model comes near 2^32 of anything; larger numbers only overflow.
            value => match value.as_u64().filter(|&n| n < 1 << 32) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(self.bad(format!(
                    "{key} should be a size, but is {}",
                    shortened(value)
                ))),
            },
        }
    }

    pub fn need(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            Some(n) if n > 0 => Ok(n),
            Some(_) => Err(self.bad(format!("{key} is 0"))),
            None => Err(self.bad(format!("has no {key}"))),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        number(&self.json[key])
            .map_err(|value| self.bad(format!("{key} should be a number, but is {value}")))
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            value => Err(self.bad(format!(
                "{key} should be true or false, but is {}",
                shortened(value)
            ))),
        }
    }

    /// A list with an element for each layer.
    pub fn list(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Array(list) if list.len() == layers => Ok(Some(list)),
            _ => Err(self.bad(format!(
                "{key} should be a list of {layers}, one for each layer"
            ))),
        }
    }
}

/// A number, `None` for null, or the text of what is none.
pub(super) fn number(value: &Value) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        value => value.as_f64().map(Some).ok_or_else(|| shortened(value)),
    }
}

/// A value as text for an error.
pub(super) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

//! Typed access to config.json, with errors that name the key. It notes which keys were read.

use super::names::{MODEL_TYPES, ModelType};
use super::options::{OF_OTHERS, RULES};
use crate::error::{Error, Result};
use crate::keys::{self, Key, Meaning};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

/// A config.json, read as its model type's.
pub(super) struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
    pub kind: &'static ModelType,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let mut reader = Self {
            path,
            json,
            kind: &MODEL_TYPES[0],
            used: RefCell::default(),
        };
        let name = reader.get("model_type");
        let name = name.as_str();
        let name = name.ok_or_else(|| reader.bad("has no model_type".into()))?;
        let kind = ModelType::find(name).ok_or_else(|| {
            let known: Vec<&str> = MODEL_TYPES.iter().map(|known| known.name).collect();
            let what = format!("model type {name:?}");
            reader.unsupported(what, format!("supported: {}", known.join(", ")))
        })?;
        reader.kind = kind;
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

    /// The value of an option, or what holds without it; null for one that the model type lacks.
    pub fn get(&self, key: &str) -> Value {
        if self.has(key) {
            self.note(key);
        }
        self.peek(key)
    }

    /// [`Reader::get`] of an option that may turn out not to be used.
    pub fn peek(&self, key: &str) -> Value {
        match (self.kind.absent(key), self.json.get(key)) {
            (None, _) => Value::Null,
            (Some(absent), None) => absent.value(),
            (Some(_), Some(value)) => value.clone(),
        }
    }

    /// Whether the file has the option, and the model type too.
    pub fn has(&self, key: &str) -> bool {
        self.kind.absent(key).is_some() && self.json.get(key).is_some()
    }

    /// Notes that a key was used.
    pub fn note(&self, key: &str) {
        self.used.borrow_mut().insert(key.to_owned());
    }

    /// Notes that a key that was read turned out to be of no use.
    pub fn unnote(&self, key: &str) {
        self.used.borrow_mut().remove(key);
    }

    /// A size; `None` when it is null.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            Value::Null => Ok(None),
            // No real model comes near 2^32 of anything; larger numbers only overflow.
            value => match value.as_u64().filter(|&n| n < 1 << 32) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(self.wrong(key, "a size", &value)),
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
        let value = self.get(key);
        number(&value).map_err(|()| self.wrong(key, "a number", &value))
    }

    /// A truth value; false when it is null.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(value),
            value => Err(self.wrong(key, "true or false", &value)),
        }
    }

    /// A list with an element for each layer.
    pub fn list(&self, key: &str, layers: usize) -> Result<Option<Vec<Value>>> {
        match self.get(key) {
            Value::Null => Ok(None),
            Value::Array(list) if list.len() == layers => Ok(Some(list)),
            value => {
                let expected = format!("a list of {layers}, one for each layer");
                Err(self.wrong(key, &expected, &value))
            }
        }
    }

    /// An error about a value of the wrong type.
    pub fn wrong(&self, key: &str, expected: &str, value: &Value) -> Error {
        self.bad(format!(
            "{key} should be {expected}, but is {}",
            shortened(value)
        ))
    }

    /// What becomes of all keys, now that the model was read.
    pub fn judge(&self, ignored: &[String]) -> Result<Vec<Key>> {
        let Value::Object(object) = self.json else {
            return Err(self.bad("is not an object".into()));
        };
        let mut all = Vec::new();
        for (key, value) in object {
            let nested = matches!(&**key, "rope_scaling" | "rope_parameters");
            flatten(key.clone(), value, if nested { 2 } else { 0 }, &mut all);
        }
        let meaning = |key: &str| {
            let of_others = || {
                let other = MODEL_TYPES.iter().any(|kind| kind.absent(key).is_some());
                let own = self.kind.absent(key).is_some();
                (other && !own).then_some(Meaning::Harmless(OF_OTHERS))
            };
            keys::find(RULES, key).or_else(of_others)
        };
        keys::judge(all, &self.used.borrow(), meaning, ignored).map_err(|fault| {
            let (what, supported) = fault.words();
            let what = format!("{what} in model type {:?}", self.kind.name);
            self.unsupported(what, supported)
        })
    }
}

/// The keys of a value, those of objects down to a depth by themselves.
fn flatten(name: String, value: &Value, depth: usize, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) if depth > 0 && !object.is_empty() => {
            for (key, value) in object {
                flatten(format!("{name}.{key}"), value, depth - 1, all);
            }
        }
        value => all.push((name, shortened(value))),
    }
}

/// A number, `None` for null.
pub(super) fn number(value: &Value) -> Result<Option<f64>, ()> {
    match value {
        Value::Null => Ok(None),
        value => value.as_f64().map(Some).ok_or(()),
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

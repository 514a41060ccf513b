//! Typed access to config.json, with errors that name the key. It notes which keys were read.

use super::model_types;
use super::names::{MODEL_TYPES, ModelType};
use super::nested::{self, NESTINGS, Nesting, TEXT};
use super::options::{Absent, OF_OTHERS, RULES};
use super::packed;
use crate::error::{Error, Result};
use crate::families;
use crate::keys::{self, Key, Meaning};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

/// A config.json, read as its model type's.
pub(super) struct Reader<'a> {
    path: &'a Path,
    /// The options of the model that is run.
    json: &'a Value,
    /// What nests them.
    whole: Option<&'a Value>,
    /// Options that the model type has, but not inside of that.
    unread: &'static [&'static str],
    pub kind: &'static ModelType,
    /// The keys that were read, with the names that the file gives them.
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let mut reader = Self {
            path,
            json,
            whole: None,
            unread: &[],
            kind: &MODEL_TYPES[0],
            used: RefCell::default(),
        };
        let name = reader.get("model_type");
        let name = name.as_str();
        let name = name.ok_or_else(|| reader.bad("has no model_type".into()))?;
        if let Some(nesting) = Nesting::find(name) {
            return reader.nested(nesting);
        }
        let kind = model_types::find(name).ok_or_else(|| {
            if let Some(what) = families::missing(name) {
                let what = format!("missing: {what}");
                return reader.unsupported(format!("model type {name:?}"), what);
            }
            let known = model_types::all().map(|known| known.name);
            let nesting = NESTINGS.iter().map(|known| known.name);
            let known: Vec<&str> = known.chain(nesting).collect();
            let what = format!("model type {name:?}");
            reader.unsupported(what, format!("supported: {}", known.join(", ")))
        })?;
        reader.kind = kind;
        Ok(reader)
    }

    /// The same, of the text part.
    fn nested(mut self, nesting: &Nesting) -> Result<Self> {
        let text = &self.json[TEXT];
        if !text.is_object() {
            return Err(self.wrong(TEXT, "an object", text));
        }
        self.kind = nesting.kind(text).map_err(|known| {
            let kind = shortened(&text["model_type"]);
            let what = format!(
                "{TEXT}.model_type = {kind} in model type {:?}",
                nesting.name
            );
            self.unsupported(what, format!("supported: {}", known.join(", ")))
        })?;
        self.whole = Some(self.json);
        self.unread = nesting.unread;
        self.json = text;
        self.note("model_type");
        Ok(self)
    }

    /// What holds where an option is absent; `None` for one that the model does not have.
    pub fn absent(&self, key: &str) -> Option<Absent> {
        let read = !self.unread.contains(&key);
        self.kind.absent(key).filter(|_| read)
    }

    /// Whether the model is a part of another.
    pub fn is_nested(&self) -> bool {
        self.whole.is_some()
    }

    /// What the model type calls an option.
    fn spelled<'k>(&self, key: &'k str) -> &'k str {
        let mut others = self.kind.spellings.iter();
        let has = |key: &str| self.json.get(key).is_some();
        // Classes know the usual name too.
        let other = others.find(|(usual, own)| *usual == key && (has(own) || !has(usual)));
        other.map_or(key, |(_, own)| own)
    }

    /// What the file calls an option.
    fn full(&self, key: &str) -> String {
        let key = self.spelled(key);
        match self.whole {
            Some(_) => format!("{TEXT}.{key}"),
            None => key.to_owned(),
        }
    }

    /// The value of an option of the whole file.
    pub fn outer(&self, key: &str) -> Value {
        let Some(whole) = self.whole else {
            return self.get(key);
        };
        if whole.get(key).is_some() {
            self.used.borrow_mut().insert(key.to_owned());
        }
        whole[key].clone()
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
        match (self.absent(key), self.json.get(self.spelled(key))) {
            (None, _) => Value::Null,
            (Some(absent), None) => {
                let sizes = self.kind.sizes.iter().filter(|_| self.is_nested());
                let size = sizes.clone().find(|(name, _)| *name == key);
                size.map_or(absent, |(_, size)| *size).value()
            }
            (Some(_), Some(value)) => value.clone(),
        }
    }

    /// Whether the file has the option, and the model type too.
    pub fn has(&self, key: &str) -> bool {
        self.absent(key).is_some() && self.json.get(self.spelled(key)).is_some()
    }

    /// Notes that a key was used.
    pub fn note(&self, key: &str) {
        self.used.borrow_mut().insert(self.full(key));
    }

    /// Notes that a key that was read turned out to be of no use.
    pub fn unnote(&self, key: &str) {
        self.used.borrow_mut().remove(&self.full(key));
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
            Some(_) => Err(self.bad(format!("{} is 0", self.full(key)))),
            None => Err(self.bad(format!("has no {}", self.full(key)))),
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
            "{} should be {expected}, but is {}",
            self.full(key),
            shortened(value)
        ))
    }

    /// What becomes of all keys, now that the model was read.
    pub fn judge(&self, ignored: &[String]) -> Result<Vec<Key>> {
        let Value::Object(object) = self.whole.unwrap_or(self.json) else {
            return Err(self.bad("is not an object".into()));
        };
        let mut all = Vec::new();
        for (key, value) in object {
            let depth = match &**key {
                TEXT if self.is_nested() => 3,
                key if is_split(key, value) => 2,
                _ => 0,
            };
            flatten(key.clone(), value, depth, &mut all);
        }
        let meaning = |key: &str| match self.whole {
            Some(_) => match key.strip_prefix(TEXT).and_then(|key| key.strip_prefix('.')) {
                Some(key) => self.meaning(key),
                None => outer_meaning(key),
            },
            None => self.meaning(key),
        };
        self.check_quantization(ignored)?;
        keys::judge(all, &self.used.borrow(), meaning, ignored).map_err(|fault| {
            let (what, supported) = fault.words();
            let what = format!("{what} in model type {:?}", self.kind.name);
            self.unsupported(what, supported)
        })
    }

    /// Refuses weights in a format of another library by its name.
    fn check_quantization(&self, ignored: &[String]) -> Result<()> {
        const KEYS: [&str; 2] = ["quantization_config", "quantization"];
        let outside = self.whole.into_iter().map(|whole| (whole, String::new()));
        for (json, place) in outside.chain([(self.json, self.full(""))]) {
            for key in KEYS {
                let (name, value) = (format!("{place}{key}"), &json[key]);
                let is_off = value
                    .as_object()
                    .map_or(value.is_null(), |it| it.is_empty());
                if is_off || ignored.contains(&name) {
                    continue;
                }
                let own = value["quant_method"].as_str().map(str::to_owned);
                if is_read(key, value) {
                    let mut used = self.used.borrow_mut();
                    used.insert(format!("{name}.quant_method"));
                    if own.as_deref() == Some(packed::FP8) {
                        used.insert(format!("{name}.weight_block_size"));
                    }
                    continue;
                }
                let kind = own.unwrap_or_else(|| match key {
                    _ if value["load_in_8bit"] == true || value["load_in_4bit"] == true => {
                        "bitsandbytes".into()
                    }
                    _ => shortened(value),
                });
                return Err(self.unsupported(
                    format!("weights quantised by {kind} ({name})"),
                    "supported in a folder: F32, F16, BF16, mxfp4 and fp8; take the model that this one was made \
                     from, or a GGUF file of it"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    fn meaning(&self, key: &str) -> Option<Meaning> {
        let of_others = || {
            let spellings = self.kind.spellings;
            let own = self.absent(key).is_some() || spellings.iter().any(|(_, own)| *own == key);
            (is_option(key) && !own).then_some(Meaning::Harmless(OF_OTHERS))
        };
        keys::find(RULES, key).or_else(of_others)
    }
}

/// What a key beside a text part means.
fn outer_meaning(key: &str) -> Option<Meaning> {
    let own = || keys::find(nested::RULES, key);
    let outside = || is_option(key).then_some(Meaning::Harmless(nested::OUTSIDE));
    own().or_else(|| outside().or_else(|| keys::find(RULES, key)))
}

fn is_option(key: &str) -> bool {
    let spelled = |kind: &ModelType| kind.spellings.iter().any(|(_, own)| *own == key);
    model_types::all().any(|kind| kind.absent(key).is_some() || spelled(kind))
}

/// Whether the parts of an option count by themselves.
fn is_split(key: &str, value: &Value) -> bool {
    matches!(key, "rope_scaling" | "rope_parameters") || is_read(key, value)
}

/// Whether an option describes weights in a format that is read here.
fn is_read(key: &str, value: &Value) -> bool {
    let method = value["quant_method"].as_str();
    key == "quantization_config" && method.is_some_and(packed::is_read)
}

/// The keys of a value, those of objects down to a depth by themselves.
fn flatten(name: String, value: &Value, depth: usize, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) if depth > 0 && !object.is_empty() => {
            for (key, value) in object {
                // Of a text part, those options have parts that have any outside of it.
                let depth = if depth == 3 && !is_split(key, value) {
                    0
                } else {
                    depth - 1
                };
                flatten(format!("{name}.{key}"), value, depth, all);
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

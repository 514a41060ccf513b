//! What the keys of tokenizer.json mean: those of the file, of its model and of its added tokens.
//!
//! The names are those of the `tokenizers` package, which keeps silent about keys that it does not know.
//! What is within its steps (normalizer, pre_tokenizer, post_processor, decoder) is read by the package
//! itself.

use super::SafetensorsFolder;
use super::reader::shortened;
use crate::error::{Error, Result};
use crate::keys::{self, Key, Meaning, Rule};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What names of these keys begin with, beside those of config.json.
const PREFIX: &str = "tokenizer.json:";

const RULES: &[Rule] = &[
    (
        &[
            "added_tokens.content",
            "added_tokens.id",
            "added_tokens.lstrip",
            "added_tokens.normalized",
            "added_tokens.rstrip",
            "added_tokens.single_word",
            "added_tokens.special",
            "decoder",
            "model.byte_fallback",
            "model.continuing_subword_prefix",
            "model.end_of_word_suffix",
            "model.fuse_unk",
            "model.ignore_merges",
            "model.max_input_chars_per_word",
            "model.merges",
            "model.type",
            "model.unk_id",
            "model.unk_token",
            "model.vocab",
            "normalizer",
            "post_processor",
            "pre_tokenizer",
            // The package refuses other versions.
            "version",
        ],
        Meaning::Elsewhere,
    ),
    (&["added_tokens"], Meaning::Harmless("there are none")),
    (
        &["padding", "truncation"],
        Meaning::Harmless("how a Python caller batches texts; a prompt is neither padded nor cut"),
    ),
    // The package drops merges at random with it, in use as in training.
    (&["model.dropout"], Meaning::Off(&["null", "0", "0.0"])),
];

/// Whether a key to ignore is one of these, not of config.json.
pub(super) fn is_own(key: &str) -> bool {
    key.starts_with(PREFIX)
}

impl SafetensorsFolder {
    /// Judges all keys of a tokenizer.json.
    pub(super) fn tokenizer_keys(&self, json: &Value) -> Result<Vec<Key>> {
        let ignored = self.all_ignored_keys().iter();
        let ignored = ignored.filter_map(|key| key.strip_prefix(PREFIX).map(str::to_owned));
        let ignored: Vec<String> = ignored.collect();
        let meaning = |key: &str| keys::find(RULES, key);
        let judged = keys::judge(flattened(json), &BTreeSet::new(), meaning, &ignored);
        let mut judged = judged.map_err(|fault| {
            let (what, supported) = fault.named(PREFIX).words();
            Error::Unsupported {
                path: self.path().join("tokenizer.json"),
                what,
                supported,
            }
        })?;
        for key in &mut judged {
            key.name.insert_str(0, PREFIX);
        }
        Ok(judged)
    }

    /// A tokenizer.json without the keys to ignore: the package refuses some that it does not know.
    pub(super) fn without_ignored(&self, mut json: Value) -> Value {
        let ignored = self.all_ignored_keys().iter();
        for key in ignored.filter_map(|key| key.strip_prefix(PREFIX)) {
            match key.split_once('.') {
                None => remove(&mut json, key),
                Some(("model", key)) => remove(&mut json["model"], key),
                Some((list, key)) => {
                    let tokens = json.get_mut(list).and_then(Value::as_array_mut);
                    tokens
                        .into_iter()
                        .flatten()
                        .for_each(|token| remove(token, key));
                }
            }
        }
        json
    }
}

fn remove(fields: &mut Value, key: &str) {
    if let Some(fields) = fields.as_object_mut() {
        fields.remove(key);
    }
}

/// The keys with their values, of those that many tokens have the first.
fn flattened(json: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        let (parts, is_split) = match (&**name, value) {
            ("model", Value::Object(_)) => (std::slice::from_ref(value), true),
            ("added_tokens", Value::Array(tokens)) => (&tokens[..], !tokens.is_empty()),
            _ => (&[][..], false),
        };
        if !is_split {
            all.insert(name.clone(), summary(value));
        }
        for (key, value) in parts.iter().filter_map(Value::as_object).flatten() {
            let name = format!("{name}.{key}");
            all.entry(name).or_insert_with(|| summary(value));
        }
    }
    all
}

/// A value as text: vocabularies are long.
fn summary(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.len() > 20 => format!("{} entries", fields.len()),
        Value::Array(list) if list.len() > 20 => format!("{} entries", list.len()),
        value => shortened(value),
    }
}

#[cfg(test)]
mod tests {
    use crate::ModelFile;
    use crate::tokenizer::Tokenizer;
    use serde_json::{Value, json};
    use std::path::Path;

    const TEXT: &str = "The cat's 12 naïve hats,\n  and   the <s> end";

    /// A folder's tokenizer, read in spite of a key.
    fn opened(tokenizer: &Value, ignored: &[&str]) -> crate::Result<Tokenizer> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            let from = here.join("checkpoints/llama").join(name);
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
        let file = folder.path().join("tokenizer.json");
        std::fs::write(file, tokenizer.to_string()).unwrap();
        let ignored: Vec<String> = ignored.iter().map(|&key| key.into()).collect();
        let file = ModelFile::open(folder.path())?.ignoring(&ignored);
        assert!(file.keys().is_ok() || file.tokenizer().is_err());
        file.config()?;
        file.tokenizer()
    }

    fn samples() -> Vec<Value> {
        let made = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tokenizers/small.json");
        let made: Value = serde_json::from_slice(&std::fs::read(made).unwrap()).unwrap();
        let made = made.as_array().unwrap().iter();
        made.map(|case| case["tokenizer"].clone()).collect()
    }

    fn refused(tokenizer: &Value, ignored: &[&str]) -> String {
        opened(tokenizer, ignored).unwrap_err().to_string()
    }

    #[test]
    fn every_key_of_tokenizer_json_is_used_harmless_or_refused() {
        for sample in samples() {
            let ids = |tokenizer: &Value| {
                let opened = opened(tokenizer, &[]).unwrap();
                opened.encode(TEXT).unwrap()
            };
            let before = ids(&sample);
            for (key, value) in [
                ("padding", json!({"strategy": "BatchLongest"})),
                ("truncation", json!({"max_length": 2})),
            ] {
                let mut changed = sample.clone();
                changed[key] = value;
                assert_eq!(ids(&changed), before, "{key}");
            }
            let mut newer = sample.clone();
            newer["version"] = json!("9.9");
            assert!(refused(&newer, &[]).contains("9.9"));
            let mut dropping = sample.clone();
            dropping["model"]["dropout"] = json!(0.5);
            let error = refused(&dropping, &[]);
            assert!(
                error.contains("tokenizer.json:model.dropout = 0.5"),
                "{error}"
            );
            // Each key in a name of its own is unknown, wherever it is.
            let mut unknown = sample.clone();
            unknown["novel"] = json!(1);
            check_unknown(&unknown, "novel", &before);
            let mut unknown = sample.clone();
            unknown["model"]["novel"] = json!({"a": 1});
            check_unknown(&unknown, "model.novel", &before);
            let mut unknown = sample.clone();
            if let Some(token) = unknown["added_tokens"].as_array_mut().unwrap().last_mut() {
                token["novel"] = json!(true);
                check_unknown(&unknown, "added_tokens.novel", &before);
            }
        }
    }

    fn check_unknown(tokenizer: &Value, key: &str, before: &[u32]) {
        let key = format!("tokenizer.json:{key}");
        let error = refused(tokenizer, &[]);
        assert!(error.contains(&format!("--ignore-key {key}")), "{error}");
        let ids = opened(tokenizer, &[&key]).unwrap().encode(TEXT).unwrap();
        assert_eq!(ids, before, "{key}");
        let error = refused(tokenizer, &[&key, "tokenizer.json:absent"]);
        assert!(error.contains("tokenizer.json:absent"), "{error}");
    }
}

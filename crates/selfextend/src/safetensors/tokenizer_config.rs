//! What the keys of tokenizer_config.json mean, and what they change of tokenizer.json, as in the
//! fast tokenizers of `transformers` 4.56 (`PreTrainedTokenizerFast`).

use super::SafetensorsFolder;
use super::reader::shortened;
use crate::error::{Error, Result};
use crate::keys::{self, Key, Meaning, Rule};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What names of these keys begin with, beside those of config.json.
pub(super) const PREFIX: &str = "tokenizer_config.json:";
const NAME: &str = "tokenizer_config.json";

const SPECIAL: &[&str] = &[
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
const FLAGS: &[&str] = &["lstrip", "rstrip", "single_word", "normalized"];

const RULES: &[Rule] = &[
    (
        &[
            "add_bos_token",
            "add_prefix_space",
            "added_tokens_decoder",
            "additional_special_tokens",
            "bos_token",
            "chat_template",
            "cls_token",
            "eos_token",
            "mask_token",
            "pad_token",
            "sep_token",
            "tokenizer_class",
            "unk_token",
        ],
        Meaning::Elsewhere,
    ),
    (
        &["add_eos_token"],
        Meaning::Harmless("it ends texts for training; a prompt goes on"),
    ),
    (
        &["clean_up_tokenization_spaces"],
        Meaning::Harmless(
            "`decode` of a Python caller takes out spaces with it; text here is what the tokens say",
        ),
    ),
    (
        &[
            "max_length",
            "model_input_names",
            "model_max_length",
            "pad_to_multiple_of",
            "pad_token_type_id",
            "padding",
            "padding_side",
            "return_tensors",
            "stride",
            "truncation",
            "truncation_side",
            "truncation_strategy",
            "verbose",
        ],
        Meaning::Harmless("how a Python caller batches texts; a prompt is neither padded nor cut"),
    ),
    (
        &[
            "errors",
            "legacy",
            "sp_model_kwargs",
            "spaces_between_special_tokens",
            "use_default_system_prompt",
            "use_fast",
        ],
        Meaning::Harmless(
            "the tokenizers written in Python read it; tokenizer.json has what it asks for",
        ),
    ),
    (
        &[
            "_commit_hash",
            "auto_map",
            "backend",
            "boi_token",
            "device_map",
            "eoi_token",
            "extra_special_tokens",
            "image_token",
            "init_inputs",
            "is_local",
            "merges_file",
            "name_or_path",
            "processor_class",
            "special_tokens_map_file",
            "tokenizer_file",
            "tokenizer_type",
            "transformers_version",
            "unsloth_fixed",
            "vocab_file",
            "vocab_size",
        ],
        Meaning::Harmless("it describes the files, or names tokens that tokenizer.json has"),
    ),
    (
        &[
            "do_lower_case",
            "fix_mistral_regex",
            "from_slow",
            "split_special_tokens",
        ],
        Meaning::Off(&["false", "null"]),
    ),
];

impl SafetensorsFolder {
    /// Judges all keys of tokenizer_config.json.
    pub(super) fn tokenizer_config_keys(&self, config: &Value) -> Result<Vec<Key>> {
        let ignored = self.all_ignored_keys().iter();
        let ignored = ignored.filter_map(|key| key.strip_prefix(PREFIX).map(str::to_owned));
        let ignored: Vec<String> = ignored.collect();
        let all = config.as_object().into_iter().flatten();
        let all = all.map(|(key, value)| (key.clone(), shortened(value)));
        let meaning = |key: &str| keys::find(RULES, key);
        let judged = keys::judge(all, &BTreeSet::new(), meaning, &ignored);
        let mut judged = judged.map_err(|fault| {
            let (what, supported) = fault.named(PREFIX).words();
            self.config_unsupported(what, &supported)
        })?;
        for key in &mut judged {
            key.name.insert_str(0, PREFIX);
        }
        Ok(judged)
    }

    fn config_unsupported(&self, what: String, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path().join(NAME),
            what,
            supported: supported.to_owned(),
        }
    }

    /// A tokenizer.json with what tokenizer_config.json changes of it.
    pub(super) fn configured(&self, mut json: Value, config: &Value) -> Result<Value> {
        if config.is_object() {
            self.set_prefix_space(&mut json, config)?;
            self.set_added_tokens(&mut json, config)?;
        }
        Ok(json)
    }

    /// A pre-tokenizer that has the flag gets it from here, where it is off if it is absent. Llama's
    /// class, given one, converts tokenizer.model anew, and Cohere's has rules of its own: what they
    /// would make is known only where tokenizer.json says the same.
    fn set_prefix_space(&self, json: &mut Value, config: &Value) -> Result<()> {
        const KEY: &str = "add_prefix_space";
        let class = config["tokenizer_class"].as_str().unwrap_or_default();
        let given = config[KEY].as_bool();
        let differs = match class.strip_suffix("Fast").unwrap_or(class) {
            "LlamaTokenizer" => given.is_some_and(|given| given != adds_space(json)),
            "CohereTokenizer" => given == Some(true) && !adds_space(json),
            _ => false,
        };
        if differs {
            let what = format!("{PREFIX}{KEY} = {} with {class}", config[KEY]);
            let supported =
                "tokenizer.json says otherwise; save the tokenizer again with transformers";
            return Err(self.config_unsupported(what, supported));
        }
        let own = &mut json["pre_tokenizer"];
        if own.get(KEY).is_some() {
            own[KEY] = given.unwrap_or(false).into();
        }
        Ok(())
    }

    /// Flags of added tokens are those said here, and special tokens of the vocabulary are found as a
    /// whole. New tokens would get ids of their own: they are refused.
    fn set_added_tokens(&self, json: &mut Value, config: &Value) -> Result<()> {
        let listed = config["added_tokens_decoder"]
            .as_object()
            .into_iter()
            .flatten();
        let listed = listed.map(|(id, token)| (Some(id.as_str()), token.clone()));
        let more = config["additional_special_tokens"].as_array();
        let named = SPECIAL.iter().map(|name| &config[*name]);
        let named = named.chain(more.into_iter().flatten());
        let special = named.map(|token| (None, token.clone()));
        let tokens: Vec<_> = listed.chain(special).collect();
        for (id, token) in tokens {
            let Some(text) = token.as_str().or(token["content"].as_str()) else {
                continue;
            };
            let added = json["added_tokens"].as_array_mut();
            let mut added = added.into_iter().flatten();
            if let Some(own) = added.find(|own| own["content"] == text) {
                if id.is_some() {
                    update(own, &token);
                }
            } else if let Some(known) = known_id(json, text) {
                let mut new = json!({"id": known, "content": text, "special": true});
                if id.is_none() {
                    FLAGS.iter().for_each(|flag| new[*flag] = false.into());
                } else {
                    new["special"] = token["special"].clone();
                    update(&mut new, &token);
                }
                match json["added_tokens"].as_array_mut() {
                    Some(added) => added.push(new),
                    None => json["added_tokens"] = json!([new]),
                }
            } else if let Some(id) = id {
                let what = format!("{PREFIX}added_tokens_decoder.{id} = {text:?}");
                let supported =
                    "tokenizer.json has no such token; save the tokenizer again with transformers";
                return Err(self.config_unsupported(what, supported));
            }
        }
        Ok(())
    }
}

/// The flags of a token as they are said in the other file. What is special stays special.
fn update(own: &mut Value, said: &Value) {
    for flag in FLAGS {
        if said[*flag].is_boolean() {
            own[*flag] = said[*flag].clone();
        }
    }
    if said["special"] == true {
        own["special"] = true.into();
    }
}

/// The id of a text in the vocabulary.
fn known_id(json: &Value, text: &str) -> Option<u64> {
    match &json["model"]["vocab"] {
        Value::Object(vocab) => vocab.get(text)?.as_u64(),
        Value::Array(pieces) => {
            let place = pieces.iter().position(|piece| piece[0] == text)?;
            Some(place as u64)
        }
        _ => None,
    }
}

/// Whether a text gets a space before its first word.
fn adds_space(part: &Value) -> bool {
    let one = |step: &Value| {
        step["type"] == "Prepend"
            || step["add_prefix_space"] == true
            || step["prepend_scheme"]
                .as_str()
                .is_some_and(|it| it != "never")
    };
    let steps =
        |step: &Value, list: &str| step[list].as_array().is_some_and(|it| it.iter().any(one));
    let (first, second) = (&part["normalizer"], &part["pre_tokenizer"]);
    one(first) || one(second) || steps(first, "normalizers") || steps(second, "pretokenizers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFile;
    use std::path::Path;

    const TEXT: &str = "acat <s> cows x<t>y";

    /// Bytes as tokens, `cat` in the vocabulary, and three added tokens.
    fn tokenizer() -> Value {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut alphabet: Vec<String> = alphabet.into_iter().map(String::from).collect();
        alphabet.sort_unstable();
        alphabet.push("cat".to_owned());
        let vocab = alphabet.into_iter().enumerate();
        let vocab: Value = vocab.map(|(id, text)| (text, json!(id))).collect();
        let added = |id: u32, text: &str, special: bool| {
            json!({"id": id, "content": text, "special": special, "lstrip": false,
                "rstrip": false, "single_word": false, "normalized": false})
        };
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        json!({
            "version": "1.0",
            "added_tokens": [added(257, "<s>", true), added(258, "</s>", true), added(259, "cow", false)],
            "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        })
    }

    /// What a folder with these files gives: the tokens of the text, and all else that is read.
    fn read(json: &Value, config: &Value, ignored: &[&str]) -> Result<(String, String)> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints/llama");
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(here.join(name), folder.path().join(name)).unwrap();
        }
        let write =
            |name: &str, json: &Value| std::fs::write(folder.path().join(name), json.to_string());
        write("tokenizer.json", json).unwrap();
        write(NAME, config).unwrap();
        let ignored: Vec<String> = ignored.iter().map(|&key| key.into()).collect();
        let file = ModelFile::open(folder.path())?.ignoring(&ignored);
        let tokenizer = file.tokenizer()?;
        file.keys()?;
        let ids = tokenizer.encode_with_special(TEXT).unwrap();
        let texts = ids.iter().map(|id| tokenizer.token_text(*id).unwrap());
        let texts = texts.collect::<Vec<_>>().join(" ");
        let plain = tokenizer.encode(TEXT).unwrap();
        let rest = format!(
            "{plain:?} {:?} {:?} {} {:?} {:?}",
            tokenizer.bos(),
            tokenizer.eos(),
            tokenizer.add_bos(),
            tokenizer.end_tokens(),
            SafetensorsFolder::open(folder.path())?.chat_template()?
        );
        Ok((texts, rest))
    }

    const USUAL: &str = "a c a t Ġ <s> Ġ cow s Ġ x < t > y";

    /// The tokens are those of transformers 4.56.2, class by class.
    #[test]
    fn flags_and_spaces_of_tokenizer_config_json_are_those_of_transformers() {
        let cat = "a cat Ġ <s> Ġ cow s Ġ x < t > y";
        let spaced = "Ġ a c a t Ġ <s> Ġ cow Ġ s Ġ x < t > y";
        let stripped = json!({"content": "<s>", "lstrip": true, "rstrip": true, "special": true});
        let word = json!({"content": "cow", "single_word": true});
        for (config, expected) in [
            (json!({}), USUAL),
            (
                json!({"added_tokens_decoder": {"257": stripped, "259": word}}),
                "a c a t <s> c o w s Ġ x < t > y",
            ),
            (
                json!({"added_tokens_decoder": {"257": {"content": "<s>", "special": false}}}),
                USUAL,
            ),
            (
                json!({"added_tokens_decoder": {"256": {"content": "cat", "special": true}}}),
                cat,
            ),
            (json!({"bos_token": "cat"}), cat),
            (json!({"additional_special_tokens": ["cat"]}), cat),
            (json!({"add_prefix_space": true}), spaced),
            (json!({"add_bos_token": true}), USUAL),
        ] {
            let mut config = config;
            config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
            assert_eq!(
                read(&tokenizer(), &config, &[]).unwrap().0,
                expected,
                "{config}"
            );
        }
        let mut json = tokenizer();
        json["pre_tokenizer"]["add_prefix_space"] = true.into();
        let config = json!({"tokenizer_class": "GPT2Tokenizer"});
        assert_eq!(read(&json, &config, &[]).unwrap().0, USUAL);
    }

    #[test]
    fn every_key_of_tokenizer_config_json_is_used_harmless_or_refused() {
        let base = json!({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"});
        let before = read(&tokenizer(), &base, &[]).unwrap();
        let with = |key: &str, value: Value, ignored: &[&str]| {
            let mut config = base.clone();
            config[key] = value;
            read(&tokenizer(), &config, ignored).map_err(|error| error.to_string())
        };
        for (names, meaning) in RULES {
            for key in *names {
                let odd = match *key {
                    "add_bos_token" => json!(false),
                    "add_prefix_space" | "do_lower_case" => json!(true),
                    "added_tokens_decoder" => {
                        json!({"259": {"content": "cow", "single_word": true}})
                    }
                    "additional_special_tokens" => json!(["cat"]),
                    "tokenizer_class" => json!("PreTrainedTokenizerFast"),
                    "eos_token" => json!("cow"),
                    _ => json!("cat"),
                };
                let after = with(key, odd, &[]);
                match meaning {
                    Meaning::Harmless(_) => assert_eq!(after.as_ref(), Ok(&before), "{key}"),
                    Meaning::Elsewhere => assert_ne!(after.as_ref(), Ok(&before), "{key}"),
                    Meaning::Off(_) => {
                        let error = after.unwrap_err();
                        assert!(error.contains(&format!("{PREFIX}{key}")), "{error}");
                    }
                }
            }
        }
        let error = with("novel", json!(1), &[]).unwrap_err();
        let name = "tokenizer_config.json:novel";
        assert!(error.contains(&format!("--ignore-key {name}")), "{error}");
        assert_eq!(with("novel", json!(1), &[name]).as_ref(), Ok(&before));
        let new = json!({"300": {"content": "<t>"}});
        let error = with("added_tokens_decoder", new, &[]).unwrap_err();
        assert!(error.contains("300") && error.contains("<t>"), "{error}");
        let error = with("add_prefix_space", json!(true), &[]).unwrap_err();
        assert!(error.contains("add_prefix_space = true"), "{error}");
    }
}

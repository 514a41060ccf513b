//! Models of which a language model is one part: config.json nests its options in `text_config`, and
//! the names of its tensors begin with its place. Only the text is run; the parts that read images
//! are left out, and text does not pass them.

use super::names::ModelType;
use crate::keys::{Meaning, Rule};
use crate::weights::Names;
use serde_json::Value;

pub(super) const TEXT: &str = "text_config";

/// A model with a text part, by the name that `transformers` gives it.
pub(super) struct Nesting {
    pub name: &'static str,
    /// The model types its text part may have; the first one where it does not say.
    texts: &'static [&'static str],
    /// Options of the text model that its class does not read inside of this one.
    pub unread: &'static [&'static str],
}

/// Their text parts see text as the model type alone does: with the same positions, masks and scales.
pub(super) const NESTINGS: &[Nesting] = &[
    Nesting {
        name: "gemma3",
        texts: &["gemma3_text"],
        unread: &["final_logit_softcapping"],
    },
    Nesting {
        name: "mistral3",
        texts: &["mistral"],
        unread: &[],
    },
    Nesting {
        name: "llava",
        texts: &["llama", "mistral", "qwen2", "qwen3"],
        unread: &[],
    },
];

/// Beginnings of the names of tensors that only images pass.
pub(super) const IMAGES: &[&str] = &[
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

/// What the keys beside `text_config` mean.
pub(super) const RULES: &[Rule] = &[(
    &[
        "boi_token_id",
        "boi_token_index",
        "eoi_token_id",
        "eoi_token_index",
        "image_seq_length",
        "image_token_id",
        "image_token_index",
        "ignore_index",
        "mm_tokens_per_image",
        "multimodal_projector_bias",
        "projector_hidden_act",
        "spatial_merge_size",
        "vision_config",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    ],
    Meaning::Harmless("how images are read, of which a text has none"),
)];

/// Why an option of a text model changes nothing where it is not in `text_config`.
pub(super) const OUTSIDE: &str = "`transformers` reads this option in text_config alone";

impl Nesting {
    pub fn find(name: &str) -> Option<&'static Self> {
        NESTINGS.iter().find(|known| known.name == name)
    }

    /// The model type of a text part, or those that it may have.
    pub fn kind(&self, text: &Value) -> Result<&'static ModelType, &'static [&'static str]> {
        let name = match &text["model_type"] {
            Value::Null => Some(self.texts[0]),
            name => name.as_str(),
        };
        let name = name.filter(|name| self.texts.contains(name));
        name.and_then(super::model_types::find).ok_or(self.texts)
    }
}

/// Where a text part keeps its tensors, of which a file has some: `transformers` has written them in
/// two ways.
pub(super) fn names(alone: Names, has: impl Fn(&str) -> bool) -> Names {
    let inside = has("language_model.model.embed_tokens.weight");
    let (embedding, output_norm, layer) = if inside {
        (
            "language_model.model.embed_tokens",
            "language_model.model.norm",
            "language_model.model.layers.{}.",
        )
    } else {
        (
            "model.language_model.embed_tokens",
            "model.language_model.norm",
            "model.language_model.layers.{}.",
        )
    };
    let output = if has("language_model.lm_head.weight") {
        "language_model.lm_head"
    } else {
        alone.output
    };
    Names {
        embedding,
        output_norm,
        output,
        layer,
        unread: IMAGES,
        ..alone
    }
}

/// What the tokenizer reads of a config.json: its own fields, and those of its text part.
pub(super) fn flat(json: &Value) -> Value {
    let nests = json["model_type"].as_str().and_then(Nesting::find);
    let (Some(_), Some(text), Some(own)) = (nests, json[TEXT].as_object(), json.as_object()) else {
        return json.clone();
    };
    let mut all = text.clone();
    let given = own
        .iter()
        .filter(|(key, value)| *key != TEXT && !value.is_null());
    // The embedding is the text part's, whatever is said outside.
    let given = given.filter(|(key, _)| *key != "vocab_size");
    all.extend(given.map(|(key, value)| (key.clone(), value.clone())));
    all.into_iter().collect()
}

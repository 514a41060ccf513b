//! From config.json to a [`ModelConfig`].

use super::families::{FAMILIES, Family, Slides};
use super::rope;
use crate::config::{
    Activation, LayerAttention, MAX_HEAD_DIM, MAX_LAYERS, ModelConfig, NormKind, Rotary,
};
use crate::error::{Error, Result};
use crate::weights::Reading;
use selfextend_attention::RopeSpec;
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

pub(super) fn read(path: &Path, json: &Value) -> Result<ModelConfig> {
    let reader = Reader::new(path, json)?;
    let config = reader.config()?;
    config.check().map_err(|reason| reader.bad(reason))?;
    Ok(config)
}

/// How the weights that belong to a config.json are to be read.
pub(super) fn reading(path: &Path, json: &Value) -> Result<Reading> {
    let reader = Reader::new(path, json)?;
    let family = reader.family;
    Ok(Reading {
        names: family.names,
        norm_offset: family.norm_offset,
        by_head: family.by_head,
        tied: reader.boolean("tie_word_embeddings")?,
        biased: family.biased,
        may_share_norm: family.may_share_norm,
    })
}

/// A config.json, read as its model type's.
pub(super) struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
    family: &'static Family,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let family = &FAMILIES[0];
        let mut reader = Self { path, json, family };
        let name = json["model_type"].as_str();
        let name = name.ok_or_else(|| reader.bad("has no model_type".into()))?;
        reader.family = Family::find(name).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
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

    pub(super) fn bad(&self, reason: String) -> Error {
        Error::Model {
            path: self.path.to_owned(),
            reason,
        }
    }

    pub(super) fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path.to_owned(),
            what,
            supported,
        }
    }

    /// A size; `None` when it is absent or null.
    fn size(&self, key: &str) -> Result<Option<usize>> {
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

    fn need(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            Some(n) if n > 0 => Ok(n),
            Some(_) => Err(self.bad(format!("{key} is 0"))),
            None => Err(self.bad(format!("has no {key}"))),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        number(&self.json[key])
            .map_err(|value| self.bad(format!("{key} should be a number, but is {value}")))
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            value => Err(self.bad(format!(
                "{key} should be true or false, but is {}",
                shortened(value)
            ))),
        }
    }

    fn config(&self) -> Result<ModelConfig> {
        let family = self.family;
        let (hidden, heads) = (self.need("hidden_size")?, self.need("num_attention_heads")?);
        let given = self
            .size("head_dim")?
            .or((family.head_dim > 0).then_some(family.head_dim));
        let head_dim = given.unwrap_or(hidden / heads);
        let layers = self.need("num_hidden_layers")?;
        for (name, size, limit) in [
            ("num_hidden_layers", layers, MAX_LAYERS),
            ("head_dim", head_dim, MAX_HEAD_DIM),
        ] {
            if size > limit {
                return Err(self.bad(format!("{name} is {size}")));
            }
        }
        let epsilon = match family.norm {
            NormKind::Rms => "rms_norm_eps",
            NormKind::Layer => "layer_norm_eps",
        };
        let norm_eps = self
            .number(epsilon)?
            .ok_or_else(|| self.bad(format!("has no {epsilon}")))?;
        let scale = self.number("query_pre_attn_scalar")?;
        let cap =
            |key: &str| -> Result<Option<f32>> { Ok(self.number(key)?.map(|cap| cap as f32)) };
        let mut ropes = rope::read(self, self.json, self.rope_spec(head_dim)?)?;
        let local_theta = self.number("rope_local_base_freq")?.or(family.local_theta);
        Ok(ModelConfig {
            architecture: family.name.to_owned(),
            name: self.json["_name_or_path"]
                .as_str()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            layers,
            hidden,
            feed_forward: self.need("intermediate_size")?,
            heads,
            kv_heads: self.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: self.need("vocab_size")?,
            trained_window: self.need("max_position_embeddings")?,
            norm: family.norm,
            norm_eps: norm_eps as f32,
            parallel: self
                .boolean("use_parallel_residual")?
                .unwrap_or(family.parallel),
            activation: self.activation()?,
            qk_norm: family.qk_norm,
            attention_scale: scale.map(|scale| scale.sqrt().recip() as f32),
            attention_soft_cap: cap("attn_logit_softcapping")?,
            logit_soft_cap: cap("final_logit_softcapping")?,
            embedding_scale: if family.scales_embedding {
                (hidden as f32).sqrt()
            } else {
                1.0
            },
            short_rope: ropes.short.take(),
            local_rope: local_theta.map(|theta| RopeSpec {
                theta,
                scaling: selfextend_attention::RopeScaling::None,
                ..ropes.global.clone()
            }),
            rope: ropes.global,
            attention: self.attention(layers, local_theta.is_some())?,
        })
    }

    /// The rotary embedding without its scaling.
    fn rope_spec(&self, head_dim: usize) -> Result<RopeSpec> {
        let family = self.family;
        let first = |keys: [&str; 2]| -> Result<Option<f64>> {
            Ok(self.number(keys[0])?.or(self.number(keys[1])?))
        };
        let share =
            first(["partial_rotary_factor", "rotary_pct"])?.unwrap_or(family.partial_rotary);
        if !(0.0..=1.0).contains(&share) {
            return Err(self.bad(format!(
                "the rotated share of a head is {share}, not from 0 to 1"
            )));
        }
        let theta = first(["rope_theta", "rotary_emb_base"])?.unwrap_or(family.theta);
        Ok(RopeSpec {
            rotary_dim: (share * head_dim as f64) as usize,
            ..RopeSpec::new(head_dim, theta)
        })
    }

    fn activation(&self) -> Result<Activation> {
        if let Some(activation) = self.family.activation {
            return Ok(activation);
        }
        match self.json["hidden_act"].as_str() {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            _ => Err(self.unsupported(
                format!("hidden_act = {}", shortened(&self.json["hidden_act"])),
                "supported: silu, gelu, gelu_new, gelu_pytorch_tanh".into(),
            )),
        }
    }

    fn attention(&self, layers: usize, local: bool) -> Result<Vec<LayerAttention>> {
        let declared = self.boolean("use_sliding_window")?;
        let on = declared.unwrap_or(!matches!(self.family.slides, Slides::Declared));
        let window = self.size("sliding_window")?.filter(|&n| n > 0 && on);
        let from = self.size("max_window_layers")?.unwrap_or(0);
        let pattern = self.size("sliding_window_pattern")?.filter(|&n| n > 0);
        let kinds = self.list("layer_types", layers)?;
        let rotated = self.list("no_rope_layers", layers)?;
        let interval = self
            .size("no_rope_layer_interval")?
            .unwrap_or(self.family.no_rope_interval);
        let layer = |n: usize| {
            let slides = match (kinds, self.family.slides) {
                (Some(kinds), _) => match kinds[n].as_str() {
                    Some("sliding_attention") => true,
                    Some("full_attention") => false,
                    _ => {
                        return Err(self.unsupported(
                            format!("layer type {}", shortened(&kinds[n])),
                            "supported: full_attention, sliding_attention".into(),
                        ));
                    }
                },
                (None, Slides::All) => true,
                (None, Slides::AllButEvery(some)) => {
                    !(n + 1).is_multiple_of(pattern.unwrap_or(some))
                }
                (None, Slides::Declared) => n >= from,
            };
            let window = window.filter(|_| slides);
            let turns = match rotated {
                Some(rotated) => rotated[n] == 1,
                // Not only where it exists, but where the family has such layers at all.
                None => {
                    self.family.no_rope_interval == 0
                        || interval == 0
                        || !(n + 1).is_multiple_of(interval)
                }
            };
            let rotary = match turns {
                false => Rotary::None,
                true if local && window.is_some() => Rotary::Local,
                true => Rotary::Global,
            };
            Ok(LayerAttention { rotary, window })
        };
        (0..layers).map(layer).collect()
    }

    /// A list with an element for each layer.
    fn list(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>> {
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

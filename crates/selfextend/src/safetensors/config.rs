//! From config.json to a [`ModelConfig`].

use super::reader::{Reader, shortened};
use super::rope;
use crate::config::{
    Activation, LayerAttention, MAX_HEAD_DIM, MAX_LAYERS, ModelConfig, NormKind, Rotary,
};
use crate::error::Result;
use crate::families::{Parallel, Slides};
use crate::weights::Reading;
use selfextend_attention::RopeSpec;
use serde_json::Value;
use std::path::Path;

pub(super) fn read(path: &Path, json: &Value) -> Result<ModelConfig> {
    let reader = Reader::new(path, json)?;
    let config = reader.config()?;
    config.check().map_err(|reason| reader.bad(reason))?;
    Ok(config)
}

/// How the weights that belong to a config.json are to be read.
pub(super) fn reading(path: &Path, json: &Value) -> Result<Reading> {
    let reader = Reader::new(path, json)?;
    let kind = reader.kind;
    Ok(Reading {
        names: kind.names,
        norm_offset: kind.norm_offset,
        by_head: kind.by_head,
        tied: reader.boolean("tie_word_embeddings")?,
        biased: kind.family.biased,
        may_share_norm: kind.family.may_share_norm,
    })
}

impl Reader<'_> {
    fn config(&self) -> Result<ModelConfig> {
        let family = &self.kind.family;
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
            architecture: self.kind.name.to_owned(),
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
            parallel: match family.parallel {
                Parallel::Never => false,
                Parallel::Always => true,
                Parallel::Declared(usual) => {
                    self.boolean("use_parallel_residual")?.unwrap_or(usual)
                }
            },
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
        let family = &self.kind.family;
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
        let family = &self.kind.family;
        let name = &self.json["hidden_act"];
        if family.activation_is_fixed || name.is_null() {
            return Ok(family.activation);
        }
        match name.as_str() {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            _ => Err(self.unsupported(
                format!("hidden_act = {}", shortened(name)),
                "supported: silu, gelu, gelu_new, gelu_pytorch_tanh".into(),
            )),
        }
    }

    fn attention(&self, layers: usize, local: bool) -> Result<Vec<LayerAttention>> {
        let family = &self.kind.family;
        let switch = self.boolean("use_sliding_window")?;
        let on = match family.slides {
            Slides::Never => false,
            Slides::Switched => switch.unwrap_or(false),
            Slides::All | Slides::AllButEvery(_) => switch.unwrap_or(true),
        };
        let window = self.size("sliding_window")?.filter(|&n| n > 0 && on);
        let from = self.size("max_window_layers")?.unwrap_or(0);
        let pattern = self.size("sliding_window_pattern")?.filter(|&n| n > 0);
        let kinds = self.list("layer_types", layers)?;
        let rotated = self.list("no_rope_layers", layers)?;
        let interval = self.size("no_rope_layer_interval")?;
        // Other families ignore the key.
        let interval = match family.no_rope_interval {
            0 => 0,
            usual => interval.unwrap_or(usual),
        };
        let layer = |n: usize| {
            let slides = match (kinds, family.slides) {
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
                (None, Slides::Never) => false,
                (None, Slides::All) => true,
                (None, Slides::AllButEvery(some)) => {
                    !(n + 1).is_multiple_of(pattern.unwrap_or(some))
                }
                (None, Slides::Switched) => n >= from,
            };
            let window = window.filter(|_| slides);
            let turns = match rotated {
                Some(rotated) => rotated[n] == 1,
                None => interval == 0 || !(n + 1).is_multiple_of(interval),
            };
            let rotary = if !turns {
                Rotary::None
            } else if local && window.is_some() {
                Rotary::Local
            } else {
                Rotary::Global
            };
            Ok(LayerAttention { rotary, window })
        };
        (0..layers).map(layer).collect()
    }
}

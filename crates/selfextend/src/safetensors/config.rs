//! From config.json to a [`ModelConfig`].

use super::reader::{Reader, shortened};
use super::rope;
use crate::config::{Activation, LayerAttention, MAX_HEAD_DIM, MAX_LAYERS, ModelConfig, Rotary};
use crate::error::Result;
use crate::families::{Multipliers, Parallel, Slides, TurnsGlobal};
use crate::keys::Key;
use crate::weights::{Curves, Part, Reading, Tied};
use serde_json::Value;
use std::path::Path;

/// What a config.json says.
pub(super) struct Described {
    pub config: ModelConfig,
    /// How the weights are to be read.
    pub reading: Reading,
    /// It is the text part of another model, by whose place its tensors are named.
    pub is_nested: bool,
    /// What became of each key.
    pub keys: Vec<Key>,
}

/// Reads a config.json; `ignored` keys may be unknown.
pub(super) fn read(path: &Path, json: &Value, ignored: &[String]) -> Result<Described> {
    let reader = Reader::new(path, json)?;
    let config = reader.config()?;
    config.check().map_err(|reason| reader.bad(reason))?;
    let reading = reader.reading(config.parallel)?;
    let keys = reader.judge(ignored)?;
    Ok(Described {
        config,
        reading,
        is_nested: reader.is_nested(),
        keys,
    })
}

/// The options that say which parts have biases.
const BIASES: &[(&str, &[Part])] = &[
    (
        "attention_bias",
        &[
            Part::Query,
            Part::Key,
            Part::Value,
            Part::QueryKeyValue,
            Part::AttentionOutput,
        ],
    ),
    ("attention_out_bias", &[Part::AttentionOutput]),
    ("use_qkv_bias", &[Part::Query, Part::Key, Part::Value]),
    ("qkv_bias", &[Part::Query, Part::Key, Part::Value]),
    (
        "bias",
        &[Part::AttentionOutput, Part::Gate, Part::Up, Part::Down],
    ),
    ("mlp_bias", &[Part::Gate, Part::Up, Part::Down]),
    (
        "use_bias",
        &[
            Part::Query,
            Part::Key,
            Part::Value,
            Part::AttentionOutput,
            Part::Gate,
            Part::Up,
            Part::Down,
        ],
    ),
];

/// The options that say whether queries and keys are normalised.
const QK_NORMS: [&str; 2] = ["qk_layernorm", "use_qk_norm"];

/// What model types call the number that norms add to the variance.
const EPSILONS: [&str; 5] = [
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "norm_epsilon",
    "norm_eps",
];

impl Reader<'_> {
    /// How the weights that belong to it are to be read.
    fn reading(&self, parallel: bool) -> Result<Reading> {
        let kind = self.kind;
        let mut reading = Reading {
            names: kind.names,
            norm_offset: kind.norm_offset,
            fused: kind.fused,
            tied: self.tied()?,
            biased: kind.family.biased.to_vec(),
            unbiased: kind.unbiased.to_vec(),
            stacks: kind.stacks,
            lacking: Vec::new(),
            curves: if kind.family.own_curves {
                Curves::Tensors([
                    "mlp.act_fn.alpha_p",
                    "mlp.act_fn.alpha_n",
                    "mlp.act_fn.beta",
                    "mlp.act_fn.eps",
                ])
            } else {
                Curves::None
            },
            plain_norms: kind.family.plain_norms,
            shares_norm: kind.family.shares_norm && parallel,
            ahead: self.size("num_nextn_predict_layers")?.unwrap_or(0),
        };
        for (key, parts) in BIASES {
            if kind.absent(key).is_some() {
                if self.flag(key)? {
                    let can = parts.iter().filter(|part| !kind.unbiased.contains(part));
                    reading.biased.extend(can);
                    reading
                        .unbiased
                        .retain(|part| !parts.contains(part) || kind.unbiased.contains(part));
                } else {
                    reading.biased.retain(|part| !parts.contains(part));
                    reading.unbiased.extend_from_slice(parts);
                }
            }
        }
        for key in QK_NORMS {
            if kind.absent(key).is_some() && !self.flag(key)? {
                reading.lacking = vec![Part::QueryNorm, Part::KeyNorm];
            }
        }
        Ok(reading)
    }

    /// Whether the embedding is the output head too. `transformers` 4 overwrites a head that the file
    /// has; 5 keeps one that differs.
    fn tied(&self) -> Result<Tied> {
        let newer = || {
            let version = self.outer("transformers_version");
            let major = version.as_str().and_then(|version| version.split_once('.'));
            let major = major.and_then(|(major, _)| major.parse::<u32>().ok());
            major.is_some_and(|major| major >= 5)
        };
        const TIED: &str = "tie_word_embeddings";
        let (own, outer) = (self.get(TIED), self.outer(TIED));
        // `transformers` 4 reads the one in the text part, 5 the one outside.
        if !own.is_null() && !outer.is_null() && own != outer {
            return Err(self.bad(format!(
                "{TIED} is {outer}, but {own} in text_config; make them the same"
            )));
        }
        Ok(match if own.is_null() { outer } else { own } {
            Value::Null => Tied::IfAlone,
            Value::Bool(false) => Tied::No,
            Value::Bool(true) if newer() => Tied::UnlessDifferent,
            Value::Bool(true) => Tied::Yes,
            value => return Err(self.wrong(TIED, "true or false", &value)),
        })
    }

    fn config(&self) -> Result<ModelConfig> {
        let family = &self.kind.family;
        let (hidden, heads) = (self.need("hidden_size")?, self.need("num_attention_heads")?);
        let scales = self.scales()?;
        let head_dim = self.size("head_dim")?.unwrap_or(hidden / heads);
        let layers = self.need("num_hidden_layers")?;
        for (name, size, limit) in [
            ("num_hidden_layers", layers, MAX_LAYERS),
            ("head_dim", head_dim, MAX_HEAD_DIM),
        ] {
            if size > limit {
                return Err(self.bad(format!("{name} is {size}")));
            }
        }
        let norm_eps = self.epsilon()?;
        let scale = self.number("query_pre_attn_scalar")?;
        let cap =
            |key: &str| -> Result<Option<f32>> { Ok(self.number(key)?.map(|cap| cap as f32)) };
        let ropes = rope::read(self, head_dim)?;
        let has_local = ropes.local.is_some();
        let feed_forward = self.size("intermediate_size")?.filter(|&n| n > 0);
        let experts = self.experts(layers, feed_forward)?;
        Ok(ModelConfig {
            architecture: self.kind.name.to_owned(),
            name: self
                .outer("_name_or_path")
                .as_str()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            layers,
            hidden,
            feed_forward: match (feed_forward, &experts) {
                (None, Some(experts)) => experts.width,
                (None, None) if self.kind.quadruple => 4 * hidden,
                _ => self.need("intermediate_size")?,
            },
            experts,
            heads,
            kv_heads: self.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: self.need("vocab_size")?,
            trained_window: match ropes.window {
                Some(window) => window,
                None => match self.size("model_max_length")? {
                    Some(trained) => trained.max(self.need("max_position_embeddings")?),
                    None => self.need("max_position_embeddings")?,
                },
            },
            norm: family.norm,
            norm_eps: norm_eps as f32,
            parallel: match family.parallel {
                Parallel::Never => false,
                Parallel::Always => true,
                Parallel::Declared => self.flag("use_parallel_residual")?,
            },
            activation: self.activation()?,
            qk_norm: family.qk_norm,
            attention_scale: scale
                .map(|scale| scale.sqrt().recip() as f32)
                .or(scales.attention),
            attention_soft_cap: cap("attn_logit_softcapping")?,
            logit_soft_cap: cap("final_logit_softcapping")?,
            logit_scale: scales.logits,
            embedding_scale: if family.scales_embedding {
                (hidden as f32).sqrt()
            } else {
                scales.embedding
            },
            residual_scale: scales.residual,
            qkv_limit: self.number("clip_qkv")?.map(|limit| limit as f32),
            sinks: family.sinks,
            norms_turned: family.norms_turned,
            short_rope: ropes.short,
            local_rope: ropes.local,
            rope: ropes.global,
            attention: self.attention(layers, has_local)?,
        })
    }

    /// What norms add to the variance.
    fn epsilon(&self) -> Result<f64> {
        if let Some(epsilon) = self.kind.family.norm_eps {
            return Ok(f64::from(epsilon));
        }
        let mut keys = EPSILONS.into_iter();
        let key = keys.find(|key| self.kind.absent(key).is_some());
        let key = key.unwrap_or(EPSILONS[0]);
        self.number(key)?
            .ok_or_else(|| self.bad(format!("has no {key}")))
    }

    /// The factors of activations.
    fn scales(&self) -> Result<Scales> {
        let number = |key: &str| -> Result<f32> { Ok(self.number(key)?.unwrap_or(1.0) as f32) };
        let none = Scales {
            embedding: 1.0,
            residual: 1.0,
            attention: None,
            logits: 1.0,
        };
        Ok(match self.kind.family.multipliers {
            Multipliers::None => none,
            Multipliers::Logits => Scales {
                logits: number("logit_scale")?,
                ..none
            },
            Multipliers::All => Scales {
                embedding: number("embedding_multiplier")?,
                residual: number("residual_multiplier")?,
                attention: Some(number("attention_multiplier")?),
                logits: number("logits_scaling")?.recip(),
            },
        })
    }

    fn activation(&self) -> Result<Activation> {
        let keys = ["hidden_activation", "activation_function"];
        let mut keys = keys.into_iter();
        let key = keys.find(|key| self.kind.absent(key).is_some());
        let key = key.unwrap_or("hidden_act");
        let name = self.get(key);
        match name.as_str() {
            None if name.is_null() => Ok(self.kind.family.activation),
            Some("xielu") if self.kind.family.own_curves => Ok(self.kind.family.activation),
            _ if self.kind.family.own_curves => Err(self.unsupported(
                format!("{key} = {}", shortened(&name)),
                "supported: xielu".into(),
            )),
            // What early releases of Gemma call the approximation, as `transformers` 5 reads it.
            Some("gelu") if self.kind.name == "gemma" => Ok(Activation::GeluTanh),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("quick_gelu") => Ok(Activation::GeluSigmoid),
            Some("relu") => Ok(Activation::Relu),
            Some("relu2") => Ok(Activation::ReluSquared),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate") => {
                Ok(Activation::GeluTanh)
            }
            _ => Err(self.unsupported(
                format!("{key} = {}", shortened(&name)),
                "supported: silu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, relu, relu2"
                    .into(),
            )),
        }
    }

    /// Which layers have a rotary embedding.
    fn rotated(&self, layers: usize) -> Result<Vec<bool>> {
        let Some(list) = self.list("no_rope_layers", layers)? else {
            let interval = self.size("no_rope_layer_interval")?.unwrap_or(0);
            let turns = |n: usize| interval == 0 || !(n + 1).is_multiple_of(interval);
            return Ok((0..layers).map(turns).collect());
        };
        // 1 for a layer that has one, whatever the option's name says.
        let turns = |value: &Value| match value.as_u64() {
            Some(turns) => Ok(turns != 0),
            None => Err(self.wrong("no_rope_layers", "a list of 0 and 1", value)),
        };
        list.iter().map(turns).collect()
    }

    fn attention(&self, layers: usize, has_local: bool) -> Result<Vec<LayerAttention>> {
        let slides = self.kind.family.slides;
        let on = match slides {
            Slides::Never => false,
            // Without a window, the switch is of no use.
            _ if self.peek("sliding_window").is_null() => false,
            Slides::WithoutRope if !self.peek("layer_types").is_null() => true,
            Slides::Switched | Slides::WithoutRope => self.flag("use_sliding_window")?,
            Slides::All | Slides::AllButEvery(_) => true,
        };
        let window = if on {
            self.size("sliding_window")?
        } else {
            None
        };
        let window = window.filter(|&n| n > 0);
        let kinds = self.list("layer_types", layers)?;
        let rotated = self.rotated(layers)?;
        // What holds where the layers are not listed.
        let usual = match slides {
            _ if kinds.is_some() || window.is_none() => None,
            Slides::AllButEvery(some) => self.size("sliding_window_pattern")?.or(Some(some)),
            Slides::Switched => self.size("max_window_layers")?,
            _ => None,
        };
        let slides = |n: usize| match (slides, usual) {
            (Slides::Never, _) => false,
            (Slides::All, _) => true,
            (Slides::AllButEvery(usual), some) => {
                !(n + 1).is_multiple_of(some.unwrap_or(usual).max(1))
            }
            (Slides::Switched, from) => n >= from.unwrap_or(0),
            (Slides::WithoutRope, _) => !rotated[n],
        };
        let without_rope = match self.kind.family.turns_global {
            TurnsGlobal::Always => false,
            TurnsGlobal::Never => true,
            TurnsGlobal::WithoutLocal => window.is_some(),
        };
        let layer = |n: usize| {
            let slides = match kinds.as_ref().map(|kinds| &kinds[n]) {
                None => slides(n),
                Some(kind) => match kind.as_str() {
                    Some("sliding_attention") => true,
                    Some("full_attention") => false,
                    _ => {
                        return Err(self.unsupported(
                            format!("layer type {}", shortened(kind)),
                            "supported: full_attention, sliding_attention".into(),
                        ));
                    }
                },
            };
            let window = window.filter(|_| slides);
            let rotary = if !rotated[n] || (without_rope && window.is_none()) {
                Rotary::None
            } else if has_local && slides {
                Rotary::Local
            } else {
                Rotary::Global
            };
            Ok(LayerAttention { rotary, window })
        };
        let layers: Vec<LayerAttention> = (0..layers).map(layer).collect::<Result<_>>()?;
        if !without_rope && layers.iter().all(|layer| layer.window.is_none()) {
            self.unnote("sliding_window");
        }
        // Without a window, and with one rotary embedding, kinds of layers are all one.
        if window.is_none() && !has_local && !without_rope {
            self.unnote("layer_types");
        }
        Ok(layers)
    }
}

/// The factors of activations.
struct Scales {
    embedding: f32,
    residual: f32,
    attention: Option<f32>,
    logits: f32,
}

//! From a GGUF header to a [`ModelConfig`].

use super::file::GgufFile;
use super::metadata::Array;
use super::names::{ARCHITECTURES, Architecture};
use crate::config::{LayerAttention, MAX_HEAD_DIM, MAX_LAYERS, ModelConfig, NormKind, Rotary};
use crate::error::{Error, Result};
use crate::families::{Parallel, Slides};
use crate::weights::{Checkpoint, Reading};
use selfextend_attention::{RopeScaling, RopeSpec};

/// The configuration that a header describes.
pub(super) fn read(gguf: &GgufFile) -> Result<ModelConfig> {
    let architecture = architecture(gguf)?;
    let config = Reader { gguf, architecture }.config()?;
    config.check().map_err(|reason| gguf.bad(reason))?;
    Ok(config)
}

/// How the weights of a file are to be read.
pub(super) fn reading(gguf: &GgufFile) -> Result<Reading> {
    Ok(architecture(gguf)?.reading())
}

fn architecture(gguf: &GgufFile) -> Result<&'static Architecture> {
    let name = gguf
        .string("general.architecture")?
        .ok_or_else(|| gguf.bad("the header has no general.architecture"))?;
    Architecture::find(name).ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        gguf.unsupported(
            format!("architecture {name:?}"),
            format!("supported: {}", known.join(", ")),
        )
    })
}

/// A header, read as its architecture's.
struct Reader<'a> {
    gguf: &'a GgufFile,
    architecture: &'static Architecture,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        self.gguf.size(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.gguf.number(&self.key(name))
    }

    fn need(&self, name: &str) -> Result<usize> {
        match self.size(name)? {
            Some(n) if n > 0 => Ok(n),
            Some(_) => Err(self.gguf.bad(format!("{} is 0", self.key(name)))),
            None => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.gguf
            .bad(format!("the header has no {}", self.key(name)))
    }

    fn config(&self) -> Result<ModelConfig> {
        let (gguf, family) = (self.gguf, &self.architecture.family);
        if self.size("expert_count")?.unwrap_or(0) > 0 {
            return Err(gguf.unsupported("a mixture of experts".into(), "dense models are".into()));
        }
        let (hidden, heads) = (
            self.need("embedding_length")?,
            self.need("attention.head_count")?,
        );
        let kv_heads = self.size("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = self.size("attention.key_length")?.unwrap_or(hidden / heads);
        let value_dim = self.size("attention.value_length")?.unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(gguf.unsupported(
                format!("a value size of {value_dim} beside a key size of {head_dim}"),
                "both must be equal".into(),
            ));
        }
        let epsilon = match family.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let norm_eps = self.number(epsilon)?.ok_or_else(|| self.missing(epsilon))?;
        let trained_window = self.need("context_length")?;
        let layers = self.need("block_count")?;
        for (name, size, limit) in [
            ("block_count", layers, MAX_LAYERS),
            ("attention.key_length", head_dim, MAX_HEAD_DIM),
        ] {
            if size > limit {
                return Err(gguf.bad(format!("{} is {size}", self.key(name))));
            }
        }
        let cap = |name: &str| -> Result<Option<f32>> {
            let cap = self.number(name)?.map(|cap| cap as f32);
            Ok(cap.filter(|&cap| cap > 0.0))
        };
        let rope = RopeSpec {
            head_dim,
            rotary_dim: self.size("rope.dimension_count")?.unwrap_or(head_dim),
            theta: self.number("rope.freq_base")?.unwrap_or(10_000.0),
            layout: self.architecture.layout,
            scaling: RopeScaling::None,
        };
        let scaled = |scaling| RopeSpec {
            scaling,
            ..rope.clone()
        };
        let (scaling, short) = self.rope_scaling(trained_window)?;
        let local_theta = self.number("rope.freq_base_swa")?.or(family.local_theta);
        Ok(ModelConfig {
            architecture: self.architecture.name.to_owned(),
            name: gguf.string("general.name")?.map(str::to_owned),
            layers,
            hidden,
            feed_forward: self.need("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocab: self.vocab_size()?,
            trained_window,
            norm: family.norm,
            norm_eps: norm_eps as f32,
            parallel: self.parallel()?,
            activation: family.activation,
            qk_norm: family.qk_norm,
            attention_scale: (family.scaled_by_width == layers)
                .then(|| ((hidden / heads) as f32).sqrt().recip()),
            attention_soft_cap: cap("attn_logit_softcapping")?,
            logit_soft_cap: cap("final_logit_softcapping")?,
            embedding_scale: if family.scales_embedding {
                (hidden as f32).sqrt()
            } else {
                1.0
            },
            short_rope: short.map(|(context, scaling)| (context, scaled(scaling))),
            local_rope: local_theta.map(|theta| RopeSpec {
                theta,
                ..rope.clone()
            }),
            rope: scaled(scaling),
            attention: self.attention(layers, local_theta.is_some())?,
        })
    }

    fn parallel(&self) -> Result<bool> {
        Ok(match self.architecture.family.parallel {
            Parallel::Never => false,
            Parallel::Always => true,
            Parallel::Declared(_) => {
                let key = self.key("use_parallel_residual");
                self.gguf.boolean(&key)?.unwrap_or(true)
            }
        })
    }

    fn attention(&self, layers: usize, local: bool) -> Result<Vec<LayerAttention>> {
        let family = &self.architecture.family;
        let window = self.size("attention.sliding_window")?.filter(|&n| n > 0);
        if window.is_some() && matches!(family.slides, Slides::Never) {
            return Err(self.gguf.unsupported(
                format!(
                    "{} in architecture {:?}",
                    self.key("attention.sliding_window"),
                    self.architecture.name
                ),
                "models of it without sliding windows are".into(),
            ));
        }
        let interval = family.no_rope_interval;
        let layer = |n: usize| {
            let window = window.filter(|_| match family.slides {
                Slides::Never => false,
                // The converter writes a window only where the switch is on.
                Slides::All | Slides::Switched => true,
                Slides::AllButEvery(some) => !(n + 1).is_multiple_of(some),
            });
            let rotary = if interval > 0 && (n + 1).is_multiple_of(interval) {
                Rotary::None
            } else if local && window.is_some() {
                Rotary::Local
            } else {
                Rotary::Global
            };
            LayerAttention { rotary, window }
        };
        Ok((0..layers).map(layer).collect())
    }

    /// The vocabulary's size: that of the tokenizer, which the embedding must match.
    fn vocab_size(&self) -> Result<usize> {
        let gguf = self.gguf;
        let tokens = gguf
            .metadata()
            .get("tokenizer.ggml.tokens")
            .and_then(|tokens| tokens.as_array());
        match (tokens.map(Array::len), self.size("vocab_size")?) {
            (Some(tokens), Some(declared)) if tokens != declared => Err(gguf.bad(format!(
                "vocabulary mismatch: {} is {declared} but the tokenizer has {tokens} tokens",
                self.key("vocab_size")
            ))),
            (Some(n), _) | (None, Some(n)) if n > 0 => Ok(n),
            _ => Err(gguf.bad("the header has no vocabulary (tokenizer.ggml.tokens)")),
        }
    }

    /// The model's own scaling, and another for contexts up to a length, where it has two.
    fn rope_scaling(
        &self,
        trained_window: usize,
    ) -> Result<(RopeScaling, Option<(usize, RopeScaling)>)> {
        let gguf = self.gguf;
        let factors = |name: &str| -> Result<Option<Vec<f32>>> {
            let tensor = gguf.tensor(&format!("{name}.weight"))?;
            Ok(tensor.map(|tensor| tensor.to_floats()))
        };
        let original = self.size("rope.scaling.original_context_length")?;
        let longrope = (
            factors("rope_factors_long")?,
            factors("rope_factors_short")?,
        );
        if let (Some(long), Some(short)) = longrope {
            let magnitude = self.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
            let scaling = |factors| RopeScaling::LongRope { factors, magnitude };
            let original = original.unwrap_or(trained_window);
            return Ok((scaling(long), Some((original, scaling(short)))));
        }
        if let Some(factors) = factors("rope_freqs")? {
            return Ok((RopeScaling::Factors(factors), None));
        }
        let factor = self.number("rope.scaling.factor")?.unwrap_or(1.0);
        let number = |name: &str| self.number(&format!("rope.scaling.{name}"));
        let scaling = match gguf.string(&self.key("rope.scaling.type"))? {
            None | Some("none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor },
            Some("yarn") => RopeScaling::Yarn {
                factor,
                original_context: original.unwrap_or((trained_window as f64 / factor) as usize),
                beta_fast: number("yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: number("yarn_beta_slow")?.unwrap_or(1.0),
            },
            Some(other) => {
                return Err(gguf.unsupported(
                    format!("RoPE scaling {other:?}"),
                    "supported: none, linear, yarn, and factors for each frequency".into(),
                ));
            }
        };
        Ok((scaling, None))
    }
}

//! From a GGUF header to a [`ModelConfig`].

use super::file::GgufFile;
use super::keys::RULES;
use super::metadata::{Array, Value};
use super::names::{ARCHITECTURES, Architecture};
use crate::config::{LayerAttention, MAX_HEAD_DIM, MAX_LAYERS, ModelConfig, NormKind, Rotary};
use crate::error::{Error, Result};
use crate::families::{self, Multipliers, Parallel, Slides, TurnsGlobal};
use crate::keys::{self, Key};
use crate::weights::{Checkpoint, Curves, Reading};
use selfextend_attention::{RopeScaling, RopeSpec};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What a header says.
pub(super) struct Described {
    pub config: ModelConfig,
    /// How the weights are to be read.
    pub reading: Reading,
    /// What became of each key.
    pub keys: Vec<Key>,
}

/// Reads a header; `ignored` keys may be unknown.
pub(super) fn read(gguf: &GgufFile, ignored: &[String]) -> Result<Described> {
    let architecture = architecture(gguf)?;
    let reader = Reader {
        gguf,
        architecture,
        used: RefCell::default(),
    };
    let config = reader.config()?;
    config.check().map_err(|reason| gguf.bad(reason))?;
    let curves = reader.curves(config.layers)?;
    let ahead = reader.ahead()?;
    let keys = reader.judge(ignored)?;
    let has = |name: &str| gguf.shape(name).is_ok_and(|shape| shape.is_some());
    Ok(Described {
        reading: architecture.reading(config.parallel, curves, ahead, has),
        config,
        keys,
    })
}

fn architecture(gguf: &GgufFile) -> Result<&'static Architecture> {
    let name = gguf
        .string("general.architecture")?
        .ok_or_else(|| gguf.bad("the header has no general.architecture"))?;
    Architecture::find(name).ok_or_else(|| {
        if let Some(what) = families::missing(name) {
            return gguf.unsupported(format!("architecture {name:?}"), format!("missing: {what}"));
        }
        let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        gguf.unsupported(
            format!("architecture {name:?}"),
            format!("supported: {}", known.join(", ")),
        )
    })
}

/// A header, read as its architecture's. It notes which keys were read.
pub(super) struct Reader<'a> {
    pub gguf: &'a GgufFile,
    pub architecture: &'static Architecture,
    used: RefCell<BTreeSet<String>>,
}

impl Reader<'_> {
    /// A key of the architecture, noted as used.
    pub fn key(&self, name: &str) -> String {
        let key = format!("{}.{name}", self.architecture.name);
        self.used.borrow_mut().insert(key.clone());
        key
    }

    /// A size. A list with one for each layer must have the same everywhere.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        let key = self.key(name);
        let Some(Value::Array(list)) = self.gguf.metadata().get(&key) else {
            return self.gguf.size(&key);
        };
        let mut sizes: Vec<i128> = list.integers().into_iter().flatten().collect();
        sizes.dedup();
        match sizes[..] {
            [size] if (0..1 << 32).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.gguf.unsupported(
                format!("{key}, a list whose values differ or are no sizes,"),
                "layers of one size are".into(),
            )),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.gguf.number(&self.key(name))
    }

    pub fn need(&self, name: &str) -> Result<usize> {
        match self.size(name)? {
            Some(n) if n > 0 => Ok(n),
            Some(_) => Err(self.gguf.bad(format!("{} is 0", self.key(name)))),
            None => Err(self.missing(name)),
        }
    }

    /// What becomes of all keys, now that the model was read.
    fn judge(&self, ignored: &[String]) -> Result<Vec<Key>> {
        let pairs = self.gguf.metadata().iter();
        let prefix = format!("{}.", self.architecture.name);
        const READ: [&str; 3] = ["general", "tokenizer", "split"];
        // The rules have the keys of every architecture without its name.
        let rule_name = |key: &str| match (key.strip_prefix(&prefix), key.split_once('.')) {
            (Some(rest), _) => format!("arch.{rest}"),
            (None, Some((namespace, _))) if READ.contains(&namespace) => key.to_owned(),
            (None, _) => format!("other.{key}"),
        };
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_string()));
        let meaning = |key: &str| keys::find(RULES, &rule_name(key));
        keys::judge(pairs, &self.used.borrow(), meaning, ignored).map_err(|fault| {
            let (what, supported) = fault.words();
            self.gguf.unsupported(what, supported)
        })
    }

    pub fn missing(&self, name: &str) -> Error {
        self.gguf
            .bad(format!("the header has no {}", self.key(name)))
    }

    fn config(&self) -> Result<ModelConfig> {
        let (gguf, family) = (self.gguf, &self.architecture.family);
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
        let epsilons = [
            "attention.layer_norm_rms_epsilon",
            "attention.layer_norm_epsilon",
        ];
        let [epsilon, other] = match family.norm {
            NormKind::Rms => epsilons,
            NormKind::Layer => [epsilons[1], epsilons[0]],
        };
        let norm_eps = match self.number(epsilon)? {
            // Phi-3.5-MoE's options call that of its layer norms by the other name, and so its files.
            None if family.norm == NormKind::Layer => self.number(other)?,
            found => found,
        };
        let norm_eps = norm_eps.ok_or_else(|| self.missing(epsilon))?;
        let trained_window = self.need("context_length")?;
        let layers = self.need("block_count")?;
        let layers = layers.checked_sub(self.ahead()?).filter(|&n| n > 0);
        let layers = layers.ok_or_else(|| gguf.bad("all blocks are nextn_predict_layers"))?;
        for (name, size, limit) in [
            ("block_count", layers, MAX_LAYERS),
            ("attention.key_length", head_dim, MAX_HEAD_DIM),
        ] {
            if size > limit {
                return Err(gguf.bad(format!("{} is {size}", self.key(name))));
            }
        }
        let cap = |name: &str, n: usize| -> Result<Option<f32>> {
            let Some(usual) = family.soft_caps else {
                return Ok(None);
            };
            let cap = self.number(name)?.map_or(usual[n], |cap| cap as f32);
            Ok(Some(cap).filter(|&cap| cap > 0.0))
        };
        let feed_forward = self.size("feed_forward_length")?.filter(|&n| n > 0);
        let experts = self.experts(layers, feed_forward)?;
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
        let scaling = self.rope_scaling(trained_window, rope.rotary_dim / 2)?;
        // Local layers have no other base in families whose header cannot give one.
        let local_theta = match family.local_theta {
            Some(usual) => Some(self.number("rope.freq_base_swa")?.unwrap_or(usual)),
            // Its base is the others', which `rope.freq_base_swa` may repeat.
            None if family.unscaled_local => {
                let own = self.number("rope.freq_base_swa")?;
                Some(own.unwrap_or(rope.theta)).filter(|_| self.has_window())
            }
            None => None,
        };
        let scales = self.scales(layers, hidden)?;
        Ok(ModelConfig {
            architecture: self.architecture.name.to_owned(),
            // A name in another encoding is only not shown.
            name: gguf
                .metadata()
                .get("general.name")
                .and_then(Value::as_str)
                .map(str::to_owned),
            layers,
            hidden,
            feed_forward: match (feed_forward, &experts) {
                (None, Some(experts)) => experts.width,
                _ => self.need("feed_forward_length")?,
            },
            experts,
            heads,
            kv_heads,
            head_dim,
            vocab: self.vocab_size()?,
            trained_window: scaling.window,
            norm: family.norm,
            norm_eps: norm_eps as f32,
            parallel: self.parallel()?,
            activation: family.activation,
            qk_norm: family.qk_norm,
            attention_scale: scales.attention.or((family.scaled_by_width == layers)
                .then(|| ((hidden / heads) as f32).sqrt().recip())),
            attention_soft_cap: cap("attn_logit_softcapping", 0)?,
            logit_soft_cap: cap("final_logit_softcapping", 1)?,
            logit_scale: scales.logits,
            embedding_scale: if family.scales_embedding {
                (hidden as f32).sqrt()
            } else {
                scales.embedding
            },
            residual_scale: scales.residual,
            qkv_limit: if family.limits_qkv {
                let limit = self.number("attention.clamp_kqv")?;
                limit.filter(|&limit| limit != 0.0).map(|it| it as f32)
            } else {
                None
            },
            sinks: family.sinks,
            norms_turned: family.norms_turned,
            short_rope: scaling
                .short
                .map(|(context, scaling)| (context, scaled(scaling))),
            local_rope: local_theta.map(|theta| RopeSpec {
                theta,
                ..rope.clone()
            }),
            rope: scaled(scaling.scaling),
            attention: self.attention(layers, local_theta.is_some())?,
        })
    }

    /// The factors of activations. For llama.cpp one of 0 is none.
    fn scales(&self, layers: usize, hidden: usize) -> Result<Scales> {
        let multipliers = self.architecture.family.multipliers;
        let usual = self.architecture.usual_multipliers;
        let usual = usual.map(|usual| usual(layers, hidden));
        let given = |name: &str, n: Option<usize>| -> Result<Option<f64>> {
            let usual = n.and_then(|n| Some(usual?[n]));
            Ok(self.number(name)?.or(usual).filter(|&scale| scale != 0.0))
        };
        let mut scales = Scales {
            embedding: 1.0,
            residual: 1.0,
            attention: None,
            logits: 1.0,
        };
        let factor = |scale: Option<f64>| scale.map_or(1.0, |scale| scale as f32);
        match multipliers {
            Multipliers::None => {}
            Multipliers::Logits => scales.logits = factor(given("logit_scale", None)?),
            Multipliers::All => {
                scales.embedding = factor(given("embedding_scale", Some(0))?);
                scales.residual = factor(given("residual_scale", Some(1))?);
                scales.logits = factor(given("logit_scale", Some(2))?.map(f64::recip));
                scales.attention = given("attention.scale", None)?.map(|scale| scale as f32);
            }
        }
        Ok(scales)
    }

    /// The activations of layers that differ in it. Unlike others, these keys do not begin with the
    /// architecture's name.
    fn curves(&self, layers: usize) -> Result<Curves> {
        if !self.architecture.family.own_curves {
            return Ok(Curves::None);
        }
        let mut curves = vec![[0.0; 4]; layers];
        for (n, name) in ["alpha_p", "alpha_n", "beta", "eps"]
            .into_iter()
            .enumerate()
        {
            let key = format!("xielu.{name}");
            let found: Option<Vec<f64>> = match self.gguf.metadata().get(&key) {
                // One for all layers.
                Some(value) if value.as_float().is_some() => {
                    value.as_float().map(|number| vec![number; layers])
                }
                Some(Value::Array(list)) => list.scalars().map(|it| it.as_float()).collect(),
                _ => None,
            };
            let numbers = found.filter(|found| found.len() == layers).ok_or_else(|| {
                self.gguf.bad(format!(
                    "{key} should be {layers} numbers, one for each layer"
                ))
            })?;
            self.used.borrow_mut().insert(key);
            for (curve, number) in curves.iter_mut().zip(numbers) {
                curve[n] = number as f32;
            }
        }
        Ok(Curves::Listed(curves))
    }

    /// Whether the header gives some layers a sliding window.
    fn has_window(&self) -> bool {
        let window = self.size("attention.sliding_window");
        window.is_ok_and(|window| window.is_some_and(|it| it > 0))
    }

    /// Blocks at the end, counted with the others, that only guess several tokens ahead.
    fn ahead(&self) -> Result<usize> {
        Ok(self.size("nextn_predict_layers")?.unwrap_or(0))
    }

    fn parallel(&self) -> Result<bool> {
        let family = &self.architecture.family;
        if family.shares_norm {
            // As llama.cpp does: its converter does not always write the key.
            return Ok(self.gguf.shape("blk.0.ffn_norm.weight")?.is_none());
        }
        Ok(match family.parallel {
            Parallel::Never => false,
            Parallel::Always => true,
            Parallel::Declared => {
                let key = self.key("use_parallel_residual");
                self.gguf.boolean(&key)?.unwrap_or(true)
            }
        })
    }

    fn attention(&self, layers: usize, local: bool) -> Result<Vec<LayerAttention>> {
        let family = &self.architecture.family;
        let window = match family.slides {
            // The key is judged with the others.
            Slides::Never => None,
            _ => self
                .size("attention.sliding_window")?
                .or(family.sliding_window),
        };
        let window = window.filter(|&n| n > 0);
        let pattern = self.sliding_pattern(layers)?;
        let interval = family.no_rope_interval;
        let without_rope = match family.turns_global {
            TurnsGlobal::Always => false,
            TurnsGlobal::Never => true,
            TurnsGlobal::WithoutLocal => window.is_some(),
        };
        let layer = |n: usize| {
            let turns = interval == 0 || !(n + 1).is_multiple_of(interval);
            let slides = match (&pattern, family.slides) {
                (Some(pattern), _) => pattern[n],
                (None, Slides::Never) => false,
                // The converter writes a window only where the switch is on.
                (None, Slides::All | Slides::Switched) => true,
                (None, Slides::WithoutRope) => !turns,
                (None, Slides::AllButEvery(some)) => !(n + 1).is_multiple_of(some),
            };
            let window = window.filter(|_| slides);
            let rotary = if !turns || (without_rope && window.is_none()) {
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

    /// Which layers slide, where the header says so: one of every so many does not, or a list.
    fn sliding_pattern(&self, layers: usize) -> Result<Option<Vec<bool>>> {
        let Slides::AllButEvery(_) = self.architecture.family.slides else {
            return Ok(None);
        };
        let key = self.key("attention.sliding_window_pattern");
        let Some(Value::Array(list)) = self.gguf.metadata().get(&key) else {
            let slides = |some: usize| (1..=layers).map(|n| !n.is_multiple_of(some)).collect();
            let some = self.gguf.size(&key)?;
            return Ok(some.filter(|&some| some > 0).map(slides));
        };
        let slides = |value: Value| match value {
            Value::Bool(slides) => Some(slides),
            value => value.as_integer().map(|n| n != 0),
        };
        let list: Option<Vec<bool>> = list.scalars().map(slides).collect();
        match list {
            Some(list) if list.len() == layers => Ok(Some(list)),
            _ => Err(self.gguf.bad(format!(
                "{key} should be a period, or a list of {layers} truth values"
            ))),
        }
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

    /// The model's own scaling, with the names and defaults of llama.cpp (`llama-model.cpp`,
    /// `load_hparams`; `llama-context.cpp`).
    fn rope_scaling(&self, trained_window: usize, pairs: usize) -> Result<Scaling> {
        let gguf = self.gguf;
        let number = |name: &str| self.number(&format!("rope.scaling.{name}"));
        let key = self.key("rope.scaling.type");
        // A factor without a type means linear scaling; the old key has the same meaning.
        let kind = gguf.string(&key)?.unwrap_or("linear");
        let factor = match kind {
            "none" => None,
            _ => match number("factor")? {
                Some(factor) => Some(factor),
                None => self.number("rope.scale_linear")?,
            },
        };
        let factor = factor.filter(|&factor| factor != 0.0).unwrap_or(1.0);
        let magnitude = number("attn_factor")?.unwrap_or(1.0);
        let original = || -> Result<usize> {
            let original = self.size("rope.scaling.original_context_length")?;
            Ok(original.filter(|&n| n > 0).unwrap_or(trained_window))
        };
        let unscaled = |scaling| Scaling {
            scaling,
            short: None,
            window: trained_window,
        };
        // Every other scaling is a divisor for each pair and a magnitude.
        let divided = |factors: Vec<f32>| RopeScaling::LongRope {
            factors: factors
                .iter()
                .map(|f| (f64::from(*f) * factor) as f32)
                .collect(),
            magnitude,
        };
        let [own, long, short] = ["rope_freqs", "rope_factors_long", "rope_factors_short"]
            .map(|name| gguf.tensor(&format!("{name}.weight")));
        let [own, long, short] = [own?, long?, short?].map(|found| found.map(|it| it.to_floats()));
        match (kind, own, long, short) {
            ("none" | "linear" | "longrope", None, Some(long), Some(short)) => Ok(Scaling {
                scaling: divided(long),
                short: Some((original()?, divided(short))),
                window: trained_window,
            }),
            ("none" | "linear", Some(own), None, None) if factor == 1.0 && magnitude == 1.0 => {
                Ok(unscaled(RopeScaling::Factors(own)))
            }
            ("none" | "linear", Some(own), None, None) => Ok(unscaled(divided(own))),
            ("none" | "linear", None, None, None) if magnitude == 1.0 => {
                Ok(unscaled(if factor == 1.0 {
                    RopeScaling::None
                } else {
                    RopeScaling::Linear { factor }
                }))
            }
            ("none" | "linear", None, None, None) => Ok(unscaled(divided(vec![1.0; pairs]))),
            ("yarn", None, None, None) => Ok(Scaling {
                scaling: RopeScaling::Yarn {
                    factor,
                    original_context: original()?,
                    beta_fast: number("yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: number("yarn_beta_slow")?.unwrap_or(1.0),
                    truncate: !self.architecture.family.exact_yarn,
                    magnitude: Some(RopeScaling::yarn_magnitude(factor, 1.0) * magnitude),
                },
                short: None,
                // The header may give the window before the scaling, as config.json may.
                window: match original()? {
                    original if trained_window > original => trained_window,
                    original => (original as f64 * factor.max(1.0)) as usize,
                },
            }),
            ("none" | "linear" | "yarn" | "longrope", ..) => Err(gguf.unsupported(
                format!("{key} = {kind:?} with the rope_freqs or rope_factors tensors it has"),
                "supported: yarn without any, linear with rope_freqs, both rope_factors".into(),
            )),
            _ => Err(gguf.unsupported(
                format!("RoPE scaling {kind:?}"),
                "supported: none, linear, yarn, longrope".into(),
            )),
        }
    }
}

/// The factors of activations.
struct Scales {
    embedding: f32,
    residual: f32,
    attention: Option<f32>,
    logits: f32,
}

/// How positions are scaled.
struct Scaling {
    scaling: RopeScaling,
    /// Another for contexts up to a length.
    short: Option<(usize, RopeScaling)>,
    /// The trained window.
    window: usize,
}

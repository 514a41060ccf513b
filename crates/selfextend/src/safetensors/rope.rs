//! Rotary embeddings, in all the ways in which config.json describes them: `rope_theta` and
//! `rope_scaling` (`transformers` 4), `rope_parameters` (5), one for all layers or one for each kind.

use super::reader::{Reader, number, shortened};
use crate::error::Result;
use selfextend_attention::{RopeScaling, RopeSpec};
use serde_json::Value;
use std::f64::consts::TAU;

/// A model's rotary embeddings.
pub(super) struct Ropes {
    pub global: RopeSpec,
    /// Another for contexts of at most so many tokens.
    pub short: Option<(usize, RopeSpec)>,
    /// That of layers with a sliding window, where it is another.
    pub local: Option<RopeSpec>,
    /// The window that the scaling reaches, where `max_position_embeddings` is the one before it.
    pub window: Option<usize>,
}

/// The kinds of layers, as `layer_types` and `rope_parameters` name them.
const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// Reads all that is said about rotary embeddings of heads of a size.
pub(super) fn read(reader: &Reader, head_dim: usize) -> Result<Ropes> {
    // What a class has for files that say nothing does not stand before what this one says.
    let newer = reader.has("rope_parameters") && !reader.has("rope_scaling");
    let scaling = if newer {
        Value::Null
    } else {
        reader.get("rope_scaling")
    };
    let (key, described) = match scaling {
        Value::Null => ("rope_parameters", reader.get("rope_parameters")),
        Value::Object(object) if object.is_empty() => {
            ("rope_parameters", reader.get("rope_parameters"))
        }
        scaling => ("rope_scaling", scaling),
    };
    if !described.is_null() && !described.is_object() {
        return Err(reader.wrong(key, "an object", &described));
    }
    let family = &reader.kind.family;
    let has_local = family.local_theta.is_some() || family.unscaled_local;
    let by_kind = has_local
        && [GLOBAL, LOCAL]
            .iter()
            .any(|kind| described[*kind].is_object());
    if has_local && !by_kind && key == "rope_parameters" && !described.is_null() {
        return Err(reader.unsupported(
            format!("{key} = {}", shortened(&described)),
            format!("it needs {GLOBAL} and {LOCAL}"),
        ));
    }
    let own = |name: String, values: &Value| Own {
        reader,
        name,
        values: values.clone(),
        by_kind,
    };
    let (global, local) = if by_kind {
        let [global, local] =
            [GLOBAL, LOCAL].map(|kind| own(format!("{key}.{kind}"), &described[kind]));
        (global, local)
    } else {
        (
            own(key.to_owned(), &described),
            own(key.to_owned(), &Value::Null),
        )
    };
    let theta = match reader.kind.absent("rotary_emb_base") {
        Some(_) => reader.number("rotary_emb_base")?,
        None => reader.number("rope_theta")?,
    };
    let mut ropes = global.ropes(head_dim, theta)?;
    if has_local {
        let theta = match family.unscaled_local {
            true => theta,
            false => reader.number("rope_local_base_freq")?,
        };
        ropes.local = Some(local.ropes(head_dim, theta)?.global);
    }
    Ok(ropes)
}

/// One description of a rotary embedding.
struct Own<'a> {
    reader: &'a Reader<'a>,
    name: String,
    values: Value,
    /// It is that of one kind of layers.
    by_kind: bool,
}

impl Own<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn get(&self, key: &str) -> &Value {
        if self.values.get(key).is_some() {
            self.reader.note(&self.key(key));
        }
        &self.values[key]
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let value = self.get(key);
        number(value).map_err(|()| self.reader.wrong(&self.key(key), "a number", value))
    }

    fn need(&self, key: &str) -> Result<f64> {
        let found = self.number(key)?;
        found.ok_or_else(|| self.reader.bad(format!("{} has no {key}", self.name)))
    }

    fn floats(&self, key: &str) -> Result<Vec<f32>> {
        let value = self.get(key);
        let list = value.as_array();
        let floats = list.and_then(|list| list.iter().map(|x| Some(x.as_f64()? as f32)).collect());
        let wrong = || {
            self.reader
                .wrong(&self.key(key), "a list of numbers", value)
        };
        floats.ok_or_else(wrong)
    }

    /// The kind of scaling.
    fn kind(&self) -> Result<Option<String>> {
        let text = |key| match self.get(key) {
            Value::Null => Ok(None),
            Value::String(kind) => Ok(Some(kind.clone())),
            value => Err(self.reader.wrong(&self.key(key), "a string", value)),
        };
        match (text("rope_type")?, text("type")?) {
            (Some(new), Some(old)) if new != old => Err(self.reader.bad(format!(
                "{} is {new:?}, but {} is {old:?}",
                self.key("rope_type"),
                self.key("type")
            ))),
            (new, old) => Ok(new.or(old)),
        }
    }

    /// The embedding without its scaling. What is said here comes before the options beside it.
    fn plain(&self, head_dim: usize, theta: Option<f64>) -> Result<RopeSpec> {
        let reader = self.reader;
        let options = ["partial_rotary_factor", "rotary_pct"];
        let option = options.iter().find(|key| reader.kind.absent(key).is_some());
        let share = match option {
            None => 1.0,
            Some(option) => match self.number("partial_rotary_factor")? {
                Some(share) => share,
                None => reader.number(option)?.unwrap_or(1.0),
            },
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(reader.bad(format!(
                "the rotated share of a head is {share}, not from 0 to 1"
            )));
        }
        let theta = self.number("rope_theta")?.or(theta);
        let rotary_dim = match reader.kind.absent("rotary_dim") {
            Some(_) => reader.need("rotary_dim")?,
            None => (share * head_dim as f64) as usize,
        };
        Ok(RopeSpec {
            rotary_dim,
            layout: reader.kind.layout,
            ..RopeSpec::new(head_dim, theta.unwrap_or(10_000.0))
        })
    }

    fn ropes(&self, head_dim: usize, theta: Option<f64>) -> Result<Ropes> {
        let plain = self.plain(head_dim, theta)?;
        let scaled = |scaling| Ropes {
            global: RopeSpec {
                scaling,
                ..plain.clone()
            },
            short: None,
            local: None,
            window: None,
        };
        match self.kind()?.as_deref() {
            // NTK scaling that grows with the text changes nothing within the trained window; beyond
            // it, the caller's method takes its place.
            None | Some("default") => Ok(scaled(RopeScaling::None)),
            Some("dynamic") => Ok(Ropes {
                global: RopeSpec {
                    theta: plain.theta * self.ntk(plain.rotary_dim)?,
                    ..plain.clone()
                },
                ..scaled(RopeScaling::None)
            }),
            Some(kind @ ("yarn" | "longrope" | "su")) if self.reader.kind.family.norms_turned => {
                let what = format!("{} of type {kind} with norms after the rotation", self.name);
                let why =
                    "they would undo its magnitude; supported: default, linear, dynamic, llama3";
                Err(self.reader.unsupported(what, why.into()))
            }
            Some("linear") => {
                let factor = self.need("factor")?;
                Ok(scaled(RopeScaling::Linear { factor }))
            }
            Some("llama3") => Ok(scaled(self.llama3(&plain)?)),
            Some("yarn") => {
                let (scaling, window) = self.yarn()?;
                let window = Some(window);
                Ok(Ropes {
                    window,
                    ..scaled(scaling)
                })
            }
            Some("longrope" | "su") => self.longrope(&plain),
            Some(_) => Err(self.reader.unsupported(
                format!("{} = {}", self.name, shortened(&self.values)),
                "supported: default, linear, dynamic, llama3, yarn, longrope".into(),
            )),
        }
    }

    /// What the base is multiplied by for all lengths, where a model type has that.
    fn ntk(&self, rotary_dim: usize) -> Result<f64> {
        if self.reader.kind.absent("alpha").is_none() {
            return Ok(1.0);
        }
        let alpha = self.number("alpha")?.filter(|&alpha| alpha != 0.0);
        let dim = rotary_dim as f64;
        Ok(alpha.map_or(1.0, |alpha| alpha.powf(dim / (dim - 2.0))))
    }

    /// The window before the scaling, and `max_position_embeddings`. The option comes before what is
    /// said here, as in `transformers` 5.
    fn windows(&self) -> Result<(f64, f64)> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let longest = self.reader.need("max_position_embeddings")? as f64;
        let beside = if self.by_kind {
            None
        } else {
            self.reader.number(ORIGINAL)?
        };
        let original = beside.or(self.number(ORIGINAL)?).unwrap_or(longest);
        if original < 1.0 {
            return Err(self.reader.bad(format!("{ORIGINAL} is {original}")));
        }
        Ok((original, longest))
    }

    /// Llama 3.1's: long wavelengths are divided by the factor, short ones are not, with a ramp
    /// between (arXiv 2407.21783; the numbers are the model's).
    fn llama3(&self, spec: &RopeSpec) -> Result<RopeScaling> {
        let factor = self.need("factor")?;
        let (low, high) = (
            self.need("low_freq_factor")?,
            self.need("high_freq_factor")?,
        );
        let (original, _) = self.windows()?;
        let divisor = |pair: usize| {
            let wavelength = TAU * spec.theta.powf(2.0 * pair as f64 / spec.rotary_dim as f64);
            let kept = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - kept) / factor + kept)) as f32
        };
        Ok(RopeScaling::Factors(
            (0..spec.rotary_dim / 2).map(divisor).collect(),
        ))
    }

    /// The scaling, and the window that it reaches. Models document it in two ways:
    /// `max_position_embeddings` is the window before the scaling (Qwen's cards) or after it.
    fn yarn(&self) -> Result<(RopeScaling, usize)> {
        let (original, longest) = self.windows()?;
        let factor = self.number("factor")?.unwrap_or(longest / original);
        let weights = (self.number("mscale")?, self.number("mscale_all_dim")?);
        let given = self.number("attention_factor")?;
        let magnitude = match (given, weights) {
            (Some(magnitude), _) => Some(magnitude),
            // DeepSeek's; a weight of 0 stands for none.
            (None, (Some(over), Some(under))) if over != 0.0 && under != 0.0 => Some(
                RopeScaling::yarn_magnitude(factor, over)
                    / RopeScaling::yarn_magnitude(factor, under),
            ),
            _ => None,
        };
        let truncate = match self.get("truncate") {
            Value::Null => true,
            Value::Bool(truncate) => *truncate,
            value => {
                return Err(self
                    .reader
                    .wrong(&self.key("truncate"), "true or false", value));
            }
        };
        let beta = |beta: Option<f64>, usual| beta.filter(|&beta| beta != 0.0).unwrap_or(usual);
        let scaling = RopeScaling::Yarn {
            factor,
            original_context: original as usize,
            beta_fast: beta(self.number("beta_fast")?, 32.0),
            beta_slow: beta(self.number("beta_slow")?, 1.0),
            truncate,
            magnitude,
        };
        let window = if longest > original {
            longest
        } else {
            original * factor.max(1.0)
        };
        Ok((scaling, window as usize))
    }

    /// One list of divisors for contexts within the original window and one beyond it (arXiv
    /// 2402.13753), with the magnitude of `transformers`.
    fn longrope(&self, spec: &RopeSpec) -> Result<Ropes> {
        let (original, longest) = self.windows()?;
        // `transformers` 4 divides the windows even where a factor is given, 5 takes the factor.
        let ratio = longest / original;
        let factor = self.number("factor")?.unwrap_or(ratio);
        if factor != ratio && self.reader.has("original_max_position_embeddings") {
            return Err(self.reader.bad(format!(
                "{} is {factor}, but max_position_embeddings is {ratio} times the original; remove one",
                self.key("factor")
            )));
        }
        let magnitude = match self.number("attention_factor")? {
            Some(magnitude) => magnitude,
            None if factor > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
            None => 1.0,
        };
        let scaled = |key: &str, own: &str| -> Result<RopeSpec> {
            let factors = self.floats(key)?;
            let magnitude = match self.reader.kind.absent("router_jitter_noise") {
                // Phi-3.5-MoE's class reads one for each list.
                Some(_) => self.number(own)?.unwrap_or(magnitude),
                None => magnitude,
            };
            Ok(RopeSpec {
                scaling: RopeScaling::LongRope { factors, magnitude },
                ..spec.clone()
            })
        };
        Ok(Ropes {
            global: scaled("long_factor", "long_mscale")?,
            short: Some((original as usize, scaled("short_factor", "short_mscale")?)),
            local: None,
            window: None,
        })
    }
}

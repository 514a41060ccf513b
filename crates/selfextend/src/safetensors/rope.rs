//! The scaling of a rotary embedding, as `rope_scaling` describes it.

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
}

/// Reads `rope_scaling` for an embedding that is not scaled yet.
pub(super) fn read(reader: &Reader, json: &Value, plain: RopeSpec) -> Result<Ropes> {
    let (key, scaling) = match &json["rope_scaling"] {
        Value::Null => ("rope_parameters", &json["rope_parameters"]),
        scaling => ("rope_scaling", scaling),
    };
    let mut spec = plain;
    // Newer files keep the base beside the scaling.
    let theta = number(&scaling["rope_theta"]).ok().flatten();
    spec.theta = theta.unwrap_or(spec.theta);
    let own = Own {
        reader,
        key,
        scaling,
    };
    let kind = ["rope_type", "type"].map(|key| scaling[key].as_str());
    let global = |scaling| Ropes {
        global: RopeSpec {
            scaling,
            ..spec.clone()
        },
        short: None,
    };
    match kind[0].or(kind[1]) {
        None if scaling.is_null() => Ok(global(RopeScaling::None)),
        Some("default") => Ok(global(RopeScaling::None)),
        Some("linear") => {
            let factor = own.need("factor")?;
            Ok(global(RopeScaling::Linear { factor }))
        }
        Some("llama3") => Ok(global(llama3(&own, &spec)?)),
        Some("yarn") => Ok(global(yarn(&own, json)?)),
        Some("longrope" | "su") => longrope(&own, json, &spec),
        _ => Err(reader.unsupported(
            format!("{key} = {}", shortened(scaling)),
            "supported: linear, llama3, yarn, longrope".into(),
        )),
    }
}

/// The object under `rope_scaling`.
struct Own<'a> {
    reader: &'a Reader<'a>,
    key: &'static str,
    scaling: &'a Value,
}

impl Own<'_> {
    fn number(&self, key: &str) -> Result<Option<f64>> {
        number(&self.scaling[key]).map_err(|value| {
            self.reader.bad(format!(
                "{}.{key} should be a number, but is {value}",
                self.key
            ))
        })
    }

    fn need(&self, key: &str) -> Result<f64> {
        let found = self.number(key)?;
        found.ok_or_else(|| self.reader.bad(format!("{} has no {key}", self.key)))
    }

    fn floats(&self, key: &str) -> Result<Vec<f32>> {
        let list = self.scaling[key].as_array();
        let floats = list.and_then(|list| list.iter().map(|x| Some(x.as_f64()? as f32)).collect());
        floats.ok_or_else(|| {
            self.reader
                .bad(format!("{}.{key} should be a list of numbers", self.key))
        })
    }
}

/// Llama 3.1's: long wavelengths are divided by the factor, short ones are not, with a ramp between
/// (arXiv 2407.21783; the numbers are the model's).
fn llama3(own: &Own, spec: &RopeSpec) -> Result<RopeScaling> {
    let factor = own.need("factor")?;
    let (low, high) = (own.need("low_freq_factor")?, own.need("high_freq_factor")?);
    let original = own.need("original_max_position_embeddings")?;
    let divisor = |pair: usize| {
        let wavelength = TAU * spec.theta.powf(2.0 * pair as f64 / spec.rotary_dim as f64);
        let kept = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - kept) / factor + kept)) as f32
    };
    Ok(RopeScaling::Factors(
        (0..spec.rotary_dim / 2).map(divisor).collect(),
    ))
}

fn yarn(own: &Own, json: &Value) -> Result<RopeScaling> {
    let factor = own.need("factor")?;
    let usual = 0.1 * factor.max(1.0).ln() + 1.0;
    let unusual = own
        .number("attention_factor")?
        .is_some_and(|given| (given - usual).abs() > 1e-6);
    let given = |key: &str| !own.scaling[key].is_null();
    if unusual || given("mscale") || given("mscale_all_dim") || own.scaling["truncate"] == false {
        return Err(own.reader.unsupported(
            format!("{} = {}", own.key, shortened(own.scaling)),
            "yarn is without attention_factor, mscale and truncate".into(),
        ));
    }
    let original = own.number("original_max_position_embeddings")?;
    let original = original.or(json["max_position_embeddings"].as_f64());
    Ok(RopeScaling::Yarn {
        factor,
        original_context: original.unwrap_or(0.0) as usize,
        beta_fast: own.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: own.number("beta_slow")?.unwrap_or(1.0),
    })
}

/// One list of divisors for contexts within the original window and one beyond it (arXiv
/// 2402.13753), with the magnitude of `transformers`.
fn longrope(own: &Own, json: &Value, spec: &RopeSpec) -> Result<Ropes> {
    let longest = json["max_position_embeddings"].as_f64().unwrap_or(0.0);
    let original = match own.reader.number("original_max_position_embeddings")? {
        Some(original) => original,
        None => own
            .number("original_max_position_embeddings")?
            .unwrap_or(longest),
    };
    let factor = longest / original;
    let magnitude = match own.number("attention_factor")? {
        Some(magnitude) => magnitude,
        None if factor > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
        None => 1.0,
    };
    let scaled = |key: &str| -> Result<RopeSpec> {
        let factors = own.floats(key)?;
        Ok(RopeSpec {
            scaling: RopeScaling::LongRope { factors, magnitude },
            ..spec.clone()
        })
    };
    Ok(Ropes {
        global: scaled("long_factor")?,
        short: Some((original as usize, scaled("short_factor")?)),
    })
}

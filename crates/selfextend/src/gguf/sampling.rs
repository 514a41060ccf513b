//! How a model's publisher samples, by the `general.sampling.` keys of llama.cpp.

use super::GgufFile;
use super::metadata::Value;
use crate::error::{Error, Result};
use crate::sampling::Sampling;
use std::collections::BTreeMap;

const PREFIX: &str = "general.sampling.";

/// The keys that are shown. Those of samplers that are not here are refused where they are switched
/// on and the recommendation is to be used.
const KEYS: &[&str] = &[
    "sequence",
    "temp",
    "top_k",
    "top_p",
    "min_p",
    "penalty_last_n",
    "penalty_repeat",
    "xtc_probability",
    "xtc_threshold",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
];

impl GgufFile {
    fn sampling_keys(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let value = move |&name: &&'static str| Some((name, self.metadata().get(&key(name))?));
        KEYS.iter().filter_map(value)
    }

    /// The settings of sampling that the header recommends, by their names in it.
    pub fn sampling_defaults(&self) -> BTreeMap<&'static str, String> {
        let shown = |(name, value): (_, &Value)| (name, value.to_string());
        self.sampling_keys().map(shown).collect()
    }

    /// The sampling that the header recommends, with the defaults of llama.cpp for what it leaves out;
    /// `None` without such keys. The order of the steps is ours ([`Sampling`]).
    ///
    /// # Errors
    /// Settings of the wrong type, and samplers that are not supported.
    pub fn recommended_sampling(&self) -> Result<Option<Sampling>> {
        if self.sampling_keys().next().is_none() {
            return Ok(None);
        }
        let number = |name: &str, default: f64| -> Result<f64> {
            let Some(value) = self.metadata().get(&key(name)) else {
                return Ok(default);
            };
            let whole = value.as_integer().map(|n| n as f64);
            value.as_float().or(whole).ok_or_else(|| Error::Model {
                path: self.path().to_owned(),
                reason: format!("{} is {}, not a number", key(name), value),
            })
        };
        let repeat = number("penalty_repeat", 1.0)?;
        let refused = [
            ("mirostat", number("mirostat", 0.0)? != 0.0),
            ("xtc_probability", number("xtc_probability", 0.0)? > 0.0),
            ("sequence", self.metadata().get(&key("sequence")).is_some()),
            // Ours has no window; -1 is the whole context.
            (
                "penalty_last_n",
                repeat != 1.0 && number("penalty_last_n", 64.0)? >= 0.0,
            ),
        ];
        if let Some((name, _)) = refused.into_iter().find(|(_, refused)| *refused) {
            return Err(Error::Unsupported {
                path: self.path().to_owned(),
                what: format!("sampling as {} recommends", key(name)),
                supported: "choose the settings yourself".into(),
            });
        }
        // As in llama.cpp, 0 or less keeps all.
        let top_k = number("top_k", 40.0)?.max(0.0) as usize;
        Ok(Some(
            Sampling::new()
                .with_temperature(number("temp", 0.8)?.max(0.0) as f32)
                .with_top_k(top_k)
                .with_top_p(number("top_p", 0.95)? as f32)
                .with_min_p(number("min_p", 0.05)? as f32)
                .with_repetition_penalty(repeat as f32),
        ))
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

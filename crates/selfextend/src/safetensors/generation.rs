//! generation_config.json: how a model's publisher generates with it.

use super::folder::{SafetensorsFolder, bad};
use crate::error::Result;
use crate::sampling::Sampling;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

const NAME: &str = "generation_config.json";

/// The settings of sampling that are shown.
const SAMPLING: &[&str] = &[
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
];

pub(super) struct GenerationConfig {
    path: PathBuf,
    json: Value,
}

impl SafetensorsFolder {
    pub(super) fn generation_config(&self) -> Result<GenerationConfig> {
        Ok(GenerationConfig {
            path: self.path().join(NAME),
            json: self.optional_json(NAME)?,
        })
    }

    /// The settings of sampling that the folder's generation_config.json recommends.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sampling_defaults(&self) -> Result<BTreeMap<&'static str, String>> {
        let config = self.generation_config()?;
        let given = SAMPLING.iter().map(|&name| (name, &config.json[name]));
        Ok(given
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, value.to_string()))
            .collect())
    }
}

impl SafetensorsFolder {
    /// The sampling that the folder's generation_config.json recommends, with the defaults of
    /// transformers for what it leaves out; `None` without the file.
    ///
    /// # Errors
    /// A file that cannot be read, or settings of the wrong type.
    pub fn recommended_sampling(&self) -> Result<Option<Sampling>> {
        let config = self.generation_config()?;
        if config.json.is_null() {
            return Ok(None);
        }
        let number = |name: &str, default: f64| match &config.json[name] {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .ok_or_else(|| bad(&config.path, format!("has a {name} that is not a number"))),
        };
        let draws = config.json["do_sample"] == true;
        let penalty = number("repetition_penalty", 1.0)? as f32;
        let sampling = Sampling::new().with_repetition_penalty(penalty);
        if !draws {
            return Ok(Some(sampling.with_temperature(0.0)));
        }
        Ok(Some(
            sampling
                .with_temperature(number("temperature", 1.0)? as f32)
                .with_top_k(number("top_k", 50.0)? as usize)
                .with_top_p(number("top_p", 1.0)? as f32)
                .with_min_p(number("min_p", 0.0)? as f32),
        ))
    }
}

impl GenerationConfig {
    /// The ids at which generation ends: one or several, or none.
    pub(super) fn end_tokens(&self) -> Result<Vec<u32>> {
        let listed = match &self.json["eos_token_id"] {
            Value::Null => return Ok(Vec::new()),
            Value::Array(ids) => ids.as_slice(),
            id => std::slice::from_ref(id),
        };
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = listed.iter().map(id).collect();
        ids.ok_or_else(|| {
            bad(
                &self.path,
                "has an eos_token_id that is not a token id or a list of them",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn ends_that_only_the_generation_config_lists_end_answers() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text);
        for name in ["config.json", "model.safetensors"] {
            let from = here.join("checkpoints/llama").join(name);
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
        let made = std::fs::read_to_string(here.join("tokenizers/small.json")).unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        write("tokenizer.json", made[0]["tokenizer"].to_string()).unwrap();
        let ends = || {
            let opened = SafetensorsFolder::open(folder.path())?;
            Ok::<_, crate::Error>(opened.tokenizer()?.end_tokens().clone())
        };
        let before = ends().unwrap();
        assert!(!before.contains(&5) && !before.contains(&7));
        let config = r#"{"eos_token_id": [5, 7, 4000000], "temperature": 0.6}"#;
        write(NAME, config.to_owned()).unwrap();
        let mut expected = before;
        expected.extend([5, 7]);
        assert_eq!(ends().unwrap(), expected);
        let opened = SafetensorsFolder::open(folder.path()).unwrap();
        let shown = opened.sampling_defaults().unwrap();
        assert_eq!(shown, BTreeMap::from([("temperature", "0.6".to_owned())]));
        // It does not ask to draw, so the most probable token is taken.
        let sampling = opened.recommended_sampling().unwrap().unwrap();
        assert_eq!(sampling, Sampling::new().with_temperature(0.0));
        let config = r#"{"do_sample": true, "temperature": 0.6, "min_p": 0.1}"#;
        write(NAME, config.to_owned()).unwrap();
        let sampling = opened.recommended_sampling().unwrap().unwrap();
        let expected = Sampling::new().with_temperature(0.6).with_min_p(0.1);
        assert_eq!(sampling, expected.with_top_k(50).with_top_p(1.0));
        write(NAME, r#"{"eos_token_id": "</s>"}"#.to_owned()).unwrap();
        assert!(ends().unwrap_err().to_string().contains("eos_token_id"));
    }
}

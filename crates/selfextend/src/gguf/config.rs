//! From a GGUF header to a [`ModelConfig`].

use super::GgufFile;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use selfextend_attention::{PairLayout, RopeScaling, RopeSpec};

/// Architectures this reader knows.
const SUPPORTED: &[&str] = &["llama"];

impl GgufFile {
    /// Reads the model's configuration.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an architecture or feature this version does not run,
    /// [`Error::Model`] for keys that are missing or contradict each other.
    pub fn config(&self) -> Result<ModelConfig> {
        let architecture = self
            .string("general.architecture")?
            .ok_or_else(|| self.bad("the header has no general.architecture"))?;
        if !SUPPORTED.contains(&architecture) {
            return Err(self.unsupported(
                format!("architecture {architecture:?}"),
                format!("supported: {}", SUPPORTED.join(", ")),
            ));
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let need = |name: &str| -> Result<usize> {
            match self.size(&key(name))? {
                Some(n) if n > 0 => Ok(n),
                Some(_) => Err(self.bad(format!("{} is 0", key(name)))),
                None => Err(self.bad(format!("the header has no {}", key(name)))),
            }
        };
        if self.size(&key("expert_count"))?.unwrap_or(0) > 0 {
            return Err(self.unsupported("a mixture of experts".into(), "dense models are".into()));
        }
        let (hidden, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let kv_heads = self.size(&key("attention.head_count_kv"))?.unwrap_or(heads);
        let head_dim = self
            .size(&key("attention.key_length"))?
            .unwrap_or(hidden / heads);
        let value_dim = self
            .size(&key("attention.value_length"))?
            .unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(self.unsupported(
                format!("a value size of {value_dim} beside a key size of {head_dim}"),
                "both must be equal".into(),
            ));
        }
        // Checked here so that a lying header cannot ask for absurd memory later.
        selfextend_attention::AttentionShape::new(heads, kv_heads, head_dim)
            .map_err(|error| self.bad(error.to_string()))?;
        let rotary_dim = self.size(&key("rope.dimension_count"))?.unwrap_or(head_dim);
        let trained_window = need("context_length")?;
        let config = ModelConfig {
            architecture: architecture.to_owned(),
            name: self.string("general.name")?.map(str::to_owned),
            layers: need("block_count")?,
            hidden,
            feed_forward: need("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocab: self.vocab_size(&key("vocab_size"))?,
            trained_window,
            norm_eps: self
                .number(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| {
                    self.bad(format!(
                        "the header has no {}",
                        key("attention.layer_norm_rms_epsilon")
                    ))
                })? as f32,
            rope: RopeSpec {
                head_dim,
                rotary_dim,
                theta: self.number(&key("rope.freq_base"))?.unwrap_or(10_000.0),
                layout: PairLayout::Interleaved,
                scaling: self.rope_scaling(&key("rope.scaling"), trained_window)?,
            },
        };
        selfextend_attention::Rope::new(config.rope.clone())
            .map_err(|error| self.bad(error.to_string()))?;
        Ok(config)
    }

    fn unsupported(&self, what: String, supported: String) -> Error {
        Error::Unsupported {
            path: self.path().to_owned(),
            what,
            supported,
        }
    }

    /// The vocabulary's size: that of the tokenizer, which the embedding must match.
    fn vocab_size(&self, key: &str) -> Result<usize> {
        let tokens = self
            .metadata()
            .get("tokenizer.ggml.tokens")
            .and_then(|tokens| tokens.to_vec().ok());
        match (tokens.map(Vec::len), self.size(key)?) {
            (Some(tokens), Some(declared)) if tokens != declared => Err(self.bad(format!(
                "vocabulary mismatch: {key} is {declared} but the tokenizer has {tokens} tokens"
            ))),
            (Some(n), _) | (None, Some(n)) if n > 0 => Ok(n),
            _ => Err(self.bad("the header has no vocabulary (tokenizer.ggml.tokens)")),
        }
    }

    fn rope_scaling(&self, prefix: &str, trained_window: usize) -> Result<RopeScaling> {
        if let Some(tensor) = self.tensor("rope_freqs.weight")? {
            return Ok(RopeScaling::Factors(self.floats(&tensor)?));
        }
        let factor = self.number(&format!("{prefix}.factor"))?.unwrap_or(1.0);
        let number = |name: &str| self.number(&format!("{prefix}.{name}"));
        match self.string(&format!("{prefix}.type"))? {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor }),
            Some("yarn") => Ok(RopeScaling::Yarn {
                factor,
                original_context: self
                    .size(&format!("{prefix}.original_context_length"))?
                    .unwrap_or((trained_window as f64 / factor) as usize),
                beta_fast: number("yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: number("yarn_beta_slow")?.unwrap_or(1.0),
            }),
            Some(other) => Err(self.unsupported(
                format!("RoPE scaling {other:?}"),
                "supported: none, linear, yarn and frequency factors".into(),
            )),
        }
    }
}

//! What a model needs at least, and so how fast a machine could run it at most.

use crate::error::{BenchError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `selfextend inspect --json` says of a model, as far as it matters here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelShape {
    /// Decoder layers.
    pub layers: usize,
    /// Components of the residual stream.
    pub hidden: usize,
    /// Components inside the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Bytes of the tensors by format.
    formats: BTreeMap<String, FormatBytes>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FormatBytes {
    bytes: u64,
}

impl ModelShape {
    /// Reads the answer of `selfextend inspect --json`.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| {
            BenchError::failure(format!("cannot read selfextend inspect --json: {error}"))
        })
    }

    /// Bytes of all weights. A decoded token reads each once (with tied embeddings, as here).
    pub fn weight_bytes(&self) -> f64 {
        self.formats.values().map(|it| it.bytes as f64).sum()
    }

    /// Operations of the linear layers for one token of a prefill: two a multiply-add. The
    /// output head is left out, which runs for the last token only.
    pub fn linear_flops(&self) -> f64 {
        let (queries, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = self.hidden * (2 * queries + 2 * kv);
        let feed_forward = 3 * self.hidden * self.feed_forward;
        (2 * self.layers * (attention + feed_forward)) as f64
    }

    /// Operations of all layers' attention in a prefill.
    pub fn attention_flops(&self, tokens: usize) -> f64 {
        self.layers as f64 * attention_flops(tokens, self.heads, self.head_dim)
    }

    /// The fastest prefill at `gflops`, in tokens per second.
    pub fn prefill_limit(&self, tokens: usize, gflops: f64) -> f64 {
        let flops = tokens as f64 * self.linear_flops() + self.attention_flops(tokens);
        tokens as f64 * gflops * 1e9 / flops
    }

    /// The fastest decode of `decoded` tokens after `depth`, where every step reads all weights
    /// and all keys and values, at `gb_s` gigabytes per second; in tokens per second.
    pub fn decode_limit(&self, depth: usize, decoded: usize, kv_type: &str, gb_s: f64) -> f64 {
        // The first step attends to depth + 1 tokens, the last to depth + decoded.
        let tokens = depth as f64 + (decoded as f64 + 1.0) / 2.0;
        let kv_numbers = (2 * self.layers * self.kv_heads * self.head_dim) as f64;
        let bytes = self.weight_bytes() + tokens * kv_numbers * bytes_of(kv_type);
        gb_s * 1e9 / bytes
    }
}

/// Operations of one layer's causal attention over `tokens` tokens: two a multiply-add, for the
/// scores and for the weighted values.
pub fn attention_flops(tokens: usize, heads: usize, head_dim: usize) -> f64 {
    let pairs = tokens as f64 * (tokens as f64 + 1.0) / 2.0;
    4.0 * pairs * (heads * head_dim) as f64
}

/// Bytes of a number in a key/value type.
fn bytes_of(kv_type: &str) -> f64 {
    match kv_type {
        "f32" => 4.0,
        // Blocks of 32 with a half-float scale.
        "q8_0" => 34.0 / 32.0,
        // The same with four bits a number; llama.cpp's q4_0 too.
        "q4" | "q4_0" => 18.0 / 32.0,
        _ => 2.0,
    }
}

/// The middle of some numbers; between the two middle ones of an even number of them.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some((sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0)
}

/// The largest of some numbers.
pub fn best(numbers: &[f64]) -> Option<f64> {
    numbers.iter().copied().max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smollm2() -> ModelShape {
        ModelShape::parse(
            r#"{"file":"x.gguf","layers":30,"hidden":576,"feed_forward":1536,"heads":9,
            "kv_heads":3,"head_dim":64,"vocab":49152,"formats":{"F32":{"tensors":61,"bytes":140544},
            "Q4_1":{"tensors":210,"bytes":66355200},"Q8_0":{"tensors":1,"bytes":30081024}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
        assert_eq!(best(&[1.0, 3.0, 2.0]), Some(3.0));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn needs_of_smollm2() {
        let shape = smollm2();
        // 106,168,320 weights in the layers' matrices.
        assert_eq!(shape.linear_flops(), 212_336_640.0);
        assert_eq!(shape.weight_bytes(), 96_576_768.0);
        // One token attends to itself: 9 heads of 64, two products.
        assert_eq!(attention_flops(1, 9, 64), 2304.0);
        assert_eq!(attention_flops(3, 9, 64), 6.0 * 2304.0);
        assert_eq!(shape.attention_flops(3), 30.0 * 6.0 * 2304.0);
    }

    #[test]
    fn limits_of_smollm2() {
        let shape = smollm2();
        // (0.21233664 + 30 * 2304 * 2048.5 / 1e9) GFLOP a token at 4095 tokens of mean depth.
        let limit = shape.prefill_limit(4096, 100.0);
        let gflop = 0.212_336_64 + 30.0 * 2304.0 * 2048.5e-9;
        assert!((limit - 100.0 / gflop).abs() < 1e-9, "{limit}");
        // One step at depth 0 reads the weights and one token's 23,040 bytes of f16.
        let limit = shape.decode_limit(0, 1, "f16", 1.0);
        assert!((limit - 1e9 / 96_599_808.0).abs() < 1e-9, "{limit}");
        // Steps at 4097, 4098 and 4099 tokens.
        let limit = shape.decode_limit(4096, 3, "f16", 1.0);
        assert!((limit - 1e9 / (96_576_768.0 + 4098.0 * 23_040.0)).abs() < 1e-9);
        let small = shape.decode_limit(4096, 3, "q8_0", 1.0);
        assert!((small - 1e9 / (96_576_768.0 + 4098.0 * 12_240.0)).abs() < 1e-9);
        let smaller = shape.decode_limit(4096, 3, "q4", 1.0);
        assert!((smaller - 1e9 / (96_576_768.0 + 4098.0 * 6_480.0)).abs() < 1e-9);
    }
}

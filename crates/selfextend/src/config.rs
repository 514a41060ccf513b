//! What a model is, as data. The decoder reads only this; file formats write it.

use selfextend_attention::RopeSpec;

/// The sizes and choices of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// What the file calls the architecture, for people to read.
    pub architecture: String,
    /// The model's name, where the file has one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained on (`L`).
    pub trained_window: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// The rotary embedding, with the model's own scaling.
    pub rope: RopeSpec,
}

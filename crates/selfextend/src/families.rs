//! What the models of a family have in common, whatever file they are read from.
//!
//! The file formats add what is theirs: the names of keys and tensors, and how weights are stored.

use crate::config::{Activation, NormKind, QkNorm};
use crate::weights::{ALL_BIASED, Part};

/// What all models of a family have in common and their files do not say, or may leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub norm: NormKind,
    pub activation: Activation,
    /// What a file calls the activation is not what these models compute.
    pub activation_is_fixed: bool,
    pub parallel: Parallel,
    pub qk_norm: QkNorm,
    /// Embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    pub slides: Slides,
    /// The base frequency, where config.json has none.
    pub theta: f64,
    /// The base frequency of layers with a sliding window, where it is not that of the others.
    pub local_theta: Option<f64>,
    /// The share of a head that is rotated, where config.json has none.
    pub partial_rotary: f64,
    /// The size of a head, where config.json has none; 0 for the hidden size per head.
    pub head_dim: usize,
    /// Every so many layers, the last has no rotary embedding; 0 for none.
    pub no_rope_interval: usize,
    /// Models of so many layers scale scores by the hidden size per head, not by the head's, where
    /// the file does not say.
    pub scaled_by_width: usize,
    /// Parts that must have a bias. Others may.
    pub biased: &'static [Part],
    /// A parallel block may do without a norm before its feed-forward layer, which then reads what
    /// attention reads.
    pub may_share_norm: bool,
}

/// Whether attention and feed-forward layer read the same input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parallel {
    Never,
    Always,
    /// As `use_parallel_residual` says; where config.json lacks it, as here.
    Declared(bool),
}

/// Which layers have a sliding window, where a file gives its length and has no list of layers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slides {
    /// None: the family has no sliding windows.
    Never,
    /// Every layer.
    All,
    /// All but the last of every so many.
    AllButEvery(usize),
    /// Those from `max_window_layers` on, where `use_sliding_window` is true.
    Switched,
}

/// Most families: RMS norms before sequential attention and a feed-forward layer gated by SiLU.
pub(crate) const LLAMA: Family = Family {
    norm: NormKind::Rms,
    activation: Activation::Silu,
    activation_is_fixed: false,
    parallel: Parallel::Never,
    qk_norm: QkNorm::Head,
    scales_embedding: false,
    slides: Slides::Never,
    theta: 10_000.0,
    local_theta: None,
    partial_rotary: 1.0,
    head_dim: 0,
    no_rope_interval: 0,
    scaled_by_width: 0,
    biased: &[],
    may_share_norm: false,
};

pub(crate) const MISTRAL: Family = Family {
    slides: Slides::All,
    ..LLAMA
};

pub(crate) const SMOLLM3: Family = Family {
    slides: Slides::Switched,
    no_rope_interval: 4,
    ..LLAMA
};

pub(crate) const QWEN2: Family = Family {
    slides: Slides::Switched,
    biased: &[Part::Query, Part::Key, Part::Value],
    ..LLAMA
};

pub(crate) const QWEN3: Family = Family {
    slides: Slides::Switched,
    head_dim: 128,
    ..LLAMA
};

/// Phi-1.5 and Phi-2.
pub(crate) const PHI2: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    parallel: Parallel::Always,
    partial_rotary: 0.5,
    biased: ALL_BIASED,
    ..LLAMA
};

pub(crate) const PHI3: Family = Family {
    slides: Slides::All,
    ..LLAMA
};

pub(crate) const GEMMA: Family = Family {
    activation: Activation::GeluTanh,
    activation_is_fixed: true,
    scales_embedding: true,
    head_dim: 256,
    ..LLAMA
};

pub(crate) const GEMMA2: Family = Family {
    slides: Slides::AllButEvery(2),
    scaled_by_width: 46,
    ..GEMMA
};

pub(crate) const GEMMA3: Family = Family {
    slides: Slides::AllButEvery(6),
    theta: 1e6,
    local_theta: Some(10_000.0),
    scaled_by_width: 62,
    ..GEMMA
};

pub(crate) const STABLELM: Family = Family {
    norm: NormKind::Layer,
    parallel: Parallel::Declared(false),
    partial_rotary: 0.25,
    biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
    may_share_norm: true,
    ..LLAMA
};

pub(crate) const OLMO2: Family = Family {
    qk_norm: QkNorm::Row,
    ..LLAMA
};

pub(crate) const GPT_NEOX: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::Gelu,
    parallel: Parallel::Declared(true),
    partial_rotary: 0.25,
    biased: ALL_BIASED,
    ..LLAMA
};

//! The architectures this reader knows, by the names GGUF gives them.

use crate::config::{Activation, NormKind, QkNorm};
use crate::weights::{ALL_BIASED, Names, Part, Reading};
use selfextend_attention::PairLayout;

/// What all files of an architecture have in common and do not say.
pub(super) struct Family {
    pub name: &'static str,
    pub layout: PairLayout,
    pub norm: NormKind,
    pub activation: Activation,
    pub parallel: Parallel,
    pub qk_norm: QkNorm,
    /// Embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// Which layers have the file's sliding window.
    pub slides: Slides,
    /// The base frequency of layers with one, where it is not that of the others.
    pub local_theta: Option<f64>,
    /// Every so many layers, the last has no rotary embedding; 0 for none.
    pub no_rope_interval: usize,
    /// Models of so many layers scale scores by the hidden size per head, not by the head's.
    pub scaled_by_width: usize,
    parts: &'static [&'static [(Part, &'static str)]],
    biased: &'static [Part],
    may_share_norm: bool,
}

/// Whether blocks are parallel.
pub(super) enum Parallel {
    Never,
    Always,
    /// As `use_parallel_residual` says.
    Declared,
}

/// Which layers have a sliding window, where a file gives its length.
#[derive(Clone, Copy)]
pub(super) enum Slides {
    /// None that this version could run.
    Refused,
    /// Every layer.
    All,
    /// All but the last of every so many.
    AllButEvery(usize),
}

/// Most models: RMS norms before sequential attention and a feed-forward layer gated by SiLU.
const COMMON: Family = Family {
    name: "",
    layout: PairLayout::HalfSplit,
    norm: NormKind::Rms,
    activation: Activation::Silu,
    parallel: Parallel::Never,
    qk_norm: QkNorm::Head,
    scales_embedding: false,
    slides: Slides::All,
    local_theta: None,
    no_rope_interval: 0,
    scaled_by_width: 0,
    parts: &[PRE_NORMS, ATTENTION, GATED],
    biased: &[],
    may_share_norm: false,
};

const PRE_NORMS: &[(Part, &str)] = &[
    (Part::AttentionNorm, "attn_norm"),
    (Part::FeedForwardNorm, "ffn_norm"),
];
const ATTENTION: &[(Part, &str)] = &[
    (Part::QueryKeyValue, "attn_qkv"),
    (Part::Query, "attn_q"),
    (Part::Key, "attn_k"),
    (Part::Value, "attn_v"),
    (Part::AttentionOutput, "attn_output"),
];
const QK_NORMS: &[(Part, &str)] = &[
    (Part::QueryNorm, "attn_q_norm"),
    (Part::KeyNorm, "attn_k_norm"),
];
const GATED: &[(Part, &str)] = &[
    (Part::Gate, "ffn_gate"),
    (Part::Up, "ffn_up"),
    (Part::Down, "ffn_down"),
];
const FUSED_GATE: &[(Part, &str)] = &[(Part::GateUp, "ffn_up"), (Part::Down, "ffn_down")];
const PLAIN: &[(Part, &str)] = &[(Part::Up, "ffn_up"), (Part::Down, "ffn_down")];
const POST_NORMS: &[(Part, &str)] = &[
    (Part::PostAttentionNorm, "post_attention_norm"),
    (Part::PostFeedForwardNorm, "post_ffw_norm"),
];

/// One row for each architecture.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Family {
        name: "smollm3",
        layout: PairLayout::Interleaved,
        no_rope_interval: 4,
        ..COMMON
    },
    Family {
        name: "qwen2",
        biased: &[Part::Query, Part::Key, Part::Value],
        ..COMMON
    },
    Family {
        name: "qwen3",
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
        ..COMMON
    },
    Family {
        name: "phi2",
        norm: NormKind::Layer,
        activation: Activation::GeluTanh,
        parallel: Parallel::Always,
        parts: &[&[(Part::AttentionNorm, "attn_norm")], ATTENTION, PLAIN],
        biased: ALL_BIASED,
        ..COMMON
    },
    Family {
        name: "phi3",
        parts: &[PRE_NORMS, ATTENTION, FUSED_GATE],
        ..COMMON
    },
    Family {
        name: "gemma",
        activation: Activation::GeluTanh,
        scales_embedding: true,
        ..COMMON
    },
    Family {
        name: "gemma2",
        activation: Activation::GeluTanh,
        scales_embedding: true,
        slides: Slides::AllButEvery(2),
        scaled_by_width: 46,
        parts: &[PRE_NORMS, ATTENTION, GATED, POST_NORMS],
        ..COMMON
    },
    Family {
        name: "gemma3",
        activation: Activation::GeluTanh,
        scales_embedding: true,
        slides: Slides::AllButEvery(6),
        local_theta: Some(10_000.0),
        scaled_by_width: 62,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Family {
        name: "stablelm",
        norm: NormKind::Layer,
        parallel: Parallel::Declared,
        biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
        may_share_norm: true,
        ..COMMON
    },
    Family {
        name: "olmo2",
        qk_norm: QkNorm::Row,
        slides: Slides::Refused,
        parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Family {
        name: "gptneox",
        norm: NormKind::Layer,
        activation: Activation::Gelu,
        parallel: Parallel::Declared,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        biased: ALL_BIASED,
        ..COMMON
    },
];

impl Family {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    pub(super) fn reading(&self) -> Reading {
        Reading {
            names: Names {
                embedding: "token_embd",
                output_norm: "output_norm",
                output: "output",
                layer: "blk.{}.",
                parts: self.parts,
                // Read with the configuration.
                ignored: &[
                    "rope_freqs.weight",
                    "rope_factors_long.weight",
                    "rope_factors_short.weight",
                ],
            },
            norm_offset: 0.0,
            by_head: false,
            tied: None,
            biased: self.biased,
            may_share_norm: self.may_share_norm,
        }
    }
}

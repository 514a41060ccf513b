//! The model types this reader knows, by the names `transformers` gives them.

use crate::config::{Activation, NormKind, QkNorm};
use crate::weights::{ALL_BIASED, Names, Part};

/// What all models of a type have in common and config.json does not say.
pub(super) struct Family {
    pub name: &'static str,
    pub norm: NormKind,
    /// Whatever config.json calls it.
    pub activation: Option<Activation>,
    /// What `use_parallel_residual` is where it is not given.
    pub parallel: bool,
    pub qk_norm: QkNorm,
    /// Norm weights are stored without the 1 that they are added to.
    pub norm_offset: f32,
    /// Embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// Which layers have the sliding window, where config.json has no list.
    pub slides: Slides,
    /// The base frequencies where config.json has none: of all layers, and of local ones.
    pub theta: f64,
    pub local_theta: Option<f64>,
    /// The share of a head that is rotated, where config.json has none.
    pub partial_rotary: f64,
    /// The size of a head, where config.json has none; 0 for the hidden size per head.
    pub head_dim: usize,
    /// Every so many layers, the last has no rotary embedding, where config.json has no list.
    pub no_rope_interval: usize,
    /// Fused queries, keys and values alternate head by head.
    pub by_head: bool,
    pub names: Names,
    pub biased: &'static [Part],
    /// Parallel blocks have one norm for both layers.
    pub may_share_norm: bool,
}

/// Which layers have a sliding window.
#[derive(Clone, Copy)]
pub(super) enum Slides {
    /// Every layer.
    All,
    /// All but the last of every so many.
    AllButEvery(usize),
    /// Those from `max_window_layers` on, where `use_sliding_window` says so.
    Declared,
}

const NAMES: Names = Names {
    embedding: "model.embed_tokens",
    output_norm: "model.norm",
    output: "lm_head",
    layer: "model.layers.{}.",
    parts: &[PRE_NORMS, ATTENTION, GATED],
    ignored: &["rotary_emb.inv_freq"],
};

/// Most models: RMS norms before sequential attention and a gated feed-forward layer.
const COMMON: Family = Family {
    name: "",
    norm: NormKind::Rms,
    activation: None,
    parallel: false,
    qk_norm: QkNorm::Head,
    norm_offset: 0.0,
    scales_embedding: false,
    slides: Slides::All,
    theta: 10_000.0,
    local_theta: None,
    partial_rotary: 1.0,
    head_dim: 0,
    no_rope_interval: 0,
    by_head: false,
    names: NAMES,
    biased: &[],
    may_share_norm: false,
};

const PRE_NORMS: &[(Part, &str)] = &[
    (Part::AttentionNorm, "input_layernorm"),
    (Part::FeedForwardNorm, "post_attention_layernorm"),
];
const ATTENTION: &[(Part, &str)] = &[
    (Part::Query, "self_attn.q_proj"),
    (Part::Key, "self_attn.k_proj"),
    (Part::Value, "self_attn.v_proj"),
    (Part::AttentionOutput, "self_attn.o_proj"),
];
const QK_NORMS: &[(Part, &str)] = &[
    (Part::QueryNorm, "self_attn.q_norm"),
    (Part::KeyNorm, "self_attn.k_norm"),
];
const GATED: &[(Part, &str)] = &[
    (Part::Gate, "mlp.gate_proj"),
    (Part::Up, "mlp.up_proj"),
    (Part::Down, "mlp.down_proj"),
];
const POST_NORMS: &[(Part, &str)] = &[
    (Part::PostAttentionNorm, "post_attention_layernorm"),
    (Part::PostFeedForwardNorm, "post_feedforward_layernorm"),
];
/// Norms before and after both layers.
const FOUR_NORMS: &[(Part, &str)] = &[
    (Part::AttentionNorm, "input_layernorm"),
    (Part::PostAttentionNorm, "post_attention_layernorm"),
    (Part::FeedForwardNorm, "pre_feedforward_layernorm"),
    (Part::PostFeedForwardNorm, "post_feedforward_layernorm"),
];
const QKV_BIASED: &[Part] = &[Part::Query, Part::Key, Part::Value];

/// One row for each model type.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        ..COMMON
    },
    Family {
        name: "mistral",
        ..COMMON
    },
    Family {
        name: "smollm3",
        slides: Slides::Declared,
        no_rope_interval: 4,
        ..COMMON
    },
    Family {
        name: "qwen2",
        slides: Slides::Declared,
        biased: QKV_BIASED,
        ..COMMON
    },
    Family {
        name: "qwen3",
        slides: Slides::Declared,
        head_dim: 128,
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
            ..NAMES
        },
        ..COMMON
    },
    Family {
        name: "phi",
        norm: NormKind::Layer,
        parallel: true,
        partial_rotary: 0.5,
        names: Names {
            output_norm: "model.final_layernorm",
            parts: &[&[
                (Part::AttentionNorm, "input_layernorm"),
                (Part::Query, "self_attn.q_proj"),
                (Part::Key, "self_attn.k_proj"),
                (Part::Value, "self_attn.v_proj"),
                (Part::AttentionOutput, "self_attn.dense"),
                (Part::Up, "mlp.fc1"),
                (Part::Down, "mlp.fc2"),
            ]],
            ..NAMES
        },
        biased: ALL_BIASED,
        ..COMMON
    },
    Family {
        name: "phi3",
        names: Names {
            parts: &[
                PRE_NORMS,
                &[
                    (Part::QueryKeyValue, "self_attn.qkv_proj"),
                    (Part::AttentionOutput, "self_attn.o_proj"),
                    (Part::GateUp, "mlp.gate_up_proj"),
                    (Part::Down, "mlp.down_proj"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
    Family {
        name: "gemma",
        activation: Some(Activation::GeluTanh),
        norm_offset: 1.0,
        scales_embedding: true,
        head_dim: 256,
        ..COMMON
    },
    Family {
        name: "gemma2",
        activation: Some(Activation::GeluTanh),
        norm_offset: 1.0,
        scales_embedding: true,
        head_dim: 256,
        slides: Slides::AllButEvery(2),
        names: Names {
            parts: &[FOUR_NORMS, ATTENTION, GATED],
            ..NAMES
        },
        ..COMMON
    },
    Family {
        name: "gemma3_text",
        activation: Some(Activation::GeluTanh),
        norm_offset: 1.0,
        scales_embedding: true,
        head_dim: 256,
        slides: Slides::AllButEvery(6),
        theta: 1e6,
        local_theta: Some(10_000.0),
        names: Names {
            parts: &[FOUR_NORMS, ATTENTION, QK_NORMS, GATED],
            ..NAMES
        },
        ..COMMON
    },
    Family {
        name: "stablelm",
        norm: NormKind::Layer,
        partial_rotary: 0.25,
        biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
        may_share_norm: true,
        ..COMMON
    },
    Family {
        name: "olmo2",
        qk_norm: QkNorm::Row,
        names: Names {
            parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
            ..NAMES
        },
        ..COMMON
    },
    Family {
        name: "gpt_neox",
        norm: NormKind::Layer,
        parallel: true,
        partial_rotary: 0.25,
        by_head: true,
        names: Names {
            embedding: "gpt_neox.embed_in",
            output_norm: "gpt_neox.final_layer_norm",
            output: "embed_out",
            layer: "gpt_neox.layers.{}.",
            parts: &[
                PRE_NORMS,
                &[
                    (Part::QueryKeyValue, "attention.query_key_value"),
                    (Part::AttentionOutput, "attention.dense"),
                    (Part::Up, "mlp.dense_h_to_4h"),
                    (Part::Down, "mlp.dense_4h_to_h"),
                ],
            ],
            ignored: &[
                "rotary_emb.inv_freq",
                "attention.masked_bias",
                "attention.bias",
            ],
        },
        biased: ALL_BIASED,
        ..COMMON
    },
];

impl Family {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }
}

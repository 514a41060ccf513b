//! The model types this reader knows, by the names `transformers` gives them, and the names of
//! their tensors.

pub(super) mod dense;
pub(super) mod experts;

use super::options::{self, Absent, Options};
use crate::families::{self, Family};
use crate::weights::{Fused, Names, Part, Stacks};
use selfextend_attention::PairLayout;

/// What `transformers` calls a family, and how it stores one.
pub(super) struct ModelType {
    pub name: &'static str,
    pub family: Family,
    /// Norm weights are stored without the 1 that they are added to.
    pub norm_offset: f32,
    /// Which components of a head are turned together.
    pub layout: PairLayout,
    /// How queries, keys and values are fused.
    pub fused: Fused,
    /// How tensors hold the matrices of all experts.
    pub stacks: Stacks,
    /// Parts that have no bias whatever the options say.
    pub unbiased: &'static [Part],
    /// The feed-forward layer is four times as wide as the residual stream, unless a size is given.
    pub quadruple: bool,
    /// Options that it calls otherwise, after what they are called elsewhere.
    pub spellings: &'static [(&'static str, &'static str)],
    /// The options it has besides [`options::EVERY`].
    pub options: &'static [Options],
    /// The sizes of its class, which hold where another model nests it and leaves them out.
    pub sizes: Options,
    pub names: Names,
}

const COMMON: ModelType = ModelType {
    name: "",
    family: families::LLAMA,
    norm_offset: 0.0,
    layout: PairLayout::HalfSplit,
    fused: Fused::InTurn,
    stacks: Stacks {
        turned: false,
        alternate: false,
    },
    unbiased: &[],
    quadruple: false,
    spellings: &[],
    options: &[options::LLAMA],
    sizes: &[],
    names: NAMES,
};

const NAMES: Names = Names {
    embedding: "model.embed_tokens",
    output_norm: "model.norm",
    output: "lm_head",
    layer: "model.layers.{}.",
    parts: &[PRE_NORMS, ATTENTION, GATED],
    ignored: &["rotary_emb.inv_freq"],
    unread: &[],
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
/// Norms of queries and keys under their older names.
const QK_LAYERNORMS: &[(Part, &str)] = &[
    (Part::QueryNorm, "self_attn.q_layernorm"),
    (Part::KeyNorm, "self_attn.k_layernorm"),
];
const INPUT_NORM: &[(Part, &str)] = &[(Part::AttentionNorm, "input_layernorm")];
const FUSED_GATE: &[(Part, &str)] = &[
    (Part::GateUp, "mlp.gate_up_proj"),
    (Part::Down, "mlp.down_proj"),
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
/// One row for each model type of the families that began; `dense` and `experts` have the others.
pub(super) const MODEL_TYPES: &[ModelType] = &[
    ModelType {
        name: "llama",
        sizes: options::LLAMA_SIZES,
        ..COMMON
    },
    ModelType {
        name: "mistral",
        family: families::MISTRAL,
        options: &[options::MISTRAL],
        sizes: options::MISTRAL_SIZES,
        ..COMMON
    },
    ModelType {
        name: "smollm3",
        family: families::SMOLLM3,
        options: &[options::SMOLLM3],
        ..COMMON
    },
    ModelType {
        name: "qwen2",
        family: families::QWEN2,
        options: &[options::QWEN2],
        ..COMMON
    },
    ModelType {
        name: "qwen3",
        family: families::QWEN3,
        options: &[options::QWEN3, options::QWEN2],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "phi",
        family: families::PHI2,
        options: &[options::PHI],
        names: Names {
            output_norm: "model.final_layernorm",
            parts: &[
                INPUT_NORM,
                &[
                    (Part::Query, "self_attn.q_proj"),
                    (Part::Key, "self_attn.k_proj"),
                    (Part::Value, "self_attn.v_proj"),
                    (Part::AttentionOutput, "self_attn.dense"),
                    (Part::Up, "mlp.fc1"),
                    (Part::Down, "mlp.fc2"),
                ],
                QK_LAYERNORMS,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "phi3",
        family: families::PHI3,
        options: &[options::PHI3],
        names: Names {
            parts: &[
                PRE_NORMS,
                &[
                    (Part::QueryKeyValue, "self_attn.qkv_proj"),
                    (Part::AttentionOutput, "self_attn.o_proj"),
                ],
                FUSED_GATE,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "gemma",
        family: families::GEMMA,
        options: &[options::GEMMA],
        norm_offset: 1.0,
        ..COMMON
    },
    ModelType {
        name: "gemma2",
        family: families::GEMMA2,
        options: &[options::GEMMA2],
        norm_offset: 1.0,
        names: Names {
            parts: &[FOUR_NORMS, ATTENTION, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "gemma3_text",
        family: families::GEMMA3,
        options: &[options::GEMMA3],
        sizes: options::GEMMA3_SIZES,
        norm_offset: 1.0,
        names: Names {
            parts: &[FOUR_NORMS, ATTENTION, QK_NORMS, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "stablelm",
        family: families::STABLELM,
        options: &[options::STABLELM],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                &[
                    (Part::QueryNorm, "self_attn.q_layernorm.norms.{}"),
                    (Part::KeyNorm, "self_attn.k_layernorm.norms.{}"),
                ],
                GATED,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "olmo2",
        family: families::OLMO2,
        options: &[options::OLMO2],
        names: Names {
            parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "gpt_neox",
        family: families::GPT_NEOX,
        options: &[options::GPT_NEOX],
        fused: Fused::ByHead,
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
            unread: &[],
        },
        ..COMMON
    },
];

impl ModelType {
    /// What holds where an option is absent; `None` for an option that it does not have.
    pub(super) fn absent(&self, key: &str) -> Option<Absent> {
        let lists = self.options.iter().chain([&options::EVERY]);
        let mut entries = lists.copied().flatten();
        entries
            .find(|(option, _)| *option == key)
            .map(|(_, absent)| *absent)
    }
}

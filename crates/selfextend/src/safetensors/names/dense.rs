//! Dense model types from Granite on.

use super::{
    ATTENTION, COMMON, FUSED_GATE, GATED, INPUT_NORM, ModelType, NAMES, POST_NORMS, PRE_NORMS,
    QK_LAYERNORMS, QK_NORMS, options,
};
use crate::families;
use crate::weights::{Fused, Names, Part};
use selfextend_attention::PairLayout;

const PLAIN: &[(Part, &str)] = &[(Part::Up, "mlp.up_proj"), (Part::Down, "mlp.down_proj")];
const GPT_NAMES: Names = Names {
    embedding: "transformer.wte",
    output_norm: "transformer.ln_f",
    layer: "transformer.h.{}.",
    ignored: &["attn.bias", "attn.masked_bias", "attn.causal_mask"],
    ..NAMES
};
const GPT_J: &[(Part, &str)] = &[
    (Part::AttentionNorm, "ln_1"),
    (Part::AttentionOutput, "attn.out_proj"),
    (Part::Up, "mlp.fc_in"),
    (Part::Down, "mlp.fc_out"),
];
/// One row for each model type.
pub(in crate::safetensors) const MODEL_TYPES: &[ModelType] = &[
    ModelType {
        name: "granite",
        family: families::GRANITE,
        options: &[options::GRANITE, options::LLAMA],
        ..COMMON
    },
    ModelType {
        name: "starcoder2",
        family: families::STARCODER2,
        options: &[options::STARCODER2],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                &[(Part::Up, "mlp.c_fc"), (Part::Down, "mlp.c_proj")],
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "nemotron",
        family: families::NEMOTRON,
        options: &[options::NEMOTRON],
        norm_offset: 1.0,
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, PLAIN],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "glm",
        options: &[options::GLM],
        layout: PairLayout::Interleaved,
        unbiased: &[Part::AttentionOutput],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, FUSED_GATE],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "glm4",
        options: &[options::GLM],
        layout: PairLayout::Interleaved,
        unbiased: &[Part::AttentionOutput],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                FUSED_GATE,
                &[
                    (Part::PostAttentionNorm, "post_self_attn_layernorm"),
                    (Part::PostFeedForwardNorm, "post_mlp_layernorm"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "cohere",
        family: families::COHERE,
        options: &[options::COHERE],
        layout: PairLayout::Interleaved,
        names: Names {
            parts: &[INPUT_NORM, ATTENTION, QK_NORMS, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "cohere2",
        family: families::COHERE2,
        options: &[options::COHERE2],
        layout: PairLayout::Interleaved,
        names: Names {
            parts: &[INPUT_NORM, ATTENTION, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "exaone4",
        family: families::EXAONE4,
        options: &[options::EXAONE4],
        names: Names {
            parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "hunyuan_v1_dense",
        family: families::HUNYUAN,
        options: &[options::HUNYUAN],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                &[
                    (Part::QueryNorm, "self_attn.query_layernorm"),
                    (Part::KeyNorm, "self_attn.key_layernorm"),
                ],
                GATED,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "exaone",
        options: &[options::EXAONE],
        spellings: options::EXAONE_SPELLINGS,
        names: Names {
            embedding: "transformer.wte",
            output_norm: "transformer.ln_f",
            layer: "transformer.h.{}.",
            parts: &[&[
                (Part::AttentionNorm, "ln_1"),
                (Part::Query, "attn.attention.q_proj"),
                (Part::Key, "attn.attention.k_proj"),
                (Part::Value, "attn.attention.v_proj"),
                (Part::AttentionOutput, "attn.attention.out_proj"),
                (Part::FeedForwardNorm, "ln_2"),
                (Part::Gate, "mlp.c_fc_0"),
                (Part::Up, "mlp.c_fc_1"),
                (Part::Down, "mlp.c_proj"),
            ]],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "internlm3",
        options: &[options::INTERNLM3],
        spellings: options::INTERNLM3_SPELLINGS,
        ..COMMON
    },
    ModelType {
        name: "olmo",
        family: families::OLMO,
        options: &[options::OLMO],
        names: Names {
            parts: &[ATTENTION, GATED],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "apertus",
        family: families::APERTUS,
        options: &[options::APERTUS, options::LLAMA],
        names: Names {
            parts: &[
                &[
                    (Part::AttentionNorm, "attention_layernorm"),
                    (Part::FeedForwardNorm, "feedforward_layernorm"),
                ],
                ATTENTION,
                QK_NORMS,
                PLAIN,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "olmo3",
        family: families::OLMO3,
        options: &[options::OLMO3, options::OLMO2],
        names: Names {
            parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "vaultgemma",
        family: families::GEMMA2,
        options: &[options::GEMMA2],
        norm_offset: 1.0,
        names: Names {
            parts: &[
                &[
                    (Part::AttentionNorm, "input_layernorm"),
                    (Part::FeedForwardNorm, "pre_feedforward_layernorm"),
                ],
                ATTENTION,
                GATED,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "ministral",
        family: families::MISTRAL,
        options: &[options::MINISTRAL, options::MISTRAL],
        ..COMMON
    },
    ModelType {
        name: "jais2",
        family: families::NEMOTRON,
        options: &[options::JAIS2],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, PLAIN],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "ernie4_5",
        options: &[options::ERNIE4_5],
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    ModelType {
        name: "seed_oss",
        options: &[options::SEED_OSS, options::LLAMA],
        ..COMMON
    },
    ModelType {
        name: "arcee",
        family: families::ARCEE,
        options: &[options::ARCEE, options::LLAMA],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, PLAIN],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "helium",
        options: &[options::HELIUM, options::LLAMA],
        layout: PairLayout::Interleaved,
        unbiased: &[Part::AttentionOutput],
        ..COMMON
    },
    ModelType {
        name: "gptj",
        family: families::GPT_J,
        options: &[options::GPT_J],
        layout: PairLayout::Interleaved,
        quadruple: true,
        spellings: options::GPT_SPELLINGS,
        names: Names {
            parts: &[
                GPT_J,
                &[
                    (Part::Query, "attn.q_proj"),
                    (Part::Key, "attn.k_proj"),
                    (Part::Value, "attn.v_proj"),
                ],
            ],
            ..GPT_NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "codegen",
        family: families::GPT_J,
        options: &[options::GPT_J],
        layout: PairLayout::Interleaved,
        // As four devices once held them.
        fused: Fused::InGroups(4),
        quadruple: true,
        spellings: options::GPT_SPELLINGS,
        names: Names {
            parts: &[GPT_J, &[(Part::QueryKeyValue, "attn.qkv_proj")]],
            ..GPT_NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "persimmon",
        family: families::PERSIMMON,
        options: &[options::PERSIMMON],
        fused: Fused::ByHead,
        names: Names {
            output_norm: "model.final_layernorm",
            parts: &[
                PRE_NORMS,
                QK_LAYERNORMS,
                &[
                    (Part::QueryKeyValue, "self_attn.query_key_value"),
                    (Part::AttentionOutput, "self_attn.dense"),
                    (Part::Up, "mlp.dense_h_to_4h"),
                    (Part::Down, "mlp.dense_4h_to_h"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
];

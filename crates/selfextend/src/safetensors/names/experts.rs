//! Mixtures of experts.

use super::{ATTENTION, COMMON, GATED, ModelType, NAMES, PRE_NORMS, QK_NORMS, options};
use crate::families;
use crate::safetensors::options::Absent;
use crate::weights::{Names, Part, Stacks};

/// All experts in one tensor.
const STACKED_EXPERTS: &[(Part, &str)] = &[
    (Part::Router, "block_sparse_moe.router.layer"),
    (Part::ExpertGateUp, "block_sparse_moe.input_linear"),
    (Part::ExpertDown, "block_sparse_moe.output_linear"),
];
/// As files have them, and as `transformers` 5 holds and may write them.
const EXPERTS: &[(Part, &str)] = &[
    (Part::Router, "mlp.gate"),
    (Part::ExpertGate, "mlp.experts.{}.gate_proj"),
    (Part::ExpertUp, "mlp.experts.{}.up_proj"),
    (Part::ExpertDown, "mlp.experts.{}.down_proj"),
    (Part::ExpertGateUp, "mlp.experts.gate_up_proj"),
    (Part::ExpertDown, "mlp.experts.down_proj"),
];
const MIXTRAL: &[(Part, &str)] = &[
    (Part::Router, "block_sparse_moe.gate"),
    (Part::ExpertGate, "block_sparse_moe.experts.{}.w1"),
    (Part::ExpertUp, "block_sparse_moe.experts.{}.w3"),
    (Part::ExpertDown, "block_sparse_moe.experts.{}.w2"),
];
const MERGED: &[(Part, &str)] = &[
    (Part::ExpertGateUp, "mlp.experts.gate_up_proj"),
    (Part::ExpertDown, "mlp.experts.down_proj"),
];

/// One row for each model type.
pub(in crate::safetensors) const MODEL_TYPES: &[ModelType] = &[
    ModelType {
        name: "mixtral",
        family: families::MIXTRAL,
        options: &[options::MIXTRAL],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                MIXTRAL,
                &[(Part::Router, "mlp.gate")],
                MERGED,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "qwen2_moe",
        family: families::QWEN2_MOE,
        options: &[options::QWEN2_MOE, options::QWEN2],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                GATED,
                EXPERTS,
                &[
                    (Part::SharedGate, "mlp.shared_expert.gate_proj"),
                    (Part::SharedUp, "mlp.shared_expert.up_proj"),
                    (Part::SharedDown, "mlp.shared_expert.down_proj"),
                    (Part::SharedSwitch, "mlp.shared_expert_gate"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "qwen3_moe",
        family: families::QWEN3_MOE,
        options: &[options::QWEN3_MOE],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED, EXPERTS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "granitemoe",
        family: families::GRANITE_MOE,
        options: &[options::GRANITE_MOE],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, STACKED_EXPERTS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "granitemoeshared",
        family: families::GRANITE_MOE,
        options: &[
            &[("shared_intermediate_size", Absent::Size(1024))],
            options::GRANITE_MOE,
        ],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                STACKED_EXPERTS,
                &[
                    (Part::SharedGateUp, "shared_mlp.input_linear"),
                    (Part::SharedDown, "shared_mlp.output_linear"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "glm4_moe",
        family: families::GLM4_MOE,
        options: &[options::GLM4_MOE],
        unbiased: &[Part::AttentionOutput],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                QK_NORMS,
                GATED,
                EXPERTS,
                &[
                    (Part::ChoiceBias, "mlp.gate.e_score_correction_bias"),
                    (Part::SharedGate, "mlp.shared_experts.gate_proj"),
                    (Part::SharedUp, "mlp.shared_experts.up_proj"),
                    (Part::SharedDown, "mlp.shared_experts.down_proj"),
                ],
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "gpt_oss",
        family: families::GPT_OSS,
        options: &[options::GPT_OSS],
        stacks: Stacks {
            turned: true,
            alternate: true,
        },
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                &[
                    (Part::Sinks, "self_attn.sinks"),
                    (Part::Router, "mlp.router"),
                ],
                MERGED,
            ],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "olmoe",
        family: families::OLMOE,
        options: &[options::OLMOE],
        names: Names {
            parts: &[PRE_NORMS, ATTENTION, QK_NORMS, EXPERTS],
            ..NAMES
        },
        ..COMMON
    },
    ModelType {
        name: "phimoe",
        family: families::PHIMOE,
        options: &[options::PHIMOE],
        names: Names {
            parts: &[
                PRE_NORMS,
                ATTENTION,
                MIXTRAL,
                &[(Part::Router, "mlp.router")],
                MERGED,
            ],
            ..NAMES
        },
        ..COMMON
    },
];

//! The options of mixtures of experts.

use super::Absent::{Flag, Json, Null, Number, Size, Text};
use super::Options;

pub(in crate::safetensors) const MIXTRAL: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(8)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(1e6)),
    ("sliding_window", Null),
    ("num_local_experts", Size(8)),
    ("num_experts_per_tok", Size(2)),
];

/// Besides those of [`QWEN2`].
pub(in crate::safetensors) const QWEN2_MOE: Options = &[
    ("num_key_value_heads", Size(16)),
    ("qkv_bias", Flag(true)),
    ("num_experts", Size(60)),
    ("num_experts_per_tok", Size(4)),
    ("norm_topk_prob", Flag(false)),
    ("moe_intermediate_size", Size(1408)),
    ("shared_expert_intermediate_size", Size(5632)),
    ("decoder_sparse_step", Size(1)),
    ("mlp_only_layers", Null),
];

pub(in crate::safetensors) const QWEN3_MOE: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(4)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("use_sliding_window", Flag(false)),
    ("sliding_window", Size(4096)),
    ("num_experts", Size(128)),
    ("num_experts_per_tok", Size(8)),
    ("norm_topk_prob", Flag(false)),
    ("moe_intermediate_size", Size(768)),
    ("decoder_sparse_step", Size(1)),
    ("mlp_only_layers", Null),
];

pub(in crate::safetensors) const GRANITE_MOE: Options = &[
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("embedding_multiplier", Number(1.0)),
    ("attention_multiplier", Number(1.0)),
    ("residual_multiplier", Number(1.0)),
    ("logits_scaling", Number(1.0)),
    ("num_local_experts", Size(8)),
    ("num_experts_per_tok", Size(2)),
];

pub(in crate::safetensors) const GLM4_MOE: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(8)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("partial_rotary_factor", Number(0.5)),
    ("attention_bias", Flag(false)),
    ("use_qk_norm", Flag(false)),
    ("moe_intermediate_size", Size(1408)),
    ("n_routed_experts", Size(128)),
    ("num_experts_per_tok", Size(8)),
    ("n_shared_experts", Size(1)),
    ("routed_scaling_factor", Number(1.0)),
    ("n_group", Size(1)),
    ("topk_group", Size(1)),
    ("first_k_dense_replace", Size(1)),
    ("norm_topk_prob", Flag(true)),
    ("num_nextn_predict_layers", Null),
];

pub(in crate::safetensors) const OLMOE: Options = &[
    ("clip_qkv", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("attention_bias", Flag(false)),
    ("num_experts", Size(64)),
    ("num_experts_per_tok", Size(8)),
    ("norm_topk_prob", Flag(false)),
];

pub(in crate::safetensors) const GPT_OSS: Options = &[
    ("head_dim", Size(64)),
    ("num_key_value_heads", Size(8)),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(150_000.0)),
    (
        "rope_scaling",
        Json(
            r#"{"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": false, "original_max_position_embeddings": 4096}"#,
        ),
    ),
    ("attention_bias", Flag(true)),
    ("sliding_window", Size(128)),
    ("layer_types", Null),
    ("num_local_experts", Size(128)),
    ("num_experts_per_tok", Size(4)),
    ("swiglu_limit", Number(7.0)),
];

pub(in crate::safetensors) const PHIMOE: Options = &[
    ("num_key_value_heads", Size(8)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(1e6)),
    ("attention_bias", Flag(false)),
    ("sliding_window", Null),
    ("num_local_experts", Size(16)),
    ("num_experts_per_tok", Size(2)),
    ("router_jitter_noise", Number(0.01)),
];

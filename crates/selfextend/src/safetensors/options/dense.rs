//! The options of dense families from Granite on; those that began are beside this module.

use super::Absent::{Flag, Json, Null, Number, Size, Text};
use super::Options;

/// Besides those of [`LLAMA`].
pub(in crate::safetensors) const GRANITE: Options = &[
    ("head_dim", Null),
    ("embedding_multiplier", Number(1.0)),
    ("attention_multiplier", Number(1.0)),
    ("residual_multiplier", Number(1.0)),
    ("logits_scaling", Number(1.0)),
];

pub(in crate::safetensors) const STARCODER2: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(2)),
    ("hidden_act", Text("gelu_pytorch_tanh")),
    ("norm_epsilon", Number(1e-5)),
    ("sliding_window", Null),
    ("use_bias", Flag(true)),
];

pub(in crate::safetensors) const NEMOTRON: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("relu2")),
    ("norm_eps", Number(1e-5)),
    ("partial_rotary_factor", Number(0.5)),
    ("attention_bias", Flag(false)),
    ("mlp_bias", Flag(false)),
];

/// Of both kinds of GLM-4.
pub(in crate::safetensors) const GLM: Options = &[
    ("head_dim", Size(128)),
    ("num_key_value_heads", Size(2)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1.5625e-7)),
    ("partial_rotary_factor", Number(0.5)),
    ("attention_bias", Flag(true)),
];

pub(in crate::safetensors) const COHERE: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("layer_norm_eps", Number(1e-5)),
    ("logit_scale", Number(0.0625)),
    ("attention_bias", Flag(false)),
    ("tie_word_embeddings", Flag(true)),
    ("use_qk_norm", Flag(false)),
    // What it was trained on, where `max_position_embeddings` says less.
    ("model_max_length", Null),
];

/// The size of its heads follows from the others.
pub(in crate::safetensors) const COHERE2: Options = &[
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("layer_norm_eps", Number(1e-5)),
    ("logit_scale", Number(0.0625)),
    ("attention_bias", Flag(false)),
    ("tie_word_embeddings", Flag(true)),
    ("sliding_window", Size(4096)),
    ("sliding_window_pattern", Size(4)),
    ("layer_types", Null),
];

pub(in crate::safetensors) const EXAONE4: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(32)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("sliding_window", Size(4096)),
    ("sliding_window_pattern", Size(4)),
    ("layer_types", Null),
];

pub(in crate::safetensors) const OLMO: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("attention_bias", Flag(false)),
    ("clip_qkv", Null),
];

/// Besides those of [`LLAMA`].
pub(in crate::safetensors) const APERTUS: Options = &[
    ("hidden_act", Text("xielu")),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(12_000_000.0)),
    (
        "rope_scaling",
        Json(
            r#"{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0}"#,
        ),
    ),
];

/// Besides those of [`OLMO2`].
pub(in crate::safetensors) const OLMO3: Options = &[
    ("rope_theta", Number(500_000.0)),
    ("sliding_window", Size(4096)),
    ("layer_types", Null),
];

/// Besides those of [`MISTRAL`].
pub(in crate::safetensors) const MINISTRAL: Options = &[("layer_types", Null)];

pub(in crate::safetensors) const JAIS2: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("relu2")),
    ("layer_norm_eps", Number(1e-5)),
    ("attention_bias", Flag(true)),
    ("mlp_bias", Flag(true)),
];

pub(in crate::safetensors) const ERNIE4_5: Options = &[
    ("head_dim", Size(128)),
    ("num_key_value_heads", Size(2)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(500_000.0)),
    ("use_bias", Flag(false)),
    ("tie_word_embeddings", Flag(true)),
];

/// Besides those of [`LLAMA`].
pub(in crate::safetensors) const SEED_OSS: Options = &[
    ("head_dim", Size(128)),
    ("num_key_value_heads", Size(8)),
    ("attention_bias", Flag(true)),
    ("attention_out_bias", Flag(false)),
];

/// Besides those of [`LLAMA`].
pub(in crate::safetensors) const ARCEE: Options = &[
    ("hidden_act", Text("relu2")),
    ("rms_norm_eps", Number(1e-5)),
];

/// Besides those of [`LLAMA`].
pub(in crate::safetensors) const HELIUM: Options = &[
    ("head_dim", Size(128)),
    ("num_key_value_heads", Size(20)),
    ("rms_norm_eps", Number(1e-8)),
    ("rope_theta", Number(100_000.0)),
];

pub(in crate::safetensors) const GPT_J: Options = &[
    ("activation_function", Text("gelu_new")),
    ("layer_norm_epsilon", Number(1e-5)),
    ("rotary_dim", Size(64)),
];

/// What GPT-J and CodeGen call the options of all.
pub(in crate::safetensors) const GPT_SPELLINGS: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"),
    ("intermediate_size", "n_inner"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
];

pub(in crate::safetensors) const PERSIMMON: Options = &[
    ("hidden_act", Text("relu2")),
    ("layer_norm_eps", Number(1e-5)),
    ("rope_theta", Number(25_000.0)),
    ("partial_rotary_factor", Number(0.5)),
    ("qk_layernorm", Flag(true)),
];

pub(in crate::safetensors) const HUNYUAN: Options = &[
    // Of its rotary embedding.
    ("alpha", Null),
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("attention_bias", Flag(false)),
];

/// EXAONE 3 and 3.5.
pub(in crate::safetensors) const EXAONE: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("rope_theta", Number(500_000.0)),
    ("attention_bias", Flag(false)),
    ("mlp_bias", Flag(false)),
];

pub(in crate::safetensors) const EXAONE_SPELLINGS: &[(&str, &str)] = &[
    ("num_hidden_layers", "num_layers"),
    ("rms_norm_eps", "layer_norm_epsilon"),
    ("hidden_act", "activation_function"),
];

pub(in crate::safetensors) const INTERNLM3: Options = &[
    ("head_dim", Size(128)),
    ("num_key_value_heads", Size(2)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    // Of queries, keys and values, and of what comes after attention.
    ("qkv_bias", Flag(false)),
    ("bias", Flag(false)),
];

pub(in crate::safetensors) const INTERNLM3_SPELLINGS: &[(&str, &str)] =
    &[("qkv_bias", "attention_bias"), ("bias", "mlp_bias")];

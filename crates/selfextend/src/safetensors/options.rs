//! The options of config.json: which of them each model type has, what holds where one is absent,
//! and what the others mean.
//!
//! The options and their defaults are those of the configuration classes of `transformers` 4.56 and
//! 5.24. An option that a model type does not have is not read: the classes keep it, and nothing asks
//! for it.

mod dense;
mod experts;

use crate::keys::{Meaning, Rule};
use serde_json::Value;

/// What holds where an option is absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    Null,
    Size(u64),
    Number(f64),
    Flag(bool),
    Text(&'static str),
    /// What this text describes.
    Json(&'static str),
}

use Absent::{Flag, Null, Number, Size, Text};
pub(super) use dense::*;
pub(super) use experts::*;

impl Absent {
    pub fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Size(size) => size.into(),
            Self::Number(number) => number.into(),
            Self::Flag(flag) => flag.into(),
            Self::Text(text) => text.into(),
            Self::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

/// Options and what holds without them. Of two entries for one option, the first counts.
pub(super) type Options = &'static [(&'static str, Absent)];

/// What all model types have. The sizes have no default: a file without one is refused.
pub(super) const EVERY: Options = &[
    ("model_type", Null),
    ("transformers_version", Null),
    ("_name_or_path", Null),
    ("vocab_size", Null),
    ("hidden_size", Null),
    ("intermediate_size", Null),
    ("num_hidden_layers", Null),
    ("num_attention_heads", Null),
    ("max_position_embeddings", Null),
    ("original_max_position_embeddings", Null),
    ("rope_theta", Number(10_000.0)),
    ("rope_scaling", Null),
    ("rope_parameters", Null),
    ("tie_word_embeddings", Null),
];

pub(super) const LLAMA: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("mlp_bias", Flag(false)),
];

pub(super) const MISTRAL: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(8)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("sliding_window", Size(4096)),
];

pub(super) const SMOLLM3: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(4)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("rope_theta", Number(2e6)),
    ("attention_bias", Flag(false)),
    ("mlp_bias", Flag(false)),
    ("use_sliding_window", Flag(false)),
    ("sliding_window", Null),
    ("layer_types", Null),
    ("no_rope_layers", Null),
    ("no_rope_layer_interval", Size(4)),
];

pub(super) const QWEN2: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Size(32)),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-6)),
    ("use_sliding_window", Flag(false)),
    ("sliding_window", Size(4096)),
    ("max_window_layers", Size(28)),
    ("layer_types", Null),
];

/// Besides those of [`QWEN2`].
pub(super) const QWEN3: Options = &[("head_dim", Size(128)), ("attention_bias", Flag(false))];

pub(super) const PHI: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("gelu_new")),
    ("layer_norm_eps", Number(1e-5)),
    ("partial_rotary_factor", Number(0.5)),
    ("qk_layernorm", Flag(false)),
];

pub(super) const PHI3: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("partial_rotary_factor", Number(1.0)),
    ("original_max_position_embeddings", Size(4096)),
    ("sliding_window", Null),
];

pub(super) const GEMMA: Options = &[
    ("num_key_value_heads", Size(16)),
    ("head_dim", Size(256)),
    ("hidden_act", Text("gelu_pytorch_tanh")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
];

pub(super) const GEMMA2: Options = &[
    ("num_key_value_heads", Size(4)),
    ("head_dim", Size(256)),
    ("hidden_activation", Text("gelu_pytorch_tanh")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("query_pre_attn_scalar", Size(256)),
    ("sliding_window", Size(4096)),
    ("layer_types", Null),
    ("attn_logit_softcapping", Number(50.0)),
    ("final_logit_softcapping", Number(30.0)),
];

/// Its class has a cap of scores too, which nothing reads.
pub(super) const GEMMA3: Options = &[
    ("num_key_value_heads", Size(4)),
    ("head_dim", Size(256)),
    ("hidden_activation", Text("gelu_pytorch_tanh")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("query_pre_attn_scalar", Size(256)),
    ("rope_theta", Number(1e6)),
    ("rope_local_base_freq", Number(10_000.0)),
    ("sliding_window", Size(4096)),
    ("sliding_window_pattern", Size(6)),
    ("layer_types", Null),
    ("final_logit_softcapping", Null),
];

/// The sizes of classes, for text parts that leave them out.
pub(super) const LLAMA_SIZES: Options = &[
    ("vocab_size", Size(32_000)),
    ("hidden_size", Size(4096)),
    ("intermediate_size", Size(11_008)),
    ("num_hidden_layers", Size(32)),
    ("num_attention_heads", Size(32)),
    ("max_position_embeddings", Size(2048)),
];
pub(super) const MISTRAL_SIZES: Options = &[
    ("vocab_size", Size(32_000)),
    ("hidden_size", Size(4096)),
    ("intermediate_size", Size(14_336)),
    ("num_hidden_layers", Size(32)),
    ("num_attention_heads", Size(32)),
    ("max_position_embeddings", Size(131_072)),
];
pub(super) const GEMMA3_SIZES: Options = &[
    ("vocab_size", Size(262_208)),
    ("hidden_size", Size(2304)),
    ("intermediate_size", Size(9216)),
    ("num_hidden_layers", Size(26)),
    ("num_attention_heads", Size(8)),
    ("max_position_embeddings", Size(131_072)),
];

pub(super) const STABLELM: Options = &[
    ("num_key_value_heads", Size(32)),
    ("hidden_act", Text("silu")),
    ("layer_norm_eps", Number(1e-5)),
    ("partial_rotary_factor", Number(0.25)),
    ("use_qkv_bias", Flag(false)),
    ("use_parallel_residual", Flag(false)),
    ("qk_layernorm", Flag(false)),
];

pub(super) const OLMO2: Options = &[
    ("head_dim", Null),
    ("num_key_value_heads", Null),
    ("hidden_act", Text("silu")),
    ("rms_norm_eps", Number(1e-5)),
    ("attention_bias", Flag(false)),
];

pub(super) const GPT_NEOX: Options = &[
    ("hidden_act", Text("gelu")),
    ("layer_norm_eps", Number(1e-5)),
    // The class sets the base from this one, whatever `rope_theta` is.
    ("rotary_emb_base", Number(10_000.0)),
    ("rotary_pct", Number(0.25)),
    ("use_parallel_residual", Flag(true)),
    ("attention_bias", Flag(true)),
];

/// Why an option of another model type changes nothing.
pub(super) const OF_OTHERS: &str = "an option of other model types; `transformers` ignores it here";

const TRAINING: Meaning = Meaning::Harmless("only training reads it");
const DESCRIPTION: Meaning = Meaning::Harmless("it describes the file, not the model");
const SAMPLING: Meaning = Meaning::Harmless("a default of generate(), given here by flags");
const OUTPUTS: Meaning = Meaning::Harmless("which outputs a Python caller gets");
const HEADS: Meaning = Meaning::Harmless("only classifiers read it");
const OTHER_SCALING: Meaning = Meaning::Harmless("this kind of RoPE scaling does not read it");

/// What the keys mean that no reader uses.
pub(super) const RULES: &[Rule] = &[
    (
        &["bos_token_id", "eos_token_id", "pad_token_id"],
        Meaning::Elsewhere,
    ),
    (
        &[
            "attention_dropout",
            "attn_pdrop",
            "classifier_dropout",
            "embd_pdrop",
            "embed_dropout",
            "input_jitter_noise",
            "embedding_dropout",
            "gradient_checkpointing",
            "hidden_dropout",
            "initializer_range",
            "resid_pdrop",
            "residual_dropout",
            "router_aux_loss_coef",
            "router_jitter_noise",
            "output_router_logits",
        ],
        TRAINING,
    ),
    (
        &[
            "architectures",
            "auto_map",
            "dtype",
            "torch_dtype",
            "transformers_version",
            "transformers.js_config",
            "finetuning_task",
            "is_llama_config",
            "tokenizer_class",
            "prefix",
            "unsloth_fixed",
            "unsloth_version",
            "_name_or_path",
            "_commit_hash",
            "model_max_length",
            "max_sequence_length",
            "n_ctx",
            "seq_length",
        ],
        DESCRIPTION,
    ),
    (
        &[
            "bad_words_ids",
            "begin_suppress_tokens",
            "decoder_start_token_id",
            "diversity_penalty",
            "do_sample",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "length_penalty",
            "max_length",
            "max_new_tokens",
            "min_length",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "remove_invalid_values",
            "repetition_penalty",
            "suppress_tokens",
            "task_specific_params",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
        ],
        SAMPLING,
    ),
    (
        &[
            "output_attentions",
            "output_hidden_states",
            "output_scores",
            "return_dict",
            "return_dict_in_generate",
            "torchscript",
            "use_cache",
            "use_return_dict",
        ],
        OUTPUTS,
    ),
    (
        &[
            "id2label",
            "label2id",
            "num_labels",
            "problem_type",
            "sep_token_id",
            "summary_*",
        ],
        HEADS,
    ),
    (
        &[
            "_attn_implementation",
            "_attn_implementation_autoset",
            "attn_implementation",
            "_flash_attn_2_enabled",
            "use_flash_attn",
            "attention_softmax_in_fp32",
            "scale_attention_softmax_in_fp32",
            "chunk_size_feed_forward",
            "pretraining_tp",
            "tf_legacy_loss",
            "use_bfloat16",
            "cache_implementation",
        ],
        Meaning::Harmless("how the same numbers are computed"),
    ),
    (
        &["_sliding_window_pattern"],
        Meaning::Harmless("`transformers` writes it and reads layer_types"),
    ),
    (
        &[
            "add_cross_attention",
            "is_decoder",
            "is_encoder_decoder",
            "tie_encoder_decoder",
            "qk_layernorm",
            "use_bidirectional_attention",
            "use_mrope",
            "rope_interleaved",
        ],
        Meaning::Off(&["false", "null"]),
    ),
    // What one program or another writes of models that have no choice.
    (
        &[
            "rotary",
            "scale_attn_weights",
            "use_embedding_sharing",
            "use_gated_activation",
            "use_parallel_block",
            "use_parallel_embedding",
        ],
        Meaning::Off(&["true", "null"]),
    ),
    (
        &[
            "*quantization_config.ignored_layers",
            "*quantization_config.modules_to_not_convert",
        ],
        Meaning::Harmless("tensors tell how they are stored"),
    ),
    (
        &["*quantization_config.activation_scheme"],
        Meaning::Harmless("activations are not rounded to 8 bits here"),
    ),
    (
        &["*quantization_config.scale_fmt"],
        Meaning::Harmless("scales are read as they are stored"),
    ),
    (
        &["*quantization_config.fmt"],
        Meaning::Off(&["\"e4m3\"", "null"]),
    ),
    (
        &["lm_head_bias"],
        Meaning::Harmless("a head has a bias where the file has one"),
    ),
    (&["swiglu_alpha"], Meaning::Off(&["1.702"])),
    (&["mlp_type"], Meaning::Off(&["\"default\"", "null"])),
    (
        &["norm_type"],
        Meaning::Off(&["\"layer_norm\"", "\"rms\"", "\"hf_rms\"", "null"]),
    ),
    (
        &["order_of_interleaved_layers"],
        Meaning::Off(&["\"local_attn_first\"", "null"]),
    ),
    (
        &["position_embedding_type"],
        Meaning::Off(&["\"rope\"", "\"rope_gptj\"", "null"]),
    ),
    (
        &["pruned_heads", "quantization_config", "quantization"],
        Meaning::Off(&["{}", "null"]),
    ),
    (
        &[
            "clip_qkv",
            "cross_attention_hidden_size",
            "mrope_section",
            "*.mrope_section",
            "num_experts",
            "num_local_experts",
            "num_experts_per_tok",
            "n_routed_experts",
            "num_nextn_predict_layers",
        ],
        Meaning::Off(&["null", "0"]),
    ),
    (
        &[
            "*.partial_rotary_factor",
            "attention_multiplier",
            "embedding_multiplier",
            "logits_scaling",
            "residual_multiplier",
        ],
        Meaning::Off(&["null", "1", "1.0"]),
    ),
    (
        &["rope_scaling", "rope_parameters"],
        Meaning::Off(&["null", "{}"]),
    ),
    (
        &[
            "*.attention_factor",
            "*.beta_fast",
            "*.beta_slow",
            "*.factor",
            "*.finetuned",
            "*.high_freq_factor",
            "*.long_factor",
            "*.low_freq_factor",
            "*.mscale",
            "*.mscale_all_dim",
            "*.original_max_position_embeddings",
            "original_max_position_embeddings",
            "*.short_factor",
            "*.truncate",
        ],
        OTHER_SCALING,
    ),
    (
        &[
            "*.rope_theta",
            "*.rope_type",
            "*.type",
            "layer_types",
            "max_window_layers",
            "no_rope_layer_interval",
            "rope_theta",
            "rotary_emb_base",
            "rotary_pct",
            "experts_per_token",
            "initial_context_length",
            "sliding_window",
            "layer_switch",
            "sliding_window_pattern",
            "use_sliding_window",
        ],
        Meaning::Harmless("another option stands in its place, or switches it off"),
    ),
];

//! What the keys of a GGUF header mean that the configuration is not read from.
//!
//! The names are those of `gguf-py/gguf/constants.py` of llama.cpp; `arch` stands for the name of
//! the file's architecture, `other` comes before names of
//! none of the namespaces that llama.cpp reads.

use crate::keys::{Meaning, Rule};

const DESCRIPTION: Meaning = Meaning::Harmless("it describes the file, not the model");

pub(super) const RULES: &[Rule] = &[
    (
        &["general.architecture", "general.name", "general.alignment"],
        Meaning::Elsewhere,
    ),
    (&["general.type"], Meaning::Off(&["the string \"model\""])),
    (
        &["general.sampling.*"],
        Meaning::Harmless("how its publisher samples; used where that is asked for"),
    ),
    (&["general.*"], DESCRIPTION),
    (
        &[
            "tokenizer.chat_template",
            "tokenizer.ggml.add_bos_token",
            "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.add_space_prefix",
            "tokenizer.ggml.bos_token_id",
            "tokenizer.ggml.eom_token_id",
            "tokenizer.ggml.eos_token_id",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.merges",
            "tokenizer.ggml.model",
            "tokenizer.ggml.pre",
            "tokenizer.ggml.scores",
            "tokenizer.ggml.token_type",
            "tokenizer.ggml.tokens",
            "tokenizer.ggml.unknown_token_id",
        ],
        Meaning::Elsewhere,
    ),
    (
        &[
            "tokenizer.huggingface.json",
            "tokenizer.ggml.token_type_count",
        ],
        Meaning::Harmless("the tokens, their types and merges are read instead"),
    ),
    (
        &["tokenizer.chat_templates", "tokenizer.chat_template.*"],
        Meaning::Harmless("templates for other uses; the default one is read"),
    ),
    (
        &[
            "tokenizer.ggml.add_sep_token",
            "tokenizer.ggml.cls_token_id",
            "tokenizer.ggml.fim_*",
            "tokenizer.ggml.mask_token_id",
            "tokenizer.ggml.middle_token_id",
            "tokenizer.ggml.padding_token_id",
            "tokenizer.ggml.prefix_token_id",
            "tokenizer.ggml.seperator_token_id",
            "tokenizer.ggml.suffix_token_id",
        ],
        Meaning::Harmless("a token for uses other than continuing a text"),
    ),
    (
        &[
            "tokenizer.ggml.precompiled_charsmap",
            "tokenizer.ggml.remove_extra_whitespaces",
        ],
        Meaning::Off(&["false", "an array of 0 U8", "an array of 0 I8"]),
    ),
    (
        &["split.count", "split.no", "split.tensors.count"],
        Meaning::Elsewhere,
    ),
    (
        &["arch.rope.scaling.finetuned", "arch.tensor_data_layout"],
        DESCRIPTION,
    ),
    (
        &[
            "arch.attention.layer_norm_epsilon",
            "arch.attention.layer_norm_rms_epsilon",
        ],
        Meaning::Harmless("the architecture has norms of the other kind"),
    ),
    // llama.cpp decides by the norm that parallel blocks lack.
    (
        &["arch.use_parallel_residual"],
        Meaning::Harmless("the architecture has one form, or its tensors tell which"),
    ),
    (
        &[
            "arch.rope.scaling.yarn_ext_factor",
            "arch.rope.scaling.yarn_attn_factor",
        ],
        Meaning::Off(&["1"]),
    ),
    (
        &["arch.rope.scale_linear", "arch.rope.scaling.factor"],
        Meaning::Harmless("another key of RoPE scaling stands in its place"),
    ),
    (
        &[
            "arch.rope.scaling.original_context_length",
            "arch.rope.scaling.yarn_beta_fast",
            "arch.rope.scaling.yarn_beta_slow",
        ],
        Meaning::Harmless("this kind of RoPE scaling does not read it"),
    ),
    (&["arch.attention.causal"], Meaning::Off(&["true"])),
    (
        &[
            "arch.attention.scale",
            "arch.embedding_scale",
            "arch.logit_scale",
            "arch.residual_scale",
        ],
        Meaning::Off(&["0", "1"]),
    ),
    (
        &[
            "arch.attention.clamp_kqv",
            "arch.attention.max_alibi_bias",
            "arch.attention.sliding_window",
            "arch.attn_logit_softcapping",
            "arch.expert_chunk_feed_forward_length",
            "arch.expert_feed_forward_length",
            "arch.expert_gating_func",
            "arch.expert_group_count",
            "arch.expert_group_used_count",
            "arch.expert_shared_count",
            "arch.expert_shared_feed_forward_length",
            "arch.expert_used_count",
            "arch.expert_weights_scale",
            "arch.interleave_moe_layer_step",
            "arch.moe_every_n_layers",
            "arch.final_logit_softcapping",
            "arch.leading_dense_block_count",
            "arch.nextn_predict_layers",
            "arch.pooling_type",
            "arch.rope.scaling.alpha",
            "arch.rope.scaling.yarn_log_multiplier",
        ],
        Meaning::Off(&["0"]),
    ),
    (
        &["other.*"],
        Meaning::Harmless("a note of the program that wrote the file"),
    ),
];

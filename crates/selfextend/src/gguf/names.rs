//! The architectures this reader knows, by the names GGUF gives them, and the names of their
//! tensors.

use crate::families::{self, Family};
use crate::weights::{Names, Part, Reading, Tied};
use selfextend_attention::PairLayout;

/// What GGUF calls a family, and how it stores one.
pub(super) struct Architecture {
    pub name: &'static str,
    pub family: Family,
    /// llama.cpp's converter reorders the rows of some, so that pairs are neighbours.
    pub layout: PairLayout,
    parts: &'static [&'static [(Part, &'static str)]],
}

const COMMON: Architecture = Architecture {
    name: "",
    family: families::LLAMA,
    layout: PairLayout::HalfSplit,
    parts: &[PRE_NORMS, ATTENTION, GATED],
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
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        // Mistral's files have the same name.
        family: families::MISTRAL,
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Architecture {
        name: "smollm3",
        family: families::SMOLLM3,
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Architecture {
        name: "qwen2",
        family: families::QWEN2,
        ..COMMON
    },
    Architecture {
        name: "qwen3",
        family: families::QWEN3,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
        ..COMMON
    },
    Architecture {
        name: "phi2",
        family: families::PHI2,
        parts: &[&[(Part::AttentionNorm, "attn_norm")], ATTENTION, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "phi3",
        family: families::PHI3,
        parts: &[PRE_NORMS, ATTENTION, FUSED_GATE],
        ..COMMON
    },
    Architecture {
        name: "gemma",
        family: families::GEMMA,
        ..COMMON
    },
    Architecture {
        name: "gemma2",
        family: families::GEMMA2,
        parts: &[PRE_NORMS, ATTENTION, GATED, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "gemma3",
        family: families::GEMMA3,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "stablelm",
        family: families::STABLELM,
        ..COMMON
    },
    Architecture {
        name: "olmo2",
        family: families::OLMO2,
        parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "gptneox",
        family: families::GPT_NEOX,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
];

impl Architecture {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|known| known.name == name)
    }

    /// How the weights are to be read, where blocks are parallel or not.
    pub(super) fn reading(&self, parallel: bool) -> Reading {
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
                unread: &[],
            },
            norm_offset: 0.0,
            by_head: false,
            tied: Tied::IfAlone,
            biased: self.family.biased.to_vec(),
            unbiased: Vec::new(),
            shares_norm: self.family.shares_norm && parallel,
        }
    }
}

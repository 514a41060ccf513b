//! The architectures this reader knows, by the names GGUF gives them, and the names of their
//! tensors.

use crate::families::{self, Family};
use crate::weights::{Curves, Fused, Names, Part, Reading, Stacks, Tied};
use selfextend_attention::PairLayout;

/// What GGUF calls a family, and how it stores one.
pub(super) struct Architecture {
    pub name: &'static str,
    pub family: Family,
    /// llama.cpp's converter reorders the rows of some, so that pairs are neighbours.
    pub layout: PairLayout,
    /// What embeddings and residuals are multiplied by and logits divided by, given layers and hidden
    /// size, where the header does not say.
    pub usual_multipliers: Option<fn(usize, usize) -> [f64; 3]>,
    parts: &'static [&'static [(Part, &'static str)]],
    /// Of these, those that some models have and others have not.
    optional: &'static [Part],
}

const COMMON: Architecture = Architecture {
    name: "",
    family: families::LLAMA,
    layout: PairLayout::HalfSplit,
    usual_multipliers: None,
    parts: &[PRE_NORMS, ATTENTION, GATED],
    optional: &[],
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
const EITHER_NORM: &[Part] = &[Part::QueryNorm, Part::KeyNorm];
const INPUT_NORM: &[(Part, &str)] = &[(Part::AttentionNorm, "attn_norm")];
const GATED: &[(Part, &str)] = &[
    (Part::Gate, "ffn_gate"),
    (Part::Up, "ffn_up"),
    (Part::Down, "ffn_down"),
];
const EXPERTS: &[(Part, &str)] = &[
    (Part::Router, "ffn_gate_inp"),
    (Part::ExpertGateUp, "ffn_gate_up_exps"),
    (Part::ExpertGate, "ffn_gate_exps"),
    (Part::ExpertUp, "ffn_up_exps"),
    (Part::ExpertDown, "ffn_down_exps"),
    // Before llama.cpp merged them.
    (Part::ExpertGate, "ffn_gate.{}"),
    (Part::ExpertUp, "ffn_up.{}"),
    (Part::ExpertDown, "ffn_down.{}"),
];
const SHARED: &[(Part, &str)] = &[
    (Part::SharedGate, "ffn_gate_shexp"),
    (Part::SharedUp, "ffn_up_shexp"),
    (Part::SharedDown, "ffn_down_shexp"),
];
const SHARED_SWITCH: &[(Part, &str)] = &[(Part::SharedSwitch, "ffn_gate_inp_shexp")];
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
        // Mistral's and Mixtral's files have the same name.
        family: families::MIXTRAL,
        layout: PairLayout::Interleaved,
        parts: &[PRE_NORMS, ATTENTION, GATED, EXPERTS],
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
        name: "qwen2moe",
        family: families::QWEN2_MOE,
        parts: &[PRE_NORMS, ATTENTION, GATED, EXPERTS, SHARED, SHARED_SWITCH],
        ..COMMON
    },
    Architecture {
        name: "qwen3moe",
        family: families::QWEN3_MOE,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED, EXPERTS],
        ..COMMON
    },
    Architecture {
        name: "phi2",
        family: families::PHI2,
        parts: &[INPUT_NORM, ATTENTION, PLAIN],
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
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
        optional: EITHER_NORM,
        ..COMMON
    },
    Architecture {
        name: "olmo2",
        // Without a window in the header, what OLMo 3 has more is off.
        family: families::OLMO3,
        parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "granitemoe",
        family: families::GRANITE_MOE,
        layout: PairLayout::Interleaved,
        parts: &[PRE_NORMS, ATTENTION, EXPERTS, SHARED],
        ..COMMON
    },
    Architecture {
        name: "glm4moe",
        family: families::GLM4_MOE,
        parts: &[
            INPUT_NORM,
            &[(Part::FeedForwardNorm, "post_attention_norm")],
            ATTENTION,
            QK_NORMS,
            GATED,
            EXPERTS,
            &[(Part::ChoiceBias, "exp_probs_b.bias")],
            SHARED,
        ],
        optional: EITHER_NORM,
        ..COMMON
    },
    Architecture {
        name: "gpt-oss",
        family: families::GPT_OSS,
        parts: &[
            INPUT_NORM,
            &[
                (Part::FeedForwardNorm, "post_attention_norm"),
                (Part::Sinks, "attn_sinks.weight"),
            ],
            ATTENTION,
            EXPERTS,
        ],
        ..COMMON
    },
    Architecture {
        name: "phimoe",
        family: families::PHIMOE,
        parts: &[PRE_NORMS, ATTENTION, EXPERTS],
        ..COMMON
    },
    Architecture {
        name: "hunyuan-dense",
        family: families::HUNYUAN,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, GATED],
        ..COMMON
    },
    Architecture {
        name: "olmoe",
        family: families::OLMOE,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, EXPERTS],
        ..COMMON
    },
    Architecture {
        name: "gptneox",
        family: families::GPT_NEOX,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "granite",
        family: families::GRANITE,
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Architecture {
        name: "minicpm",
        family: families::GRANITE,
        layout: PairLayout::Interleaved,
        // Those of MiniCPM 1 and 2, which older headers leave out.
        usual_multipliers: Some(|layers, hidden| {
            [12.0, 1.4 / (layers as f64).sqrt(), hidden as f64 / 256.0]
        }),
        ..COMMON
    },
    Architecture {
        name: "starcoder2",
        family: families::STARCODER2,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "nemotron",
        family: families::NEMOTRON,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "chatglm",
        layout: PairLayout::Interleaved,
        parts: &[PRE_NORMS, ATTENTION, FUSED_GATE],
        ..COMMON
    },
    Architecture {
        name: "glm4",
        layout: PairLayout::Interleaved,
        parts: &[PRE_NORMS, ATTENTION, FUSED_GATE, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "command-r",
        family: families::COHERE,
        layout: PairLayout::Interleaved,
        parts: &[INPUT_NORM, ATTENTION, QK_NORMS, GATED],
        optional: EITHER_NORM,
        ..COMMON
    },
    Architecture {
        name: "cohere2",
        family: families::COHERE2,
        layout: PairLayout::Interleaved,
        parts: &[INPUT_NORM, ATTENTION, GATED],
        ..COMMON
    },
    Architecture {
        name: "internlm2",
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Architecture {
        name: "exaone",
        ..COMMON
    },
    Architecture {
        name: "exaone4",
        family: families::EXAONE4,
        parts: &[ATTENTION, QK_NORMS, GATED, POST_NORMS],
        ..COMMON
    },
    Architecture {
        name: "olmo",
        family: families::OLMO,
        layout: PairLayout::Interleaved,
        parts: &[ATTENTION, GATED],
        ..COMMON
    },
    Architecture {
        name: "apertus",
        family: families::APERTUS,
        parts: &[PRE_NORMS, ATTENTION, QK_NORMS, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "jais2",
        family: families::NEMOTRON,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
    Architecture {
        name: "ernie4_5",
        layout: PairLayout::Interleaved,
        ..COMMON
    },
    Architecture {
        name: "seed_oss",
        parts: &[
            &[
                (Part::AttentionNorm, "attn_norm"),
                (Part::FeedForwardNorm, "post_attention_norm"),
            ],
            ATTENTION,
            GATED,
        ],
        ..COMMON
    },
    Architecture {
        name: "arcee",
        family: families::ARCEE,
        layout: PairLayout::Interleaved,
        parts: &[PRE_NORMS, ATTENTION, PLAIN],
        ..COMMON
    },
];

impl Architecture {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|known| known.name == name)
    }

    /// Whether something reads every token beside the experts.
    pub(super) fn shares_expert(&self) -> bool {
        let mut parts = self.parts.iter().copied().flatten();
        parts.any(|(part, _)| *part == Part::SharedUp)
    }

    /// How the weights are to be read, where blocks are parallel or not, and where the file has the
    /// tensors of the first block that it has.
    pub(super) fn reading(
        &self,
        parallel: bool,
        curves: Curves,
        ahead: usize,
        has: impl Fn(&str) -> bool,
    ) -> Reading {
        let all = self.parts.iter().copied().flatten();
        let is_lacking = |(part, name): &(Part, &str)| {
            self.optional.contains(part) && !has(&format!("blk.0.{name}.weight"))
        };
        let lacking = all.copied().filter(is_lacking).map(|(part, _)| part);
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
            fused: Fused::InTurn,
            tied: Tied::IfAlone,
            biased: self.family.biased.to_vec(),
            unbiased: Vec::new(),
            stacks: Stacks::default(),
            lacking: lacking.collect(),
            curves,
            plain_norms: self.family.plain_norms,
            shares_norm: self.family.shares_norm && parallel,
            ahead,
        }
    }
}

//! What the models of a family have in common, whatever file they are read from.
//!
//! The file formats add what is theirs: the names of keys and tensors, and how weights are stored.

use crate::config::{Activation, NormKind, QkNorm, Routing, Score};
use crate::weights::{ALL_BIASED, PLAIN_BIASED, Part};

/// What all models of a family have in common and their files do not say, or may leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub norm: NormKind,
    pub activation: Activation,
    /// Each layer has an activation with numbers of its own in its place.
    pub own_curves: bool,
    pub parallel: Parallel,
    pub qk_norm: QkNorm,
    /// Norms of blocks, and the last one, have no weights.
    pub plain_norms: bool,
    /// Added to the variance in norms, where config.json does not say.
    pub norm_eps: Option<f32>,
    /// Embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// What the file says embeddings, scores, residuals and logits are multiplied or divided by.
    pub multipliers: Multipliers,
    /// Queries, keys and values are cut to a limit that the file gives.
    pub limits_qkv: bool,
    pub slides: Slides,
    /// The window of local layers, where a GGUF header has none.
    pub sliding_window: Option<usize>,
    /// The base frequency of layers with a sliding window, where it is not that of the others.
    pub local_theta: Option<f64>,
    /// Layers with a sliding window have the rotary embedding of the others without its scaling.
    pub unscaled_local: bool,
    /// The caps of scores and of logits, where a GGUF header has none; 0 for no cap. `None` for
    /// families that never have them.
    pub soft_caps: Option<[f32; 2]>,
    /// Every so many layers, the last has no rotary embedding; 0 for none.
    pub no_rope_interval: usize,
    /// Which layers without a sliding window have a rotary embedding.
    pub turns_global: TurnsGlobal,
    /// Models of so many layers scale scores by the hidden size per head, not by the head's, where
    /// the file does not say.
    pub scaled_by_width: usize,
    /// How sparse layers choose their experts, where the file does not say; `None` for families that
    /// have no such layers.
    pub routing: Option<Routing>,
    /// Each query head has a sink.
    pub sinks: bool,
    /// Queries and keys are normalised after their rotation.
    pub norms_turned: bool,
    /// What gates of experts are cut to, where the file does not say; `None` for families that cut none.
    pub expert_limit: Option<f32>,
    /// YaRN's ramp does not begin and end at whole pairs, where a file cannot say.
    pub exact_yarn: bool,
    /// Parts that must have a bias. Others may.
    pub biased: &'static [Part],
    /// Parallel blocks have no norm before their feed-forward layer, which reads what attention
    /// reads. A GGUF header does not say which blocks are parallel; that norm's absence does.
    pub shares_norm: bool,
}

/// Whether attention and feed-forward layer read the same input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parallel {
    Never,
    Always,
    /// As the file says.
    Declared,
}

/// The factors of activations that a file gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Multipliers {
    None,
    /// Logits are multiplied.
    Logits,
    /// Embeddings, scores and residuals are multiplied, logits divided.
    All,
}

/// Whether layers that see all keys have a rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnsGlobal {
    Always,
    Never,
    /// Where no layer has a sliding window.
    WithoutLocal,
}

/// Which layers have a sliding window, where a file gives its length and has no list of layers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slides {
    /// None: the family has no sliding windows.
    Never,
    /// Every layer.
    All,
    /// All but the last of every so many.
    AllButEvery(usize),
    /// Those from `max_window_layers` on, where `use_sliding_window` is true.
    Switched,
    /// Those without a rotary embedding, where `use_sliding_window` is true.
    WithoutRope,
}

/// Most families: RMS norms before sequential attention and a feed-forward layer gated by SiLU.
pub(crate) const LLAMA: Family = Family {
    norm: NormKind::Rms,
    activation: Activation::Silu,
    own_curves: false,
    parallel: Parallel::Never,
    qk_norm: QkNorm::Head,
    plain_norms: false,
    norm_eps: None,
    scales_embedding: false,
    multipliers: Multipliers::None,
    limits_qkv: false,
    slides: Slides::Never,
    sliding_window: None,
    local_theta: None,
    unscaled_local: false,
    soft_caps: None,
    no_rope_interval: 0,
    turns_global: TurnsGlobal::Always,
    scaled_by_width: 0,
    routing: None,
    sinks: false,
    norms_turned: false,
    expert_limit: None,
    exact_yarn: false,
    biased: &[],
    shares_norm: false,
};

pub(crate) const MISTRAL: Family = Family {
    slides: Slides::All,
    ..LLAMA
};

pub(crate) const SMOLLM3: Family = Family {
    slides: Slides::WithoutRope,
    no_rope_interval: 4,
    ..LLAMA
};

pub(crate) const QWEN2: Family = Family {
    slides: Slides::Switched,
    biased: &[Part::Query, Part::Key, Part::Value],
    ..LLAMA
};

pub(crate) const QWEN3: Family = Family {
    slides: Slides::Switched,
    ..LLAMA
};

/// Phi-1.5 and Phi-2.
pub(crate) const PHI2: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    parallel: Parallel::Always,
    biased: ALL_BIASED,
    ..LLAMA
};

pub(crate) const PHI3: Family = Family {
    slides: Slides::All,
    ..LLAMA
};

pub(crate) const GEMMA: Family = Family {
    activation: Activation::GeluTanh,
    scales_embedding: true,
    ..LLAMA
};

pub(crate) const GEMMA2: Family = Family {
    slides: Slides::AllButEvery(2),
    sliding_window: Some(4096),
    soft_caps: Some([50.0, 30.0]),
    scaled_by_width: 46,
    ..GEMMA
};

pub(crate) const GEMMA3: Family = Family {
    slides: Slides::AllButEvery(6),
    soft_caps: Some([0.0, 0.0]),
    sliding_window: None,
    local_theta: Some(10_000.0),
    scaled_by_width: 62,
    ..GEMMA
};

pub(crate) const STABLELM: Family = Family {
    norm: NormKind::Layer,
    parallel: Parallel::Declared,
    qk_norm: QkNorm::OwnHead,
    biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
    shares_norm: true,
    ..LLAMA
};

pub(crate) const OLMO2: Family = Family {
    qk_norm: QkNorm::Row,
    ..LLAMA
};

pub(crate) const OLMO3: Family = Family {
    slides: Slides::AllButEvery(4),
    unscaled_local: true,
    ..OLMO2
};

pub(crate) const GPT_NEOX: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::Gelu,
    parallel: Parallel::Declared,
    // Those of attention by an option.
    biased: PLAIN_BIASED,
    ..LLAMA
};

pub(crate) const GRANITE: Family = Family {
    multipliers: Multipliers::All,
    ..LLAMA
};

pub(crate) const STARCODER2: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    slides: Slides::All,
    biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
    ..LLAMA
};

/// Nemotron 3 and 4, Minitron.
pub(crate) const NEMOTRON: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::ReluSquared,
    biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
    ..LLAMA
};

/// Command-R and Aya 23.
pub(crate) const COHERE: Family = Family {
    norm: NormKind::Layer,
    parallel: Parallel::Always,
    qk_norm: QkNorm::OwnHead,
    multipliers: Multipliers::Logits,
    ..LLAMA
};

/// Command-R7B and Command-A.
pub(crate) const COHERE2: Family = Family {
    slides: Slides::AllButEvery(4),
    turns_global: TurnsGlobal::Never,
    ..COHERE
};

pub(crate) const EXAONE4: Family = Family {
    slides: Slides::AllButEvery(4),
    turns_global: TurnsGlobal::WithoutLocal,
    ..LLAMA
};

/// OLMo 1 and 1.7.
pub(crate) const OLMO: Family = Family {
    norm: NormKind::Layer,
    plain_norms: true,
    norm_eps: Some(1e-5),
    limits_qkv: true,
    ..LLAMA
};

pub(crate) const ARCEE: Family = Family {
    activation: Activation::ReluSquared,
    ..LLAMA
};

pub(crate) const APERTUS: Family = Family {
    own_curves: true,
    ..LLAMA
};

pub(crate) const GPT_J: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    parallel: Parallel::Always,
    biased: PLAIN_BIASED,
    ..LLAMA
};

pub(crate) const PERSIMMON: Family = Family {
    norm: NormKind::Layer,
    activation: Activation::ReluSquared,
    biased: ALL_BIASED,
    ..LLAMA
};

/// A softmax over all experts; weights of the chosen add up to 1.
const NORMALISED: Routing = Routing {
    normalised: true,
    ..Routing::SOFTMAX
};

pub(crate) const MIXTRAL: Family = Family {
    routing: Some(NORMALISED),
    ..MISTRAL
};

pub(crate) const QWEN2_MOE: Family = Family {
    routing: Some(Routing::SOFTMAX),
    ..QWEN2
};

pub(crate) const QWEN3_MOE: Family = Family {
    routing: Some(NORMALISED),
    ..QWEN3
};

pub(crate) const OLMOE: Family = Family {
    routing: Some(Routing::SOFTMAX),
    limits_qkv: true,
    ..OLMO2
};

pub(crate) const GRANITE_MOE: Family = Family {
    routing: Some(Routing {
        score: Score::ChosenSoftmax,
        ..Routing::SOFTMAX
    }),
    ..GRANITE
};

/// GLM-4.5 and 4.6.
pub(crate) const GLM4_MOE: Family = Family {
    routing: Some(Routing {
        score: Score::Sigmoid,
        ..NORMALISED
    }),
    ..LLAMA
};

pub(crate) const GPT_OSS: Family = Family {
    activation: Activation::GeluSigmoid,
    slides: Slides::AllButEvery(2),
    routing: Some(Routing {
        score: Score::ChosenSoftmax,
        ..Routing::SOFTMAX
    }),
    sinks: true,
    expert_limit: Some(7.0),
    exact_yarn: true,
    biased: &[
        Part::Query,
        Part::Key,
        Part::Value,
        Part::AttentionOutput,
        Part::Router,
        Part::ExpertGate,
        Part::ExpertUp,
        Part::ExpertGateUp,
        Part::ExpertDown,
    ],
    ..LLAMA
};

/// Phi-3.5-MoE.
pub(crate) const PHIMOE: Family = Family {
    norm: NormKind::Layer,
    routing: Some(Routing {
        score: Score::Nearest(0.01),
        ..Routing::SOFTMAX
    }),
    biased: &[Part::AttentionNorm, Part::FeedForwardNorm],
    ..MISTRAL
};

pub(crate) const HUNYUAN: Family = Family {
    norms_turned: true,
    ..LLAMA
};

/// Families that are not run, by the names that files give them, and what is missing.
pub(crate) const MISSING: &[(&[&str], &str)] = &[
    (
        &[
            "deepseek2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "kimi_k2",
            "minicpm3",
        ],
        "latent attention: its keys and values are made from one compressed row of a token, and only a \
         part of a key is rotated, for which there is no cache here",
    ),
    (
        &["gemma3n", "gemma3n_text"],
        "several residual streams (AltUp), embeddings of each layer and layers that share their keys",
    ),
    (
        &["llama4", "llama4_text"],
        "attention within chunks of a text, and queries that are scaled by their position",
    ),
    (
        &["ministral3", "mistral3"],
        "queries that are scaled by their position (llama_4_scaling_beta)",
    ),
    (
        &["falcon", "RefinedWeb", "RefinedWebModel"],
        "queries, keys and values fused group by group; Falcon-RW has ALiBi in place of rotary \
         embeddings, which no method here extends",
    ),
    (
        &["bloom", "mpt"],
        "ALiBi in place of rotary embeddings, which no method here extends",
    ),
    (
        &["gpt2", "gpt_bigcode", "opt", "starcoder"],
        "learned positions in place of rotary embeddings, which no method here extends",
    ),
    (
        &["mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv6", "rwkv7"],
        "no attention: a recurrent state is not extended by positions",
    ),
    (
        &[
            "qwen3_next",
            "qwen3next",
            "falcon_h1",
            "falcon-h1",
            "jamba",
            "granitemoehybrid",
            "granitehybrid",
            "nemotron_h",
            "lfm2",
        ],
        "layers with a recurrent state beside those of attention",
    ),
];

/// What is missing to run a family that a file names.
pub(crate) fn missing(name: &str) -> Option<&'static str> {
    let mut all = MISSING.iter();
    let found = all.find(|(names, _)| names.contains(&name));
    found.map(|(_, what)| *what)
}

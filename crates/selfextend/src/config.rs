//! What a model is, as data: the file formats write it, the decoder reads nothing else.

pub use crate::routing::{Experts, Routing, Score};
use selfextend_attention::{AttentionError, AttentionShape, Rope, RopeSpec};

/// More components than any head has. A larger number would only allocate absurd amounts of memory.
pub(crate) const MAX_HEAD_DIM: usize = 1 << 16;
/// More layers than any model has.
pub(crate) const MAX_LAYERS: usize = 1 << 16;

/// The sizes and choices of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The file's name for the architecture, only for display.
    pub architecture: String,
    /// The model's name, where the file has one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer, where it is not sparse.
    pub feed_forward: usize,
    /// The sparse layers of a mixture of experts.
    pub experts: Option<Experts>,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained on (`L`).
    pub trained_window: usize,
    /// How activations are normalised.
    pub norm: NormKind,
    /// Added to the mean square (or the variance) in norms.
    pub norm_eps: f32,
    /// Attention and feed-forward layer both read the block's input, and are added to it together.
    pub parallel: bool,
    /// What the feed-forward layer, gated or plain, applies element by element, unless layers have a
    /// curve of their own ([`XieLu`]).
    pub activation: Activation,
    /// What the norms of queries and keys, where the weights have them, span.
    pub qk_norm: QkNorm,
    /// What scores are multiplied by; `1/sqrt(head_dim)` where absent.
    pub attention_scale: Option<f32>,
    /// Scores `s` become `cap * tanh(s / cap)`.
    pub attention_soft_cap: Option<f32>,
    /// Logits `x` become `cap * tanh(x / cap)`.
    pub logit_soft_cap: Option<f32>,
    /// What logits are multiplied by, before a soft cap.
    pub logit_scale: f32,
    /// What token embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What attention and feed-forward layers give is multiplied by before it is added to the residual
    /// stream.
    pub residual_scale: f32,
    /// Queries, keys and values are cut to `[-limit, limit]`.
    pub qkv_limit: Option<f32>,
    /// Each query head has a sink: a score without a value, which takes part in its softmax.
    pub sinks: bool,
    /// Queries and keys are normalised after their rotation. As that leaves lengths, they are normalised
    /// before it here, and only the weights of both norms come after it.
    pub norms_turned: bool,
    /// The rotary embedding, with the model's own scaling.
    pub rope: RopeSpec,
    /// A context in tokens, and the rotary embedding of sessions up to it (longrope's short factors).
    pub short_rope: Option<(usize, RopeSpec)>,
    /// The rotary embedding of layers that are [`Rotary::Local`].
    pub local_rope: Option<RopeSpec>,
    /// How each layer attends, first layer first.
    pub attention: Vec<LayerAttention>,
}

impl ModelConfig {
    /// Heads, head size, scale and soft cap of its attention.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for heads that do not fit together.
    pub fn attention_shape(&self) -> Result<AttentionShape, AttentionError> {
        let shape = AttentionShape::new(self.heads, self.kv_heads, self.head_dim)?;
        let shape = self
            .attention_scale
            .map_or(shape, |scale| shape.with_scale(scale));
        let capped = |cap| shape.with_soft_cap(cap);
        Ok(self.attention_soft_cap.map_or(shape, capped))
    }

    /// Checks the sizes of a header that would overflow, or allocate absurd amounts of memory, later.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden size", self.hidden, 1 << 24),
            ("feed-forward size", self.feed_forward, 1 << 24),
            ("number of heads", self.heads, 1 << 16),
            ("head size", self.head_dim, MAX_HEAD_DIM),
            ("vocabulary", self.vocab, 1 << 28),
        ];
        for (name, size, limit) in sizes {
            if size == 0 || size > limit {
                return Err(format!("no model has a {name} of {size}"));
            }
        }
        if let Some(experts) = &self.experts {
            experts.check()?;
        }
        self.attention_shape().map_err(|error| error.to_string())?;
        let factors = [
            ("embeddings", self.embedding_scale),
            ("residuals", self.residual_scale),
            ("logits", self.logit_scale),
        ];
        for (what, factor) in factors {
            if factor == 0.0 || !factor.is_finite() {
                return Err(format!("no model multiplies its {what} by {factor}"));
            }
        }
        if let Some(limit) = self.qkv_limit.filter(|&it| it.is_nan() || it <= 0.0) {
            return Err(format!("no model cuts its queries and keys to {limit}"));
        }
        let short = self.short_rope.as_ref().map(|(_, rope)| rope);
        let mut ropes = [&self.rope]
            .into_iter()
            .chain(&self.local_rope)
            .chain(short);
        ropes
            .try_for_each(|rope| Rope::new(rope.clone()).map(|_| ()))
            .map_err(|error| error.to_string())
    }

    /// Weights of the experts that do not read a token, of all layers.
    pub fn idle_parameters(&self) -> usize {
        let Some(experts) = &self.experts else {
            return 0;
        };
        let layers = experts.sparse.iter().filter(|sparse| **sparse).count();
        // A gate, what it gates, and the way back.
        let each = 3 * experts.width * self.hidden;
        layers * (experts.count - experts.used) * each
    }

    /// Whether every layer has a sliding window. It then limits how far the whole model sees, and
    /// does not divide the layers into local and global ones.
    pub fn slides_everywhere(&self) -> bool {
        self.attention.iter().all(|layer| layer.window.is_some())
    }

    /// How many layers an extension of the context changes: those that see all keys, or would but for a
    /// window that every layer has, and know their positions. Local layers keep theirs.
    pub fn extended_layers(&self) -> usize {
        let everywhere = self.slides_everywhere();
        let layers = self.attention.iter();
        layers
            .filter(|layer| layer.rotary != Rotary::None && (everywhere || layer.window.is_none()))
            .count()
    }
}

/// How activations are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// By their root mean square.
    Rms,
    /// By mean and variance, with a bias.
    Layer,
}

/// What an activation function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x * Phi(x)` by its approximation with a hyperbolic tangent (arXiv 1606.08415, section 2).
    GeluTanh,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// `x / (1 + e^-1.702x)` (arXiv 1606.08415, section 2).
    GeluSigmoid,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2` (arXiv 2109.08668, section 3.2).
    ReluSquared,
}

/// The activation xIELU (arXiv 2411.13010): `positive x^2 + beta x` above 0, and `negative
/// (e^min(x, epsilon) - 1 - x) + beta x` below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct XieLu {
    /// The curvature above 0.
    pub positive: f32,
    /// The curvature below 0.
    pub negative: f32,
    /// The slope at 0.
    pub beta: f32,
    /// Just below 0: no larger number is exponentiated.
    pub epsilon: f32,
}

impl XieLu {
    /// From what was trained, whose softplus the curvatures are; that below 0 is over `beta`.
    pub(crate) fn trained([positive, negative, beta, epsilon]: [f32; 4]) -> Self {
        let softplus = |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p();
        Self {
            positive: softplus(positive),
            negative: beta + softplus(negative),
            beta,
            epsilon,
        }
    }
}

/// What norms of queries and keys span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself, all with the same weights.
    Head,
    /// Each head by itself, each with weights of its own.
    OwnHead,
    /// All heads of a token together.
    Row,
}

/// How one layer attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerAttention {
    /// Its rotary embedding.
    pub rotary: Rotary,
    /// How many keys, its own included, a query sees; all where absent.
    pub window: Option<usize>,
}

/// Which rotary embedding a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotary {
    /// The model's.
    Global,
    /// The one of its local layers.
    Local,
    /// None: its scores do not depend on positions.
    None,
}

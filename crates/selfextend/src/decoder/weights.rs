//! What the decoder multiplies with.

use crate::backend::Backend;
use crate::config::{Routing, XieLu};

/// Weights of a decoder.
pub struct Weights<B: Backend> {
    /// Token embedding, `[vocab, hidden]`.
    pub embedding: B::Matrix,
    /// Output head; the embedding when absent.
    pub output: Option<B::Matrix>,
    /// Its bias.
    pub output_bias: Option<B::Vector>,
    /// Norm before the output head.
    pub output_norm: Norm<B>,
    /// Transformer layers.
    pub layers: Vec<LayerWeights<B>>,
}

/// A linear layer.
pub struct Linear<B: Backend> {
    /// `[outputs, inputs]`.
    pub weight: B::Matrix,
    /// Added to its outputs, where there is one.
    pub bias: Option<B::Vector>,
}

/// The weights of a norm.
pub struct Norm<B: Backend> {
    /// What normalised activations are multiplied by.
    pub weight: B::Vector,
    /// What is added afterwards.
    pub bias: Option<B::Vector>,
    /// What the heads of a token, normalised each by itself, are multiplied by last.
    pub heads: Option<B::Vector>,
}

impl<B: Backend> Weights<B> {
    /// Bytes of all matrices.
    pub fn bytes(&self, backend: &B) -> usize {
        let layers = self.layers.iter().flat_map(|layer| {
            let LayerWeights {
                query,
                key,
                value,
                attention_output,
                feed_forward,
                ..
            } = layer;
            let linear = [query, key, value, attention_output];
            let attention = linear.into_iter().map(|linear| &linear.weight);
            attention.chain(feed_forward.matrices())
        });
        let all = layers.chain([&self.embedding]).chain(&self.output);
        let matrices: usize = all.map(|matrix| backend.matrix_bytes(matrix)).sum();
        let sparse = self.layers.iter().map(|layer| match &layer.feed_forward {
            FeedForward::Dense(_) => 0,
            FeedForward::Sparse(sparse) => backend.experts_bytes(&sparse.experts),
        });
        matrices + sparse.sum::<usize>()
    }
}

/// Weights of a transformer layer. Where a norm is absent, its input passes through unchanged.
pub struct LayerWeights<B: Backend> {
    /// Norm before attention.
    pub attention_norm: Option<Norm<B>>,
    /// Query projection.
    pub query: Linear<B>,
    /// Key projection.
    pub key: Linear<B>,
    /// Value projection.
    pub value: Linear<B>,
    /// Norm of the queries.
    pub query_norm: Option<Norm<B>>,
    /// Norm of the keys.
    pub key_norm: Option<Norm<B>>,
    /// A score of each query head without a value.
    pub sinks: Option<B::Vector>,
    /// What the components of rotated queries are multiplied by.
    pub turned: Option<B::Vector>,
    /// Projection after attention.
    pub attention_output: Linear<B>,
    /// Norm of the attention output before it is added to the residual stream.
    pub post_attention_norm: Option<Norm<B>>,
    /// Norm before the feed-forward layer. In a parallel layer without one, both read the same
    /// input.
    pub feed_forward_norm: Option<Norm<B>>,
    /// The feed-forward layer.
    pub feed_forward: FeedForward<B>,
    /// Norm of the feed-forward output before it is added to the residual stream.
    pub post_feed_forward_norm: Option<Norm<B>>,
}

/// A feed-forward layer.
pub enum FeedForward<B: Backend> {
    /// One for all tokens.
    Dense(Dense<B>),
    /// Many, of which each token is read by some.
    Sparse(Box<Sparse<B>>),
}

/// A feed-forward layer that reads all tokens.
pub struct Dense<B: Backend> {
    /// Its gate; without one, the layer is not gated.
    pub gate: Option<Linear<B>>,
    /// Its gated projection, or its only one.
    pub up: Linear<B>,
    /// The activation of the layer, where layers differ in it.
    pub curve: Option<XieLu>,
    /// Projection back to the residual stream.
    pub down: Linear<B>,
}

/// A mixture of experts.
pub struct Sparse<B: Backend> {
    /// A number for each expert.
    pub router: Linear<B>,
    /// Experts that read a token.
    pub used: usize,
    /// How they are chosen and weighed.
    pub routing: Routing,
    /// What is added to scores to choose experts, and not to weigh them.
    pub choice_bias: Option<B::Vector>,
    /// Its experts.
    pub experts: B::Experts,
    /// What reads every token beside them.
    pub shared: Option<Dense<B>>,
    /// See [`Experts::limit`](crate::config::Experts::limit).
    pub limit: Option<f32>,
    /// A number whose sigmoid that is multiplied by.
    pub shared_gate: Option<Linear<B>>,
}

impl<B: Backend> FeedForward<B> {
    /// All but those of experts.
    fn matrices(&self) -> Vec<&B::Matrix> {
        match self {
            Self::Dense(dense) => dense.matrices().collect(),
            Self::Sparse(sparse) => {
                let shared = sparse.shared.iter().flat_map(Dense::matrices);
                let gates = [&sparse.router].into_iter().chain(&sparse.shared_gate);
                let gates = gates.map(|linear| &linear.weight);
                shared.chain(gates).collect()
            }
        }
    }
}

impl<B: Backend> Dense<B> {
    fn matrices(&self) -> impl Iterator<Item = &B::Matrix> {
        let linear = [&self.up, &self.down].into_iter().chain(&self.gate);
        linear.map(|linear| &linear.weight)
    }
}

//! The experts of a sparse layer, in a backend's matrices and vectors.

use crate::config::{Activation, Routing};

/// A gated feed-forward layer among others: `down · (activation(gate · x) * (up · x))`.
#[derive(Debug)]
pub struct Expert<M, V> {
    /// `[width, hidden]`.
    pub gate: M,
    /// `[width, hidden]`.
    pub up: M,
    /// `[hidden, width]`.
    pub down: M,
    /// What is added to the outputs of the three.
    pub biases: Option<[V; 3]>,
}

/// The experts of a layer, as a backend holds them, and how a token's are chosen.
#[derive(Debug)]
pub struct Mixture<'a, E, V> {
    /// All of them.
    pub experts: &'a E,
    /// What is added to scores to choose experts, and not to weigh them.
    pub choice_bias: Option<&'a V>,
    /// Experts that read a token.
    pub used: usize,
    /// How they are chosen and weighed.
    pub routing: Routing,
    /// What they apply element by element.
    pub activation: Activation,
    /// See [`Experts::limit`](crate::config::Experts::limit).
    pub limit: Option<f32>,
}

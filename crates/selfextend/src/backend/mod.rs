//! The interface between the decoder and the hardware.
//!
//! The decoder uses about a dozen operations on a backend's own buffers; nothing above knows which
//! backend runs. [`cpu`] works on plain slices, `cuda` (with the cargo feature of that name) on an
//! NVIDIA GPU.

mod block;
mod cache;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod mixture;

use crate::config::{Activation, XieLu};
use crate::error::{Error, Result};
use crate::sampling::TokenScore;
use crate::tensor::RawTensor;
pub use block::Block;
#[cfg(any(feature = "cuda", feature = "unstable"))]
pub use block::DeviceBlock;
pub use cache::{Cache, CacheLayout, SessionBytes};
pub use mixture::{Expert, Mixture};
use selfextend_attention::parallel;

/// Up to this many sequences, a pass allocates nothing to list them.
pub(crate) const FEW_SEQUENCES: usize = 4;

/// Which of a backend's kernels a pass uses. Different kernels are fastest for few tokens and for
/// many, and they round differently. Choosing by what a token *is* makes its result independent of
/// what else is in the pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// By the number of tokens in the pass.
    #[default]
    ByLength,
    /// The kernels for many tokens.
    Prefill,
    /// The kernels for few tokens, as many decode steps: each token as if it came alone. Up to
    /// [`MOST_STEPS`](selfextend_attention::cache::MOST_STEPS) of a sequence.
    Decode,
}

/// Why a device does not run a model whose attention needs more than queries, keys and values.
pub(crate) fn no_head_weights() -> Error {
    Error::Device(
        "attention sinks, and norms of queries and keys after their rotation, run on the CPU only so far: \
         use the device cpu"
            .into(),
    )
}

/// Why a device does not choose experts as a model does.
pub(crate) fn no_such_router() -> Error {
    Error::Device(
        "a router that chooses experts one after the other, as Phi-3.5-MoE's, and experts with a limit run on \
         the CPU only so far: use the device cpu"
            .into(),
    )
}

/// What [`HeadWeights`](selfextend_attention::HeadWeights) are on a backend.
#[derive(Debug)]
pub struct HeadVectors<'a, V> {
    /// The sink of each query head.
    pub sinks: Option<&'a V>,
    /// What the components of rotated queries are multiplied by.
    pub turned: Option<&'a V>,
}

/// Operations on activations, which are row-major `[tokens, width]`.
pub trait Backend: Send + Sync + 'static {
    /// A weight matrix in the layout that the kernels use.
    type Matrix: Send + Sync;
    /// A vector of weights.
    type Vector: Send + Sync;
    /// The experts of a sparse layer.
    type Experts: Send + Sync;
    /// Activations; grows as needed and is reused from step to step.
    type Buffer: Default + Send;
    /// Scratch memory that operations reuse from step to step.
    type Scratch: Default + Send;
    /// Keys and values of one sequence.
    type Cache: Cache;
    /// What a pass over some sequences needs in every layer; reused from pass to pass.
    type Plan: Default + Send;

    /// Whether passes run on the model's threads.
    const THREADED: bool = true;

    /// Whether what a token gets in [`Phase::Decode`] is bit for bit what it gets alone.
    const EXACT_STEPS: bool;

    /// Selects the kernels for the operations that follow; a backend that has only one kind ignores
    /// it.
    fn enter(&self, phase: Phase, scratch: &mut Self::Scratch) {
        let _ = (phase, scratch);
    }

    /// Converts a matrix from a file.
    ///
    /// # Errors
    /// Why the matrix cannot be used.
    fn matrix(&self, tensor: RawTensor) -> Result<Self::Matrix, String>;

    /// Converts the matrix of a router: what it gives chooses experts, so a backend that rounds
    /// weights does not round these.
    ///
    /// # Errors
    /// As [`Backend::matrix`].
    fn router(&self, tensor: RawTensor) -> Result<Self::Matrix, String> {
        self.matrix(tensor)
    }

    /// The experts of a layer, from their matrices.
    ///
    /// # Errors
    /// Why the backend has no kernels for them.
    fn experts(
        &self,
        experts: Vec<Expert<Self::Matrix, Self::Vector>>,
    ) -> Result<Self::Experts, String>;

    /// Bytes of weights held for experts.
    fn experts_bytes(&self, experts: &Self::Experts) -> usize;

    /// Converts a vector.
    fn vector(&self, values: Vec<f32>) -> Self::Vector;

    /// Bytes of weights held for a matrix.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;

    /// `out[t] = table[ids[t]]`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Buffer);

    /// `out[t] = x[t] / rms(x[t]) * weight`.
    fn rms_norm(&self, x: &Self::Buffer, weight: &Self::Vector, eps: f32, out: &mut Self::Buffer);

    /// `out[t] = (x[t] - mean) / deviation * weight + bias`, the deviation `sqrt(variance + eps)`.
    fn layer_norm(
        &self,
        x: &Self::Buffer,
        weight: &Self::Vector,
        bias: Option<&Self::Vector>,
        eps: f32,
        out: &mut Self::Buffer,
    );

    /// `out[i][t] = matrices[i] · x[t]` for matrices that share their input.
    fn linear<const N: usize>(
        &self,
        x: &Self::Buffer,
        matrices: [&Self::Matrix; N],
        out: [&mut Self::Buffer; N],
        scratch: &mut Self::Scratch,
    );

    /// `x[t] += bias`.
    fn add_bias(&self, x: &mut Self::Buffer, bias: &Self::Vector);

    /// `x[t] *= weights`.
    fn multiply(&self, x: &mut Self::Buffer, weights: &Self::Vector);

    /// An empty cache.
    ///
    /// # Errors
    /// A layout that the backend has no kernels for, or too little memory.
    fn cache(&self, layout: CacheLayout) -> Result<Self::Cache>;

    /// What a cache will take. By default an empty one is asked, which takes almost no memory.
    ///
    /// # Errors
    /// As [`Backend::cache`].
    fn session_bytes(&self, layout: CacheLayout) -> Result<SessionBytes> {
        let context = layout.options.extension.context();
        let cache = self.cache(layout)?;
        Ok(SessionBytes {
            block: cache.block_bytes(),
            rings: cache.ring_bytes(),
            context,
            shares_blocks: cache.shares_blocks(),
        })
    }

    /// Plans a pass of the tokens that follow each cache, and begins it; [`Backend::finish`] ends
    /// it.
    ///
    /// # Errors
    /// Too little memory for the tokens.
    fn plan(
        &self,
        caches: &mut [&mut Self::Cache],
        tokens: &[&[u32]],
        phase: Phase,
        plan: &mut Self::Plan,
    ) -> Result<()>;

    /// Attention of one layer for the tokens of a planned pass; see
    /// [`selfextend_attention::attention::attend`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        layer: usize,
        caches: &mut [&mut Self::Cache],
        plan: &Self::Plan,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        out: &mut Self::Buffer,
        scratch: &mut Self::Scratch,
    ) -> Result<()>;

    /// [`Backend::attend`] of a layer with numbers of its own; see
    /// [`selfextend_attention::attention::attend_with`].
    ///
    /// # Errors
    /// As [`Backend::attend`], and where the backend has no kernels for it: such models are refused
    /// before it is called.
    #[allow(clippy::too_many_arguments)]
    fn attend_with(
        &self,
        layer: usize,
        caches: &mut [&mut Self::Cache],
        plan: &Self::Plan,
        weights: HeadVectors<Self::Vector>,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        out: &mut Self::Buffer,
        scratch: &mut Self::Scratch,
    ) -> Result<()> {
        let _ = (layer, caches, plan, weights, q, k, v, out, scratch);
        Err(no_head_weights())
    }

    /// `out[t] = sum of weight * down · (activation(gate · x[t]) * (up · x[t]))` over the experts that
    /// are chosen for `x[t]` by its row of `router`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn mix(
        &self,
        mixture: Mixture<Self::Experts, Self::Vector>,
        x: &Self::Buffer,
        router: &Self::Buffer,
        out: &mut Self::Buffer,
        scratch: &mut Self::Scratch,
    ) -> Result<()>;

    /// `x[t] *= 1 / (1 + e^-gate[t])`, a number for each row.
    ///
    /// # Errors
    /// As [`Backend::mix`].
    fn weigh(&self, x: &mut Self::Buffer, gate: &Self::Buffer) -> Result<()>;

    /// `gate = activation(gate) * up`.
    fn gate(&self, gate: &mut Self::Buffer, up: &Self::Buffer, activation: Activation);

    /// `x = activation(x)`.
    fn activate(&self, x: &mut Self::Buffer, activation: Activation);

    /// `x = curve(x)`.
    fn xielu(&self, x: &mut Self::Buffer, curve: XieLu);

    /// `x *= factor`.
    fn scale(&self, x: &mut Self::Buffer, factor: f32);

    /// `x = max(-limit, min(x, limit))`.
    fn clamp(&self, x: &mut Self::Buffer, limit: f32);

    /// `x = cap * tanh(x / cap)`.
    fn soft_cap(&self, x: &mut Self::Buffer, cap: f32);

    /// `x += y`.
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer);

    /// `out[i] = x[rows[i]]`, rows of `width`.
    fn take_rows(&self, x: &Self::Buffer, width: usize, rows: &[usize], out: &mut Self::Buffer);

    /// Ends a planned pass, or the operations after it, and reports whether all of them succeeded. A
    /// device queues them and skips what follows one that failed.
    ///
    /// # Errors
    /// The first that occurred.
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// The probability of each target under its row of logits. A device can compute it without
    /// copying the logits out.
    fn scores(&self, logits: &Self::Buffer, targets: &[u32]) -> Vec<TokenScore> {
        let logits = self.read(logits);
        let width = logits.len() / targets.len().max(1);
        let mut scores = vec![TokenScore::default(); targets.len()];
        let rows = logits.chunks_exact(width.max(1)).zip(targets);
        parallel::for_each(scores.iter_mut().zip(rows), |(score, (row, &target))| {
            *score = TokenScore::new(row, target);
        });
        scores
    }

    /// The numbers, for a caller outside the backend.
    fn read<'a>(&self, buffer: &'a Self::Buffer) -> std::borrow::Cow<'a, [f32]>;
}

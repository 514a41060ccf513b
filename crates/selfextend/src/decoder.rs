//! The decoder: one pass over packed tokens, driven by the configuration.

use crate::backend::{Backend, Phase};
use crate::config::ModelConfig;
use crate::error::Result;
use selfextend_attention::KvCache;
use selfextend_attention::attention::Step;
use selfextend_attention::cache::StepPlan;
use smallvec::SmallVec;

/// Weights of a decoder.
pub struct Weights<B: Backend> {
    /// Token embedding, `[vocab, hidden]`.
    pub embedding: B::Matrix,
    /// Output head; the embedding when absent.
    pub output: Option<B::Matrix>,
    /// Norm before the output head.
    pub output_norm: B::Vector,
    /// Transformer blocks.
    pub layers: Vec<LayerWeights<B>>,
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
                gate,
                up,
                down,
                ..
            } = layer;
            [query, key, value, attention_output, gate, up, down]
        });
        let all = layers.chain([&self.embedding]).chain(&self.output);
        all.map(|matrix| backend.matrix_bytes(matrix)).sum()
    }
}

/// Weights of a transformer block. Matrices are `[outputs, inputs]`.
pub struct LayerWeights<B: Backend> {
    /// Norm before attention.
    pub attention_norm: B::Vector,
    /// Query projection.
    pub query: B::Matrix,
    /// Key projection.
    pub key: B::Matrix,
    /// Value projection.
    pub value: B::Matrix,
    /// Query bias, where the model has one.
    pub query_bias: Option<B::Vector>,
    /// Key bias.
    pub key_bias: Option<B::Vector>,
    /// Value bias.
    pub value_bias: Option<B::Vector>,
    /// Projection after attention.
    pub attention_output: B::Matrix,
    /// Norm before the feed-forward layer.
    pub feed_forward_norm: B::Vector,
    /// Gate of the feed-forward layer.
    pub gate: B::Matrix,
    /// Its gated half.
    pub up: B::Matrix,
    /// Projection back to the residual stream.
    pub down: B::Matrix,
}

/// Activations of a pass, reused from pass to pass.
#[derive(Default)]
pub struct Work<B: Backend> {
    phase: Phase,
    ids: Vec<u32>,
    plans: Vec<StepPlan>,
    hidden: B::Buffer,
    normed: B::Buffer,
    q: B::Buffer,
    k: B::Buffer,
    v: B::Buffer,
    attended: B::Buffer,
    projected: B::Buffer,
    gate: B::Buffer,
    up: B::Buffer,
    scratch: B::Scratch,
}

impl<B: Backend> Work<B> {
    /// Chooses the kernels of the next pass.
    pub(crate) fn enter(&mut self, backend: &B, phase: Phase) {
        self.phase = phase;
        backend.enter(phase, &mut self.scratch);
    }
}

/// Up to this many sequences, a pass allocates nothing to list them.
pub(crate) const FEW_SEQUENCES: usize = 4;

/// Rows that pass through the output head together: enough to use its weights well, few enough
/// that the logits of a long chunk never exist at once.
const HEAD_ROWS: usize = 128;

/// Called before each layer with its number, so that a caller can stop a long pass with an error.
pub type OnLayer<'a> = &'a mut (dyn FnMut(usize) -> Result<()> + Send);

/// Called with the place of a row in the list of wanted rows, and its logits.
pub type OnLogits<'a> = &'a mut (dyn FnMut(usize, &[f32]) + Send);

/// Runs all layers over the packed tokens of some sequences. The caches count the tokens only
/// when the pass succeeds.
///
/// # Errors
/// Whatever `on_layer` returns, or shapes that do not fit.
pub fn forward<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    caches: &mut [&mut KvCache],
    tokens: &[&[u32]],
    work: &mut Work<B>,
    on_layer: OnLayer,
) -> Result<()> {
    work.ids.clear();
    tokens
        .iter()
        .for_each(|tokens| work.ids.extend_from_slice(tokens));
    backend.embed(&weights.embedding, &work.ids, &mut work.hidden);
    // Taken out for the pass, because the steps borrow from them.
    let mut plans = std::mem::take(&mut work.plans);
    plans.resize_with(caches.len(), StepPlan::default);
    let mut steps: SmallVec<[Step; FEW_SEQUENCES]> = SmallVec::new();
    for ((cache, plan), tokens) in caches.iter_mut().zip(&mut plans).zip(tokens) {
        match work.phase {
            Phase::Prefill => cache.plan_prefill_into(tokens.len(), plan),
            Phase::ByLength | Phase::Decode => cache.plan_into(tokens.len(), plan),
        }
        steps.push(Step { cache, plan });
    }
    for (n, layer) in weights.layers.iter().enumerate() {
        on_layer(n)?;
        attention(backend, config, layer, n, &mut steps, work)?;
        feed_forward(backend, config, layer, work);
    }
    for (step, tokens) in steps.iter_mut().zip(tokens) {
        step.cache.commit(tokens.len());
    }
    drop(steps);
    work.plans = plans;
    Ok(())
}

fn attention<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    layer: &LayerWeights<B>,
    n: usize,
    steps: &mut [Step],
    work: &mut Work<B>,
) -> Result<()> {
    backend.rms_norm(
        &work.hidden,
        &layer.attention_norm,
        config.norm_eps,
        &mut work.normed,
    );
    let projections = [&layer.query, &layer.key, &layer.value];
    backend.linear(
        &work.normed,
        projections,
        [&mut work.q, &mut work.k, &mut work.v],
        &mut work.scratch,
    );
    let biases = [&layer.query_bias, &layer.key_bias, &layer.value_bias];
    for (x, bias) in [&mut work.q, &mut work.k, &mut work.v]
        .into_iter()
        .zip(biases)
    {
        if let Some(bias) = bias {
            backend.add_bias(x, bias);
        }
    }
    let (q, k, v) = (&work.q, &work.k, &work.v);
    backend.attend(n, steps, q, k, v, &mut work.attended, &mut work.scratch)?;
    backend.linear(
        &work.attended,
        [&layer.attention_output],
        [&mut work.projected],
        &mut work.scratch,
    );
    backend.add(&mut work.hidden, &work.projected);
    Ok(())
}

fn feed_forward<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    layer: &LayerWeights<B>,
    work: &mut Work<B>,
) {
    backend.rms_norm(
        &work.hidden,
        &layer.feed_forward_norm,
        config.norm_eps,
        &mut work.normed,
    );
    backend.linear(
        &work.normed,
        [&layer.gate, &layer.up],
        [&mut work.gate, &mut work.up],
        &mut work.scratch,
    );
    backend.gate(&mut work.gate, &work.up);
    backend.linear(
        &work.gate,
        [&layer.down],
        [&mut work.projected],
        &mut work.scratch,
    );
    backend.add(&mut work.hidden, &work.projected);
}

/// Logits of some rows of the last pass, handed out in order: `visit(index in rows, logits)`.
pub fn logits<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    rows: &[usize],
    work: &mut Work<B>,
    visit: OnLogits,
) {
    let head = weights.output.as_ref().unwrap_or(&weights.embedding);
    // A row that a token is drawn from is one of few, whatever it came with.
    if work.phase == Phase::Prefill {
        backend.enter(Phase::Decode, &mut work.scratch);
    }
    for (block, some) in rows.chunks(HEAD_ROWS).enumerate() {
        backend.take_rows(&work.hidden, config.hidden, some, &mut work.projected);
        let normed = &mut work.normed;
        backend.rms_norm(
            &work.projected,
            &weights.output_norm,
            config.norm_eps,
            normed,
        );
        // The feed-forward buffer is free now, and the largest there is.
        backend.linear(&work.normed, [head], [&mut work.gate], &mut work.scratch);
        let logits = backend.read(&work.gate);
        for (n, row) in logits.chunks_exact(config.vocab).enumerate() {
            visit(block * HEAD_ROWS + n, row);
        }
    }
}

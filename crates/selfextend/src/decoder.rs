//! The decoder: one pass over packed tokens, driven by the configuration and by which weights are
//! present.

mod feed_forward;
mod weights;

use crate::backend::{Backend, HeadVectors, Phase};
use crate::config::{ModelConfig, NormKind};
use crate::error::Result;
use crate::looks::Looks;
use crate::sampling::{TokenScore, check_finite, check_score};
use crate::uncounted::Uncounted;
use feed_forward::{Buffers, dense, linear, sparse};
pub use weights::{Dense, FeedForward, LayerWeights, Linear, Norm, Sparse, Weights};

/// Activations of a pass, reused from pass to pass.
pub struct Activations<B: Backend> {
    phase: Phase,
    /// Look at every output.
    pub(crate) check: bool,
    ids: Vec<u32>,
    plan: B::Plan,
    hidden: B::Buffer,
    normed: B::Buffer,
    q: B::Buffer,
    k: B::Buffer,
    v: B::Buffer,
    attended: B::Buffer,
    projected: B::Buffer,
    gate: B::Buffer,
    up: B::Buffer,
    /// Scratch for norms that replace their input.
    spare: B::Buffer,
    scratch: B::Scratch,
}

impl<B: Backend> Default for Activations<B> {
    fn default() -> Self {
        let buffer = B::Buffer::default;
        Self {
            phase: Phase::default(),
            check: false,
            ids: Vec::new(),
            plan: B::Plan::default(),
            hidden: buffer(),
            normed: buffer(),
            q: buffer(),
            k: buffer(),
            v: buffer(),
            attended: buffer(),
            projected: buffer(),
            gate: buffer(),
            up: buffer(),
            spare: buffer(),
            scratch: B::Scratch::default(),
        }
    }
}

impl<B: Backend> Activations<B> {
    /// Chooses the kernels of the next pass.
    pub(crate) fn enter(&mut self, backend: &B, phase: Phase) {
        self.phase = phase;
        backend.enter(phase, &mut self.scratch);
    }
}

/// Rows that pass through the output head together: enough to use its weights well, few enough
/// that the logits of a long chunk never exist at once.
const HEAD_ROWS: usize = 128;

/// Called before each layer with its number, so that a caller can stop a long pass with an error.
pub type OnLayer<'a> = &'a mut (dyn FnMut(usize) -> Result<()> + Send);

/// Called with the index of a row in the list of wanted rows, and its logits.
pub type OnLogits<'a> = &'a mut (dyn FnMut(usize, &[f32]) + Send);

/// What is done with the results of the last layer, as long as the pass can still fail.
pub type OnEnd<'a, B> = &'a mut (dyn FnMut(&mut Activations<B>) -> Result<()> + Send);

/// Runs all layers over the packed tokens of some sequences, then `end`. The caches count the tokens
/// only when all of it succeeds; after an error, and after a panic, they are as they were.
///
/// # Errors
/// Whatever `on_layer` and `end` return, or shapes that do not fit.
#[allow(clippy::too_many_arguments)]
pub fn forward<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    caches: &mut [&mut B::Cache],
    tokens: &[&[u32]],
    activations: &mut Activations<B>,
    on_layer: OnLayer,
    end: OnEnd<B>,
) -> Result<()> {
    activations.ids.clear();
    tokens
        .iter()
        .for_each(|tokens| activations.ids.extend_from_slice(tokens));
    let pass = Uncounted::new(backend, caches);
    let (phase, plan) = (activations.phase, &mut activations.plan);
    backend.plan(pass.caches, tokens, phase, plan)?;
    layers(backend, config, weights, pass.caches, activations, on_layer)?;
    backend.finish()?;
    end(activations)?;
    pass.count(tokens);
    Ok(())
}

fn layers<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    caches: &mut [&mut B::Cache],
    activations: &mut Activations<B>,
    on_layer: OnLayer,
) -> Result<()> {
    backend.embed(
        &weights.embedding,
        &activations.ids,
        &mut activations.hidden,
    );
    scale(backend, &mut activations.hidden, config.embedding_scale);
    Looks::new(backend, activations.check, None).at("the embedding", &activations.hidden)?;
    for (n, layer) in weights.layers.iter().enumerate() {
        on_layer(n)?;
        let mut pass = Layer {
            backend,
            config,
            layer,
            looks: Looks::new(backend, activations.check, Some(n)),
            activations,
        };
        pass.attention(n, caches)?;
        pass.feed_forward()?;
    }
    Ok(())
}

/// A pass through one transformer layer.
struct Layer<'a, B: Backend> {
    backend: &'a B,
    config: &'a ModelConfig,
    layer: &'a LayerWeights<B>,
    looks: Looks<'a, B>,
    activations: &'a mut Activations<B>,
}

impl<B: Backend> Layer<'_, B> {
    fn attention(&mut self, n: usize, caches: &mut [&mut B::Cache]) -> Result<()> {
        let Self {
            backend,
            config,
            layer,
            looks,
            activations,
        } = self;
        if let Some(weights) = &layer.attention_norm {
            norm(
                *backend,
                config,
                weights,
                &activations.hidden,
                &mut activations.normed,
            );
        }
        let input = match &layer.attention_norm {
            Some(_) => &activations.normed,
            None => &activations.hidden,
        };
        looks.at("the attention norm", input)?;
        linear(
            *backend,
            input,
            [&layer.query, &layer.key, &layer.value],
            [&mut activations.q, &mut activations.k, &mut activations.v],
            &mut activations.scratch,
        );
        let norms = [&layer.query_norm, &layer.key_norm];
        for (x, weights) in [&mut activations.q, &mut activations.k]
            .into_iter()
            .zip(norms)
        {
            replace_by_norm(
                *backend,
                config,
                weights.as_ref(),
                x,
                &mut activations.spare,
            );
        }
        if let Some(limit) = config.qkv_limit {
            for x in [&mut activations.q, &mut activations.k, &mut activations.v] {
                backend.clamp(x, limit);
            }
        }
        let (q, k, v) = (&activations.q, &activations.k, &activations.v);
        for (operation, x) in [
            ("the attention (its queries)", q),
            ("the attention (its keys)", k),
            ("the attention (its values)", v),
        ] {
            looks.at(operation, x)?;
        }
        let (out, scratch) = (&mut activations.attended, &mut activations.scratch);
        let plan = &activations.plan;
        match [&layer.sinks, &layer.turned].map(Option::as_ref) {
            [None, None] => backend.attend(n, caches, plan, q, k, v, out, scratch)?,
            [sinks, turned] => {
                let weights = HeadVectors { sinks, turned };
                backend.attend_with(n, caches, plan, weights, q, k, v, out, scratch)?;
            }
        }
        looks.at("the attention (its weighted values)", out)?;
        linear(
            *backend,
            &activations.attended,
            [&layer.attention_output],
            [&mut activations.projected],
            &mut activations.scratch,
        );
        let weights = layer.post_attention_norm.as_ref();
        let (added, spare) = (&mut activations.projected, &mut activations.spare);
        looks.at("the attention (its output projection)", added)?;
        replace_by_norm(*backend, config, weights, added, spare);
        scale(*backend, added, config.residual_scale);
        looks.at("the norm after attention", added)?;
        if config.parallel {
            // Added after the feed-forward layer has read the layer's input.
            std::mem::swap(&mut activations.projected, &mut activations.attended);
        } else {
            backend.add(&mut activations.hidden, &activations.projected);
        }
        Ok(())
    }

    fn feed_forward(&mut self) -> Result<()> {
        let Self {
            backend,
            config,
            layer,
            looks,
            activations,
        } = self;
        if let Some(weights) = &layer.feed_forward_norm {
            norm(
                *backend,
                config,
                weights,
                &activations.hidden,
                &mut activations.normed,
            );
        }
        let shares_norm = config.parallel && layer.attention_norm.is_some();
        let input = if layer.feed_forward_norm.is_some() || shares_norm {
            &activations.normed
        } else {
            &activations.hidden
        };
        looks.at("the MLP's norm", input)?;
        let buffers = Buffers {
            gate: &mut activations.gate,
            up: &mut activations.up,
            out: &mut activations.projected,
            scratch: &mut activations.scratch,
        };
        match &layer.feed_forward {
            FeedForward::Dense(weights) => dense(*backend, config, weights, input, buffers, looks)?,
            FeedForward::Sparse(weights) => {
                let spare = &mut activations.spare;
                sparse(*backend, config, weights, input, buffers, spare, looks)?;
            }
        }
        let weights = layer.post_feed_forward_norm.as_ref();
        let (added, spare) = (&mut activations.projected, &mut activations.spare);
        looks.at("the MLP (its output projection)", added)?;
        replace_by_norm(*backend, config, weights, added, spare);
        scale(*backend, added, config.residual_scale);
        looks.at("the norm after the MLP", added)?;
        if config.parallel {
            backend.add(&mut activations.hidden, &activations.attended);
        }
        backend.add(&mut activations.hidden, &activations.projected);
        looks.at("the sum of its parts", &activations.hidden)
    }
}

/// `x *= factor`.
fn scale<B: Backend>(backend: &B, x: &mut B::Buffer, factor: f32) {
    if factor != 1.0 {
        backend.scale(x, factor);
    }
}

fn norm<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    norm: &Norm<B>,
    x: &B::Buffer,
    out: &mut B::Buffer,
) {
    let Norm {
        weight,
        bias,
        heads,
    } = norm;
    match config.norm {
        NormKind::Rms => backend.rms_norm(x, weight, config.norm_eps, out),
        NormKind::Layer => backend.layer_norm(x, weight, bias.as_ref(), config.norm_eps, out),
    }
    if let Some(heads) = heads {
        backend.multiply(out, heads);
    }
}

/// Normalises in place, if there is a norm. Rows are as long as its weights.
fn replace_by_norm<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: Option<&Norm<B>>,
    x: &mut B::Buffer,
    spare: &mut B::Buffer,
) {
    if let Some(weights) = weights {
        norm(backend, config, weights, x, spare);
        std::mem::swap(x, spare);
    }
}

/// Logits of some rows of the last pass, handed out in order: `visit(index in rows, logits)`.
///
/// # Errors
/// The device's.
pub fn logits<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    rows: &[usize],
    activations: &mut Activations<B>,
    visit: OnLogits,
) -> Result<()> {
    head(
        backend,
        config,
        weights,
        rows,
        activations,
        &mut |first, logits| {
            let logits = backend.read(logits);
            backend.finish()?;
            for (n, row) in logits.chunks_exact(config.vocab).enumerate() {
                check_finite(row)?;
                visit(first + n, row);
            }
            Ok(())
        },
    )
}

/// How probable the tokens that came after some rows of the last pass were, handed out in order.
///
/// # Errors
/// The device's.
pub fn scores<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    rows: &[usize],
    targets: &[u32],
    activations: &mut Activations<B>,
    visit: &mut (dyn FnMut(TokenScore) + Send),
) -> Result<()> {
    head(
        backend,
        config,
        weights,
        rows,
        activations,
        &mut |first, logits| {
            let some = targets[first..].iter().take(HEAD_ROWS);
            let scores = backend.scores(logits, &some.copied().collect::<Vec<_>>());
            backend.finish()?;
            for (score, &token) in scores.into_iter().zip(&targets[first..]) {
                check_score(score, token)?;
                visit(score);
            }
            Ok(())
        },
    )
}

/// The output head over some rows of the last pass, a block at a time: `each(first of rows, logits)`.
fn head<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Weights<B>,
    rows: &[usize],
    activations: &mut Activations<B>,
    each: &mut dyn FnMut(usize, &B::Buffer) -> Result<()>,
) -> Result<()> {
    let head = weights.output.as_ref().unwrap_or(&weights.embedding);
    let looks = Looks::new(backend, activations.check, None);
    // Rows that tokens are drawn from count as few, whatever else was in the pass.
    if activations.phase == Phase::Prefill {
        backend.enter(Phase::Decode, &mut activations.scratch);
    }
    for (block, some) in rows.chunks(HEAD_ROWS).enumerate() {
        backend.take_rows(
            &activations.hidden,
            config.hidden,
            some,
            &mut activations.projected,
        );
        let normed = &mut activations.normed;
        norm(
            backend,
            config,
            &weights.output_norm,
            &activations.projected,
            normed,
        );
        looks.at("the output norm", normed)?;
        // The feed-forward buffer is free now, and the largest.
        backend.linear(
            &activations.normed,
            [head],
            [&mut activations.gate],
            &mut activations.scratch,
        );
        if let Some(bias) = &weights.output_bias {
            backend.add_bias(&mut activations.gate, bias);
        }
        scale(backend, &mut activations.gate, config.logit_scale);
        if let Some(cap) = config.logit_soft_cap {
            backend.soft_cap(&mut activations.gate, cap);
        }
        looks.at("the head", &activations.gate)?;
        each(block * HEAD_ROWS, &activations.gate)?;
    }
    Ok(())
}

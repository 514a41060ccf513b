//! What a run will cost, before it starts.

use crate::error::Result;
use selfextend::config::ModelConfig;
use selfextend::{Extension, Model, SessionOptions};
use std::time::Instant;

/// Arithmetic of a model's pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Multiplications and additions of a token in the linear layers.
    linear: f64,
    /// Of a token with each of the keys before it.
    attention: f64,
}

impl Work {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        let (hidden, heads) = (
            config.hidden as f64,
            (config.heads * config.head_dim) as f64,
        );
        let kv_heads = (config.kv_heads * config.head_dim) as f64;
        let weights = hidden * (2.0 * heads + 2.0 * kv_heads + 3.0 * config.feed_forward as f64);
        let layers = config.layers as f64;
        Self {
            linear: 2.0 * layers * weights,
            attention: 4.0 * layers * heads,
        }
    }

    /// The tokens from one position to another.
    pub(crate) fn span(&self, from: usize, to: usize) -> f64 {
        let (from, to) = (from as f64, to as f64);
        self.linear * (to - from) + self.attention * (to * to - from * from) / 2.0
    }
}

/// How fast this machine is, from a short measurement.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    work: Work,
    /// Operations a second in a prefill.
    prefill: f64,
    /// How many times longer an operation of a decode step takes.
    pub(crate) decode_weight: f64,
}

/// Tokens of the measurement.
const MEASURED: usize = 256;
const STEPS: usize = 4;

impl Speed {
    /// Measures a prefill of 256 tokens and four decode steps, under plain attention.
    ///
    /// # Errors
    /// The engine's.
    pub fn measure(model: &Model, chunk: usize) -> Result<Self> {
        let work = Work::of(model.config());
        let extension = Extension::plain(model.config().trained_window, MEASURED + STEPS);
        let mut session = model.session(SessionOptions::new(extension).with_chunk(chunk))?;
        let vocab = model.config().vocab;
        let token = |n: usize| (n * 7919 % vocab) as u32;
        let tokens: Vec<u32> = (0..MEASURED).map(token).collect();
        let start = Instant::now();
        session.append(&tokens)?;
        let prefill = work.span(0, MEASURED) / start.elapsed().as_secs_f64().max(1e-9);
        let start = Instant::now();
        for n in 0..STEPS {
            session.append(&[token(n)])?;
        }
        let decode =
            work.span(MEASURED, MEASURED + STEPS) / start.elapsed().as_secs_f64().max(1e-9);
        Ok(Self {
            work,
            prefill,
            decode_weight: prefill / decode,
        })
    }

    /// Seconds to prefill the tokens at these positions: `0..n` for a prompt of `n` tokens.
    pub fn prefill_seconds(&self, positions: std::ops::Range<usize>) -> f64 {
        self.seconds(self.work.span(positions.start, positions.end))
    }

    pub(crate) fn seconds(&self, work: f64) -> f64 {
        work / self.prefill
    }
}

//! What a pass over a model costs: operations, and seconds on this machine.

use crate::error::Result;
use selfextend::config::ModelConfig;
use selfextend::{Extension, Model, SessionOptions};
use std::ops::Range;
use std::time::Instant;

/// Operations of a model's passes: multiplications and additions.
#[derive(Debug, Clone, Copy)]
struct PassCost {
    /// Of a token in the linear layers.
    linear: f64,
    /// Of a token with each of the keys before it.
    attention: f64,
}

impl PassCost {
    fn of(config: &ModelConfig) -> Self {
        let (hidden, heads) = (
            config.hidden as f64,
            (config.heads * config.head_dim) as f64,
        );
        let kv_heads = (config.kv_heads * config.head_dim) as f64;
        let feed_forward = match &config.experts {
            None => config.feed_forward,
            Some(experts) => experts.used * experts.width + experts.shared_width,
        };
        let weights = hidden * (2.0 * heads + 2.0 * kv_heads + 3.0 * feed_forward as f64);
        let layers = config.layers as f64;
        Self {
            linear: 2.0 * layers * weights,
            attention: 4.0 * layers * heads,
        }
    }

    /// Operations for the tokens at these positions.
    fn of_positions(&self, positions: Range<usize>) -> f64 {
        let (from, to) = (positions.start as f64, positions.end as f64);
        self.linear * (to - from) + self.attention * (to * to - from * from) / 2.0
    }
}

/// How fast a model runs on this machine, from a measurement of 256 tokens: what a long command
/// says it will take is computed from this.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let model = selfextend::TextModel::load("model.gguf", Default::default())?;
/// let speed = selfextend_eval::Speed::measure(&model.model, selfextend::DEFAULT_CHUNK)?;
/// // A prompt of 30,000 tokens and an answer of 200.
/// let seconds = speed.prefill_seconds(0..30_000) + speed.decode_seconds(30_000..30_200);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    cost: PassCost,
    /// Operations a second in a prefill.
    prefill: f64,
    /// How many times longer an operation of a decode step takes.
    decode_weight: f64,
}

/// Tokens of the measured prefill.
const MEASURED: usize = 256;
/// Measured decode steps.
const STEPS: usize = 4;

impl Speed {
    /// Measures a prefill of 256 tokens and four decode steps, under plain attention.
    ///
    /// # Errors
    /// The engine's.
    pub fn measure(model: &Model, chunk: usize) -> Result<Self> {
        let config = model.config();
        let extension = Extension::plain(config.trained_window, MEASURED + STEPS);
        let mut session = model.session(SessionOptions::new(extension).with_chunk(chunk))?;
        let token = |n: usize| (n * 7919 % config.vocab) as u32;
        let tokens: Vec<u32> = (0..MEASURED).map(token).collect();
        let cost = PassCost::of(config);
        let rate = |positions, start: Instant| {
            cost.of_positions(positions) / start.elapsed().as_secs_f64().max(1e-9)
        };
        let start = Instant::now();
        session.append(&tokens)?;
        let prefill = rate(0..MEASURED, start);
        let start = Instant::now();
        for n in 0..STEPS {
            session.append(&[token(n)])?;
        }
        let decode = rate(MEASURED..MEASURED + STEPS, start);
        Ok(Self {
            cost,
            prefill,
            decode_weight: prefill / decode,
        })
    }

    /// Seconds to prefill the tokens at these positions: `0..n` for a prompt of `n` tokens.
    pub fn prefill_seconds(&self, positions: Range<usize>) -> f64 {
        self.seconds(self.cost.of_positions(positions))
    }

    /// Seconds to decode the tokens at these positions, one by one.
    pub fn decode_seconds(&self, positions: Range<usize>) -> f64 {
        self.seconds(self.decode_operations(positions))
    }

    /// Operations of a prefill.
    pub(crate) fn prefill_operations(&self, positions: Range<usize>) -> f64 {
        self.cost.of_positions(positions)
    }

    /// Operations of decode steps, as many as a prefill would do in the time they take.
    pub(crate) fn decode_operations(&self, positions: Range<usize>) -> f64 {
        self.cost.of_positions(positions) * self.decode_weight
    }

    /// Seconds for operations of a prefill.
    pub(crate) fn seconds(&self, operations: f64) -> f64 {
        operations / self.prefill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost() -> PassCost {
        PassCost {
            linear: 10.0,
            attention: 2.0,
        }
    }

    #[test]
    fn a_range_costs_what_its_parts_cost() {
        let of = |range| cost().of_positions(range);
        assert_eq!(of(0..100), of(0..30) + of(30..100));
        // 100 tokens in the linear layers; 100 * 100 / 2 pairs.
        assert_eq!(of(0..100), 10.0 * 100.0 + 2.0 * 5000.0);
        assert_eq!(of(7..7), 0.0);
    }

    #[test]
    fn decode_takes_its_weight() {
        let speed = Speed {
            cost: cost(),
            prefill: 1000.0,
            decode_weight: 3.0,
        };
        assert_eq!(speed.prefill_seconds(0..100), 11.0);
        assert_eq!(speed.decode_seconds(0..100), 33.0);
    }
}

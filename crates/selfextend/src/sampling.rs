//! From logits to the next token.

use crate::error::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

/// How the next token is chosen. The steps run in this order (as in transformers): repetition
/// penalty, temperature, top-k, top-p, min-p, draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Keeps the `k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less probable than this share of the most probable one; 0 drops none.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies negative ones; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Seed of the draws: the same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Tokens the repetition penalty looks back on.
const PENALTY_WINDOW: usize = 64;

/// Draws tokens one after another.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha8Rng,
    recent: VecDeque<u32>,
}

impl Sampler {
    /// Checks the settings and starts a sequence of draws.
    ///
    /// # Errors
    /// [`Error::Sampling`] for a value outside its range.
    pub fn new(settings: Sampling) -> Result<Self> {
        let Sampling {
            temperature,
            top_p,
            min_p,
            repetition_penalty,
            ..
        } = settings;
        let ranges = [
            ("temperature", temperature, temperature >= 0.0, "0 or more"),
            (
                "top-p",
                top_p,
                top_p > 0.0 && top_p <= 1.0,
                "above 0 and at most 1",
            ),
            (
                "min-p",
                min_p,
                (0.0..=1.0).contains(&min_p),
                "between 0 and 1",
            ),
            (
                "repetition penalty",
                repetition_penalty,
                repetition_penalty > 0.0,
                "above 0",
            ),
        ];
        for (name, value, good, range) in ranges {
            if !good || !value.is_finite() {
                return Err(Error::Sampling(format!("{name} {value} must be {range}")));
            }
        }
        let rng = ChaCha8Rng::seed_from_u64(settings.seed);
        Ok(Self {
            settings,
            rng,
            recent: VecDeque::new(),
        })
    }

    /// Tells the repetition penalty of a token it did not draw (the end of a prompt).
    pub fn saw(&mut self, token: u32) {
        if self.recent.len() == PENALTY_WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// Chooses a token. Equal logits go to the lower id, so the choice never depends on order.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        let mut logits = logits.to_vec();
        self.penalise(&mut logits);
        let token = if self.settings.temperature == 0.0 {
            argmax(&logits)
        } else {
            self.random(&logits)
        };
        self.saw(token);
        token
    }

    fn penalise(&self, logits: &mut [f32]) {
        let penalty = self.settings.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut tokens: Vec<u32> = self.recent.iter().copied().collect();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }

    fn random(&mut self, logits: &[f32]) -> u32 {
        let mut candidates: Vec<(u32, f64)> =
            (0..).zip(logits.iter().map(|&x| f64::from(x))).collect();
        // Descending, the lower id first among equals; NaN last.
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let k = self.settings.top_k;
        if k > 0 && k < candidates.len() {
            candidates.select_nth_unstable_by(k - 1, order);
            candidates.truncate(k);
        }
        candidates.sort_unstable_by(order);
        let temperature = f64::from(self.settings.temperature);
        let max = candidates.first().map_or(0.0, |c| c.1);
        candidates
            .iter_mut()
            .for_each(|c| c.1 = ((c.1 - max) / temperature).exp());
        let total: f64 = candidates.iter().map(|c| c.1).sum();
        let mut kept = 0.0;
        let mut count = 0;
        for (_, weight) in &candidates {
            let enough = kept >= f64::from(self.settings.top_p) * total;
            // The first has weight 1: a share of it is a weight.
            if count > 0 && (enough || *weight < f64::from(self.settings.min_p)) {
                break;
            }
            kept += weight;
            count += 1;
        }
        let mut target = self.rng.random::<f64>() * kept;
        for (token, weight) in &candidates[..count] {
            target -= weight;
            if target < 0.0 {
                return *token;
            }
        }
        candidates[..count].last().map_or(0, |c| c.0)
    }
}

/// The most probable token; the lowest id among equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

/// `ln p(token)` under the softmax of the logits, in f64.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draws(settings: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(settings).unwrap();
        (0..n).map(|_| sampler.draw(logits)).collect()
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits = [0.0, 3.0, 2.0, 1.0, -5.0];
        let hot = Sampling {
            temperature: 5.0,
            ..Default::default()
        };
        let all = |settings: Sampling| {
            let mut seen = draws(settings, &logits, 400);
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(all(hot.clone()), [0, 1, 2, 3, 4]);
        assert_eq!(
            all(Sampling {
                top_k: 2,
                ..hot.clone()
            }),
            [1, 2]
        );
        // At temperature 1 the probabilities are .64 .24 .09 .03 .0002.
        let warm = Sampling {
            temperature: 1.0,
            ..hot
        };
        assert_eq!(
            all(Sampling {
                top_p: 0.7,
                ..warm.clone()
            }),
            [1, 2]
        );
        assert_eq!(
            all(Sampling {
                top_p: 0.01,
                ..warm.clone()
            }),
            [1]
        );
        assert_eq!(
            all(Sampling {
                min_p: 0.1,
                ..warm.clone()
            }),
            [1, 2, 3]
        );
        assert_eq!(all(Sampling { min_p: 1.0, ..warm }), [1]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let settings = Sampling {
            temperature: 1.0,
            seed: 3,
            ..Default::default()
        };
        let ones = draws(settings, &[0.0, 3f32.ln()], 4000)
            .iter()
            .filter(|&&t| t == 1)
            .count();
        assert!(
            (2850..3150).contains(&ones),
            "{ones} of 4000, expected 3000"
        );
    }

    #[test]
    fn repetition_is_penalised() {
        let settings = Sampling {
            repetition_penalty: 2.0,
            ..Default::default()
        };
        assert_eq!(draws(settings, &[3.0, 2.0, -1.0], 3), [0, 1, 0]);
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for settings in [
            Sampling {
                temperature: -1.0,
                ..Default::default()
            },
            Sampling {
                temperature: f32::NAN,
                ..Default::default()
            },
            Sampling {
                top_p: 0.0,
                ..Default::default()
            },
            Sampling {
                min_p: 1.5,
                ..Default::default()
            },
            Sampling {
                repetition_penalty: 0.0,
                ..Default::default()
            },
        ] {
            assert!(Sampler::new(settings).is_err());
        }
    }

    proptest! {
        #[test]
        fn the_same_seed_draws_the_same(logits in prop::collection::vec(-9f32..9.0, 1..50), seed in any::<u64>()) {
            let settings = Sampling { temperature: 0.8, top_k: 20, top_p: 0.9, seed, ..Default::default() };
            prop_assert_eq!(draws(settings.clone(), &logits, 20), draws(settings, &logits, 20));
        }

        #[test]
        fn log_probabilities_add_up(logits in prop::collection::vec(-50f32..50.0, 1..50)) {
            let total: f64 = (0..logits.len() as u32).map(|t| log_probability(&logits, t).exp()).sum();
            prop_assert!((total - 1.0).abs() < 1e-6);
        }
    }
}

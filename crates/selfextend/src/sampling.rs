//! From logits to the next token.

use crate::builder::with_fields;
use crate::error::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// How the next token is chosen. The steps run in this order (as in transformers): bias, penalties,
/// temperature, top-k, top-p, min-p, draw.
///
/// Penalties are defined as in transformers and vLLM: the repetition penalty counts the prompt and
/// the answer, all of them; presence and frequency count the answer alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Keeps the `k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less probable than this share of the most probable one; 0 drops none.
    pub min_p: f32,
    /// Divides the positive logits of tokens in the prompt or the answer and multiplies their
    /// negative ones; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token of the answer; 0 changes nothing.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time it is in the answer; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Added to the logits of some tokens.
    pub bias: Vec<(u32, f32)>,
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
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most probable token each time.
    pub fn new() -> Self {
        Self::default()
    }

    with_fields! {
        /// With a temperature; 0 takes the most probable token.
        with_temperature(temperature: f32);
        /// With the `k` most probable tokens only; 0 keeps all.
        with_top_k(top_k: usize);
        /// With the most probable tokens that together have this probability; 1 keeps all.
        with_top_p(top_p: f32);
        /// Without tokens less probable than this share of the most probable one; 0 drops none.
        with_min_p(min_p: f32);
        /// With a repetition penalty; 1 changes nothing.
        with_repetition_penalty(repetition_penalty: f32);
        /// With a presence penalty; 0 changes nothing.
        with_presence_penalty(presence_penalty: f32);
        /// With a frequency penalty; 0 changes nothing.
        with_frequency_penalty(frequency_penalty: f32);
        /// With numbers that are added to the logits of some tokens.
        with_bias(bias: Vec<(u32, f32)>);
        /// With a seed of the draws.
        with_seed(seed: u64);
    }
}

/// Draws tokens one after another.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha8Rng,
    /// The tokens of the prompt and the answer; empty without a repetition penalty.
    seen: BTreeSet<u32>,
    /// How often each token was drawn; empty without the other two penalties.
    drawn: BTreeMap<u32, u32>,
}

impl Sampler {
    /// Checks the settings and starts a sequence of draws. The repetition penalty needs to know
    /// the prompt: see [`saw`](Self::saw).
    ///
    /// # Errors
    /// [`Error::Sampling`] for a value outside its range.
    pub fn new(settings: Sampling) -> Result<Self> {
        let Sampling {
            temperature,
            top_p,
            min_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
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
            ("presence penalty", presence_penalty, true, "a number"),
            ("frequency penalty", frequency_penalty, true, "a number"),
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
            seen: BTreeSet::new(),
            drawn: BTreeMap::new(),
        })
    }

    /// Tells the repetition penalty which tokens stand before the first draw: those of the prompt.
    pub fn saw(&mut self, tokens: &[u32]) {
        if self.settings.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Chooses a token. Equal logits go to the lower id, so the choice never depends on order.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        self.draw_among(logits, None)
    }

    /// Chooses among the tokens whose bits are set in `mask` (token 0 is the lowest bit of the
    /// first word), where there is one.
    pub fn draw_among(&mut self, logits: &[f32], mask: Option<&[u32]>) -> u32 {
        let mut logits = logits.to_vec();
        self.adjust(&mut logits);
        if let Some(mask) = mask {
            for (token, logit) in logits.iter_mut().enumerate() {
                let word = mask.get(token / 32).copied().unwrap_or(0);
                if word >> (token % 32) & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let token = if self.settings.temperature == 0.0 {
            argmax(&logits)
        } else {
            self.random(&logits)
        };
        self.saw(&[token]);
        if self.settings.presence_penalty != 0.0 || self.settings.frequency_penalty != 0.0 {
            *self.drawn.entry(token).or_default() += 1;
        }
        token
    }

    /// Adds the bias and subtracts the penalties.
    fn adjust(&self, logits: &mut [f32]) {
        for (token, bias) in &self.settings.bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        self.penalise(logits);
        for (token, count) in &self.drawn {
            let settings = &self.settings;
            let penalty = settings.presence_penalty + settings.frequency_penalty * *count as f32;
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit -= penalty;
            }
        }
    }

    fn penalise(&self, logits: &mut [f32]) {
        let penalty = self.settings.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        for token in &self.seen {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }

    fn random(&mut self, logits: &[f32]) -> u32 {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let mut candidates = Descending::new(logits, top_k, f64::from(temperature));
        let total = candidates.total();
        let (mut kept, mut count) = (total, candidates.len());
        if top_p < 1.0 || min_p > 0.0 {
            (kept, count) = (0.0, 0);
            while let Some((_, weight)) = candidates.get(count) {
                let enough = kept >= f64::from(top_p) * total;
                // The first has weight 1: a share of it is a weight.
                if count > 0 && (enough || weight < f64::from(min_p)) {
                    break;
                }
                kept += weight;
                count += 1;
            }
        }
        let mut target = self.rng.random::<f64>() * kept;
        for at in 0..count {
            let Some((token, weight)) = candidates.get(at) else {
                break;
            };
            target -= weight;
            if target < 0.0 {
                return token;
            }
        }
        // Rounding left a remainder: the last candidate.
        let last = count.checked_sub(1).and_then(|at| candidates.get(at));
        last.map_or(0, |(token, _)| token)
    }
}

/// Tokens by descending weight, the lower id first among equals. Sorted only as far as they are read:
/// of a vocabulary of 50,000 that is about a hundred in most draws.
struct Descending {
    /// `e^((logit - the largest) / temperature)`.
    weights: Vec<(u32, f64)>,
    sorted: usize,
}

impl Descending {
    fn new(logits: &[f32], top_k: usize, temperature: f64) -> Self {
        // A token that a mask or a bias forbids is not a candidate.
        let possible = (0..)
            .zip(logits)
            .filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        let mut weights: Vec<(u32, f64)> = possible.map(|(id, &x)| (id, f64::from(x))).collect();
        if top_k > 0 && top_k < weights.len() {
            weights.select_nth_unstable_by(top_k - 1, descending);
            weights.truncate(top_k);
        }
        let max = weights
            .iter()
            .fold(f64::NEG_INFINITY, |max, w| max.max(w.1));
        let weigh = |(_, weight): &mut (u32, f64)| *weight = ((*weight - max) / temperature).exp();
        weights.iter_mut().for_each(weigh);
        Self { weights, sorted: 0 }
    }

    fn len(&self) -> usize {
        self.weights.len()
    }

    fn total(&self) -> f64 {
        self.weights.iter().map(|(_, weight)| weight).sum()
    }

    fn get(&mut self, at: usize) -> Option<(u32, f64)> {
        while at >= self.sorted && self.sorted < self.weights.len() {
            let rest = &mut self.weights[self.sorted..];
            let more = (self.sorted * 3).max(64).min(rest.len());
            if more < rest.len() {
                rest.select_nth_unstable_by(more - 1, descending);
            }
            rest[..more].sort_unstable_by(descending);
            self.sorted += more;
        }
        self.weights.get(at).copied()
    }
}

fn descending(a: &(u32, f64), b: &(u32, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
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

/// Looks for a logit that is not a number or infinite: what a model with damaged weights gives.
/// It compares bits as integers, which takes a fraction of the time of copying them.
///
/// # Errors
/// [`Error::NotFinite`] with the first such token.
pub(crate) fn check_finite(logits: &[f32]) -> Result<()> {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let size = |logit: &f32| logit.abs().to_bits();
    if logits.iter().map(size).fold(0, u32::max) < INFINITY {
        return Ok(());
    }
    let mut bad = (0..)
        .zip(logits)
        .filter(|(_, logit)| size(logit) >= INFINITY);
    let (token, logit) = bad.next().unwrap_or((0, &f32::NAN));
    Err(Error::NotFinite {
        token,
        value: *logit,
    })
}

/// The same for a score: logits that are not finite make it no finite number either.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn check_score(score: TokenScore, token: u32) -> Result<()> {
    if score.log_probability.is_finite() {
        return Ok(());
    }
    Err(Error::NotFinite {
        token,
        value: score.log_probability as f32,
    })
}

/// The probability that a model gave to the token that followed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenScore {
    /// `ln p(token)`.
    pub log_probability: f64,
    /// Whether no other token was more probable.
    pub is_top: bool,
}

impl TokenScore {
    /// Of a token under the softmax of the logits.
    pub fn new(logits: &[f32], token: u32) -> Self {
        Self {
            log_probability: log_probability(logits, token),
            is_top: argmax(logits) == token,
        }
    }
}

/// `ln p(token)` under the softmax of the logits, in f64.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

#[cfg(test)]
mod tests;

//! Context extension by other frequencies, on top of the model's own.
//!
//! Every method divides the frequency of pair `t` by a number of its own, so all layers'
//! embeddings, whatever their base, change alike. `s` is how many times the trained window the
//! context is; it is fixed for a sequence (see [`crate::position`] on the current length).

use super::clipped::Clipped;
use super::embedding::{Rope, YarnRamp};
use super::radix::MixedRadix;
use crate::error::AttentionError;
use std::f64::consts::PI;

/// The most pairs of a head that have factors of their own.
pub const MAX_PAIRS: usize = 256;

/// How a context extension changes the frequencies of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
// Factors are kept inline, so that the settings of a sequence, of which there is one each, can be
// copied.
#[allow(clippy::large_enum_variant)]
pub enum Frequencies {
    /// Not at all.
    #[default]
    Trained,
    /// Position interpolation (Chen et al., arXiv 2306.15595, equation 4): every frequency divided
    /// by `s`.
    Interpolated {
        /// `s`.
        factor: f64,
    },
    /// NTK-aware scaling (bloc97; arXiv 2309.00071, section 3.1): the base times `s^(D/(D-2))`,
    /// which divides pair `t` by `s^(2t/(D-2))`: the first by 1, the last by `s`.
    Ntk {
        /// `s`.
        factor: f64,
    },
    /// YaRN (Peng et al., arXiv 2309.00071, section 3.2).
    Yarn(Yarn),
    /// MrRoPE (Tian et al., arXiv 2601.22181).
    MixedRadix(MixedRadix),
    /// CoPE (Li et al., arXiv 2602.05258): the slowest frequencies tapered to zero.
    Clipped(Clipped),
    /// A divisor for each pair (LongRoPE, arXiv 2402.13753; LongRoPE2, arXiv 2502.20082).
    Factors(Factors),
}

/// YaRN: slow pairs are interpolated, fast ones kept, with a ramp between, and queries and keys are
/// multiplied by `0.1 ln s + 1` (equation 22).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// `s`.
    pub factor: f64,
    /// The trained window.
    pub trained: usize,
    /// Rotations in the trained window below which a pair is interpolated (the paper's alpha, 1).
    pub slow: f64,
    /// Rotations above which a pair is kept (the paper's beta, 32).
    pub fast: f64,
    /// What the ramp is linear in.
    pub ramp: Ramp,
}

/// What YaRN's ramp between kept and interpolated pairs is linear in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ramp {
    /// The number of the pair, between whole ends: the authors' code, transformers, vLLM and
    /// llama.cpp, which published results and models are based on.
    #[default]
    Pairs,
    /// The rotations of a pair in the trained window: the paper's equations 19 to 21.
    Rotations,
}

/// Divisors of the frequencies, and what rotated queries and keys are multiplied by. Kept inline, so
/// that settings can be copied.
#[derive(Clone, Copy, PartialEq)]
pub struct Factors {
    divisors: [f32; MAX_PAIRS],
    count: usize,
    magnitude: f64,
}

impl Factors {
    /// A divisor for each pair.
    ///
    /// # Errors
    /// [`AttentionError::Rope`] when there are more than [`MAX_PAIRS`], or one is not a
    /// positive number.
    pub fn new(divisors: &[f32], magnitude: f64) -> Result<Self, AttentionError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let all = divisors.iter().map(|&x| f64::from(x)).chain([magnitude]);
        if divisors.len() > MAX_PAIRS || !all.into_iter().all(positive) {
            return Err(AttentionError::Rope(format!(
                "frequency factors must be positive numbers, at most {MAX_PAIRS}; {} given",
                divisors.len()
            )));
        }
        let mut inline = [1.0; MAX_PAIRS];
        inline[..divisors.len()].copy_from_slice(divisors);
        Ok(Self {
            divisors: inline,
            count: divisors.len(),
            magnitude,
        })
    }

    /// LongRoPE's magnitude for `s` times a trained window: `sqrt(1 + ln s / ln L)` (arXiv
    /// 2402.13753, as Phi-3's code has it).
    pub fn magnitude_for(factor: f64, trained: usize) -> f64 {
        (1.0 + factor.max(1.0).ln() / (trained.max(2) as f64).ln()).sqrt()
    }

    /// The divisors.
    pub fn divisors(&self) -> &[f32] {
        &self.divisors[..self.count]
    }
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Factors")
            .field("divisors", &self.divisors())
            .field("magnitude", &self.magnitude)
            .finish()
    }
}

impl Rope {
    /// The same embedding with its frequencies changed.
    ///
    /// # Errors
    /// [`AttentionError::Rope`] for a factor that is not a number of at least 1, or when there are
    /// not as many factors as pairs.
    pub fn extended(&self, change: &Frequencies) -> Result<Self, AttentionError> {
        let pairs = self.pairs();
        let (divisors, magnitude): (Vec<f64>, f64) = match *change {
            Frequencies::Trained => return Ok(self.clone()),
            Frequencies::Interpolated { factor } => (vec![checked(factor)?; pairs], 1.0),
            Frequencies::Ntk { factor } => {
                let (factor, last) = (checked(factor)?, pairs.saturating_sub(1).max(1) as f64);
                let divisor = |t| factor.powf(t as f64 / last);
                ((0..pairs).map(divisor).collect(), 1.0)
            }
            Frequencies::Yarn(yarn) => {
                let factor = checked(yarn.factor)?;
                let divisor = |t| {
                    let share = yarn.interpolated(self, t);
                    // The frequency is interpolated linearly, so the divisor is not.
                    1.0 / (share / factor + 1.0 - share)
                };
                let magnitude = 0.1 * factor.ln() + 1.0;
                ((0..pairs).map(divisor).collect(), magnitude)
            }
            Frequencies::MixedRadix(radix) => {
                let factor = checked(radix.factor)?;
                let divisors = (0..pairs).map(|t| radix.divisor(self, t));
                (divisors.collect(), 0.1 * factor.ln() + 1.0)
            }
            Frequencies::Clipped(clipped) => {
                // A frequency of zero is divided by infinity.
                let weights = clipped.weights(self)?.into_iter();
                (weights.map(|weight| 1.0 / weight).collect(), 1.0)
            }
            Frequencies::Factors(factors) => {
                if factors.count != pairs {
                    return Err(AttentionError::Rope(format!(
                        "{} frequency factors given, the model's heads have {pairs} pairs",
                        factors.count
                    )));
                }
                let divisors = factors.divisors().iter().map(|&x| f64::from(x));
                (divisors.collect(), factors.magnitude)
            }
        };
        let mut changed = self.clone();
        let frequencies = changed.frequencies.iter_mut();
        frequencies.zip(divisors).for_each(|(f, d)| *f /= d);
        changed.magnitude *= magnitude;
        Ok(changed)
    }
}

/// `s`, at least 1.
fn checked(factor: f64) -> Result<f64, AttentionError> {
    if factor.is_finite() && factor >= 1.0 {
        return Ok(factor);
    }
    Err(AttentionError::Rope(format!(
        "scaling factor {factor} must be at least 1"
    )))
}

impl Yarn {
    /// As the authors' code has it, for `s` times a trained window.
    pub fn new(factor: f64, trained: usize) -> Self {
        Self {
            factor,
            trained,
            slow: 1.0,
            fast: 32.0,
            ramp: Ramp::Pairs,
        }
    }

    /// 1 interpolates pair `t` fully, 0 keeps it.
    fn interpolated(&self, rope: &Rope, t: usize) -> f64 {
        match self.ramp {
            Ramp::Rotations => {
                let rotations = self.trained as f64 * rope.frequencies[t] / (2.0 * PI);
                1.0 - ((rotations - self.slow) / (self.fast - self.slow)).clamp(0.0, 1.0)
            }
            Ramp::Pairs => {
                let spec = rope.spec();
                let (dim, theta) = (spec.rotary_dim, spec.theta);
                let betas = [self.fast, self.slow];
                YarnRamp::new(dim, theta, self.trained, betas, true).interpolated(t)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RopeScaling, RopeSpec};

    fn rope() -> Rope {
        Rope::new(RopeSpec::new(64, 1e4)).unwrap()
    }

    fn divisors(change: Frequencies) -> Vec<f64> {
        let (before, after) = (rope(), rope().extended(&change).unwrap());
        let pairs = before.frequencies.iter().zip(&after.frequencies);
        pairs.map(|(before, after)| before / after).collect()
    }

    #[test]
    fn ntk_is_a_larger_base() {
        // The definition: base * s^(D/(D-2)).
        let base = 1e4 * 4f64.powf(64.0 / 62.0);
        let larger = Rope::new(RopeSpec::new(64, base)).unwrap();
        let ntk = rope().extended(&Frequencies::Ntk { factor: 4.0 }).unwrap();
        for (a, b) in larger.frequencies.iter().zip(&ntk.frequencies) {
            assert!((a / b - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn interpolation_is_the_files_linear_scaling() {
        let own = Rope::new(RopeSpec {
            scaling: RopeScaling::Linear { factor: 3.0 },
            ..RopeSpec::new(64, 1e4)
        })
        .unwrap();
        let extended = rope().extended(&Frequencies::Interpolated { factor: 3.0 });
        assert_eq!(extended.unwrap().frequencies, own.frequencies);
    }

    #[test]
    fn yarns_code_is_the_files_yarn_scaling() {
        let own = Rope::new(RopeSpec {
            scaling: RopeScaling::Yarn {
                factor: 4.0,
                original_context: 2048,
                beta_fast: 32.0,
                beta_slow: 1.0,
                truncate: true,
                magnitude: None,
            },
            ..RopeSpec::new(64, 1e4)
        })
        .unwrap();
        let code = Yarn::new(4.0, 2048);
        let extended = rope().extended(&Frequencies::Yarn(code)).unwrap();
        assert_eq!(extended.magnitude(), own.magnitude());
        for (a, b) in extended.frequencies.iter().zip(&own.frequencies) {
            assert!((a / b - 1.0).abs() < 1e-12);
        }
    }

    /// `_compute_yarn_parameters` of transformers 4.57.1, run once in float64 with numpy standing in
    /// for torch: base, size of a head, trained window, factor; the magnitude and some frequencies.
    #[test]
    fn yarn_is_that_of_transformers() {
        type Case = (f64, usize, usize, f64, f64, &'static [(usize, f64)]);
        let cases: [Case; 3] = [
            (
                1e4,
                64,
                2048,
                4.0,
                1.138_629_436_111_989,
                &[
                    (8, 0.1),
                    (11, 0.034_871_057_014_286_61),
                    (14, 0.011_627_211_527_177_573),
                    (18, 0.002_379_136_375_805_323),
                    (31, 3.333_803_580_408_31e-5),
                ],
            ),
            (
                1e5,
                64,
                8192,
                2.0,
                1.069_314_718_055_994_5,
                &[
                    (8, 0.056_234_132_519_034_905),
                    (14, 0.005_195_053_052_609_691),
                    (18, 0.000_923_955_915_635_695),
                    (23, 0.000_127_414_837_398_967_32),
                    (31, 7.165_062_851_184_813_5e-6),
                ],
            ),
            (
                1e6,
                128,
                32768,
                4.0,
                1.138_629_436_111_989,
                &[
                    (19, 0.016_548_170_999_431_816),
                    (30, 0.001_064_360_981_247_001_7),
                    (34, 0.000_334_240_545_664_226_34),
                    (39, 6.490_394_320_837_029e-5),
                    (63, 3.102_344_401_879_299e-7),
                ],
            ),
        ];
        for (theta, dim, trained, factor, magnitude, frequencies) in cases {
            let rope = Rope::new(RopeSpec::new(dim, theta)).unwrap();
            let yarn = Frequencies::Yarn(Yarn::new(factor, trained));
            let extended = rope.extended(&yarn).unwrap();
            assert!((extended.magnitude() - magnitude).abs() < 1e-12);
            for &(t, frequency) in frequencies {
                let ours = extended.frequencies[t];
                assert!((ours / frequency - 1.0).abs() < 1e-12, "{t}: {ours}");
            }
        }
    }

    #[test]
    fn yarns_paper_ramp_is_linear_in_rotations() {
        let yarn = Yarn {
            ramp: Ramp::Rotations,
            ..Yarn::new(4.0, 2048)
        };
        let divisors = divisors(Frequencies::Yarn(yarn));
        assert!((divisors[0] - 1.0).abs() < 1e-12 && (divisors[31] - 4.0).abs() < 1e-12);
        // Pair 12 turns r = 2048 / (2 pi 10000^(24/64)) = 10.3 times: gamma = (r - 1) / 31.
        let rotations = 2048.0 / (2.0 * PI * 1e4f64.powf(24.0 / 64.0));
        let gamma = (rotations - 1.0) / 31.0;
        let expected = 1.0 / ((1.0 - gamma) / 4.0 + gamma);
        assert!((divisors[12] - expected).abs() < 1e-9);
    }

    #[test]
    fn factors_divide_and_must_fit() {
        let factors: Vec<f32> = (0..32).map(|t| 1.0 + t as f32).collect();
        let longrope = Factors::new(&factors, 1.25).unwrap();
        let divided = divisors(Frequencies::Factors(longrope));
        assert!(
            divided
                .iter()
                .zip(&factors)
                .all(|(a, b)| (a - f64::from(*b)).abs() < 1e-9)
        );
        let few = Factors::new(&factors[1..], 1.0).unwrap();
        assert!(rope().extended(&Frequencies::Factors(few)).is_err());
        assert!(Factors::new(&[0.0], 1.0).is_err());
        assert!(Factors::new(&[1.0; MAX_PAIRS + 1], 1.0).is_err());
        assert!(rope().extended(&Frequencies::Ntk { factor: 0.5 }).is_err());
        assert!((Factors::magnitude_for(4.0, 4096) - 1.080_1).abs() < 1e-4);
    }
}

//! MrRoPE (Tian et al., arXiv 2601.22181): a position is a number in a mixed radix, whose digits are
//! the pairs, and a longer context makes the radix of the middle digits larger.
//!
//! As in the authors' code (github.com/mattian7/mrRoPE, `LlamaYaRNRadix.py`): the pairs between those
//! that turn `fast` and `slow` times in the trained window, found as YaRN's code finds them, share the
//! factor `s`; faster pairs are kept, slower ones divided by `s`. Queries and keys are multiplied by
//! YaRN's `0.1 ln s + 1`.

use super::embedding::{Rope, YarnRamp};

/// MrRoPE for `s` times a trained window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixedRadix {
    /// `s`.
    pub factor: f64,
    /// The trained window.
    pub trained: usize,
    /// Rotations in the trained window below which a pair is interpolated (1).
    pub slow: f64,
    /// Rotations above which a pair is kept (32).
    pub fast: f64,
    /// How the middle pairs share the factor.
    pub growth: RadixGrowth,
}

/// How the radix grows from digit to digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RadixGrowth {
    /// More from each pair to the next slower one (MrRoPE-Pro).
    #[default]
    Progressive,
    /// Alike for all (MrRoPE-Uni).
    Uniform,
}

impl MixedRadix {
    /// MrRoPE-Pro with the authors' boundaries.
    pub fn new(factor: f64, trained: usize) -> Self {
        Self {
            factor,
            trained,
            slow: 1.0,
            fast: 32.0,
            growth: RadixGrowth::Progressive,
        }
    }

    /// What the frequency of pair `t` is divided by.
    pub(super) fn divisor(&self, rope: &Rope, t: usize) -> f64 {
        let spec = rope.spec();
        let betas = [self.fast, self.slow];
        let ramp = YarnRamp::new(spec.rotary_dim, spec.theta, self.trained, betas, true);
        let (at, low, high) = (t as f64, ramp.low, ramp.high);
        if at <= low {
            return 1.0;
        }
        if at >= high {
            return self.factor;
        }
        let (step, steps) = (at - low, high - low);
        let share = match self.growth {
            RadixGrowth::Uniform => step / steps,
            RadixGrowth::Progressive => step * (step + 1.0) / (steps * (steps + 1.0)),
        };
        self.factor.powf(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frequencies, RopeSpec};

    /// Frequencies of `yarn_radix3` (MrRoPE-Pro) and `yarn_radix` (MrRoPE-Uni) of the authors' code,
    /// run once in float64 with numpy standing in for torch: base, size of a head, trained window and
    /// factor; pairs.
    #[test]
    fn frequencies_are_those_of_the_authors_code() {
        use RadixGrowth::{Progressive, Uniform};
        type Case = (RadixGrowth, (f64, usize, usize, f64), [(usize, f64); 4]);
        let cases: [Case; 4] = [
            (
                Progressive,
                (1e4, 64, 2048, 4.0),
                [
                    (8, 0.1),
                    (10, 0.053_721_962_383_364_23),
                    (18, 0.002_432_862_631_065_435_6),
                    (31, 3.333_803_580_408_31e-5),
                ],
            ),
            (
                Progressive,
                (1e6, 128, 32768, 4.0),
                [
                    (24, 0.005_572_691_062_062_449),
                    (31, 0.000_895_547_911_830_829),
                    (36, 0.000_184_889_407_754_242_68),
                    (63, 3.102_344_401_879_299e-7),
                ],
            ),
            (
                Uniform,
                (1e4, 64, 2048, 4.0),
                [
                    (8, 0.1),
                    (13, 0.013_913_566_397_443_011),
                    (20, 0.000_879_533_358_273_518_9),
                    (31, 3.333_803_580_408_313e-5),
                ],
            ),
            (
                Uniform,
                (1e5, 64, 8192, 2.0),
                [
                    (13, 0.007_558_593_702_272_609),
                    (15, 0.003_204_313_519_661_541),
                    (20, 0.000_374_947_104_666_228),
                    (31, 7.165_062_851_184_816e-6),
                ],
            ),
        ];
        for (growth, (theta, dim, trained, factor), pairs) in cases {
            let rope = Rope::new(RopeSpec::new(dim, theta)).unwrap();
            let radix = MixedRadix {
                growth,
                ..MixedRadix::new(factor, trained)
            };
            let extended = rope.extended(&Frequencies::MixedRadix(radix)).unwrap();
            let magnitude = 0.1 * factor.ln() + 1.0;
            assert!((extended.magnitude() - magnitude).abs() < 1e-12);
            for (t, frequency) in pairs {
                let ours = extended.frequency(t);
                assert!((ours / frequency - 1.0).abs() < 1e-12, "{t}: {ours}");
            }
        }
    }

    #[test]
    fn divisors_grow_from_1_to_the_factor() {
        let rope = Rope::new(RopeSpec::new(128, 1e6)).unwrap();
        for growth in [RadixGrowth::Progressive, RadixGrowth::Uniform] {
            let radix = MixedRadix {
                growth,
                ..MixedRadix::new(8.0, 32768)
            };
            let all: Vec<f64> = (0..64).map(|t| radix.divisor(&rope, t)).collect();
            assert!(all.is_sorted() && all[0] == 1.0 && all[63] == 8.0);
            // The radix of a digit is the quotient of two divisors: its growth is what tells them apart.
            let radices: Vec<f64> = all.windows(2).map(|pair| pair[1] / pair[0]).collect();
            let middle: Vec<f64> = radices.into_iter().filter(|radix| *radix > 1.0).collect();
            let grows = middle.windows(2).all(|pair| pair[1] > pair[0] + 1e-9);
            assert_eq!(grows, growth == RadixGrowth::Progressive, "{middle:?}");
        }
    }
}

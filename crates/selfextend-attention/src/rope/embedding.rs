//! The rotary embedding of a model: its frequencies, tables of angles, and rotations.

use crate::error::AttentionError;

/// Which two components of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairLayout {
    /// Component `t` with `t + rotary/2` (GPT-NeoX, Hugging Face checkpoints).
    HalfSplit,
    /// Component `2t` with `2t + 1` (the original Llama, GGUF's llama architecture).
    Interleaved,
}

/// How a model's own training changed its frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Unchanged.
    None,
    /// Every position divided by `factor` (position interpolation, arXiv 2306.15595).
    Linear {
        /// How many times the original window.
        factor: f64,
    },
    /// YaRN (arXiv 2309.00071, section 3.2): a ramp over the dimensions between interpolation and
    /// none, and a temperature on queries and keys.
    Yarn {
        /// How many times the original window.
        factor: f64,
        /// The window before the extension, in tokens.
        original_context: usize,
        /// Rotations in the original window above which a dimension stays as it is.
        beta_fast: f64,
        /// Rotations below which a dimension is fully interpolated.
        beta_slow: f64,
        /// The ramp begins and ends at whole pairs.
        truncate: bool,
        /// What rotated queries and keys are multiplied by; `0.1 ln(factor) + 1` where absent.
        magnitude: Option<f64>,
    },
    /// One divisor for each pair (Llama 3's and longrope's factors, as files carry them).
    Factors(Vec<f32>),
    /// The same with a magnitude for queries and keys (longrope, arXiv 2402.13753).
    LongRope {
        /// One divisor for each pair.
        factors: Vec<f32>,
        /// What rotated queries and keys are multiplied by.
        magnitude: f64,
    },
}

impl RopeScaling {
    /// YaRN's temperature as a factor of queries and keys: `0.1 weight ln(factor) + 1`, and 1 for
    /// factors up to 1 (arXiv 2309.00071, equation 22; the weight is the `mscale` of config.json).
    pub fn yarn_magnitude(factor: f64, weight: f64) -> f64 {
        0.1 * weight * factor.max(1.0).ln() + 1.0
    }
}

/// What defines a model's rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Components of a head.
    pub head_dim: usize,
    /// How many of them, from the first, are rotated; even.
    pub rotary_dim: usize,
    /// The base of the geometric series of frequencies.
    pub theta: f64,
    /// Which components are paired.
    pub layout: PairLayout,
    /// The model's own scaling.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// Full rotation in half-split pairs, unscaled.
    pub fn new(head_dim: usize, theta: f64) -> Self {
        Self {
            head_dim,
            rotary_dim: head_dim,
            theta,
            layout: PairLayout::HalfSplit,
            scaling: RopeScaling::None,
        }
    }
}

/// Frequencies ready for use.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    spec: RopeSpec,
    /// Radians per position, one for each pair.
    pub(super) frequencies: Vec<f64>,
    /// What YaRN multiplies rotated queries and keys by.
    pub(super) magnitude: f64,
}

impl Rope {
    /// Computes the frequencies of a specification.
    ///
    /// # Errors
    /// [`AttentionError::Rope`] for an odd or too large rotary size, a base or factor that is not
    /// a positive number, or a list of factors of the wrong length.
    pub fn new(spec: RopeSpec) -> Result<Self, AttentionError> {
        let bad = |text: String| Err(AttentionError::Rope(text));
        let RopeSpec {
            head_dim,
            rotary_dim,
            theta,
            ..
        } = spec;
        if rotary_dim % 2 != 0 || rotary_dim > head_dim {
            return bad(format!(
                "rotary size {rotary_dim} must be even and at most the head size {head_dim}"
            ));
        }
        if !(theta.is_finite() && theta > 0.0) {
            return bad(format!("base {theta} must be a positive number"));
        }
        let pairs = rotary_dim / 2;
        let mut frequencies: Vec<f64> = (0..pairs)
            .map(|t| theta.powf(-2.0 * t as f64 / rotary_dim as f64))
            .collect();
        let mut magnitude = 1.0;
        match &spec.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } | RopeScaling::Yarn { factor, .. }
                if !(factor.is_finite() && *factor > 0.0) =>
            {
                return bad(format!("scaling factor {factor} must be a positive number"));
            }
            RopeScaling::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                truncate,
                magnitude: own,
            } => {
                let betas = [*beta_fast, *beta_slow];
                let ramp = YarnRamp::new(rotary_dim, theta, *original_context, betas, *truncate);
                for (t, f) in frequencies.iter_mut().enumerate() {
                    *f *= 1.0 + ramp.interpolated(t) * (1.0 / factor - 1.0);
                }
                magnitude = own.unwrap_or_else(|| RopeScaling::yarn_magnitude(*factor, 1.0));
            }
            RopeScaling::Factors(factors) | RopeScaling::LongRope { factors, .. } => {
                if factors.len() != pairs || factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
                    return bad(format!(
                        "{} frequency factors given, {pairs} positive ones needed",
                        factors.len()
                    ));
                }
                frequencies
                    .iter_mut()
                    .zip(factors)
                    .for_each(|(f, d)| *f /= f64::from(*d));
            }
        }
        if let RopeScaling::LongRope { magnitude: own, .. } = &spec.scaling {
            magnitude = *own;
        }
        if !(magnitude.is_finite() && magnitude > 0.0) {
            return bad(format!("magnitude {magnitude} must be a positive number"));
        }
        if frequencies.iter().any(|frequency| !frequency.is_finite()) {
            return bad(format!(
                "the scaling {:?} gives no finite frequencies",
                spec.scaling
            ));
        }
        Ok(Self {
            spec,
            frequencies,
            magnitude,
        })
    }

    /// The specification it was made from.
    pub fn spec(&self) -> &RopeSpec {
        &self.spec
    }

    /// Number of rotated pairs.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// The two components of pair `t`.
    pub fn pair(&self, t: usize) -> (usize, usize) {
        match self.spec.layout {
            PairLayout::HalfSplit => (t, t + self.pairs()),
            PairLayout::Interleaved => (2 * t, 2 * t + 1),
        }
    }

    /// Radians that pair `t` turns per position.
    pub fn frequency(&self, t: usize) -> f64 {
        self.frequencies[t]
    }

    /// Cosine and sine of pair `t` at `position`, in f64, without the magnitude.
    pub fn angle(&self, position: f64, t: usize) -> (f64, f64) {
        let (sin, cos) = (position * self.frequencies[t]).sin_cos();
        (cos, sin)
    }

    /// The band of pair `t` where pairs fall into `bands` of equal width, counted from the slowest.
    pub fn band(&self, t: usize, bands: usize) -> usize {
        let pairs = self.pairs().max(1);
        bands - 1 - (t * bands / pairs).min(bands - 1)
    }

    /// What rotated queries and keys are multiplied by (1 except for YaRN and longrope).
    pub fn magnitude(&self) -> f64 {
        self.magnitude
    }

    /// The angles of a list of positions, one row for each.
    pub fn table(&self, positions: impl Iterator<Item = f64>) -> RopeTable {
        let mut table = RopeTable::default();
        table.fill(self, positions);
        table
    }

    /// Rotates one head in place by row `row` of a table this embedding made.
    pub fn rotate(&self, table: &RopeTable, row: usize, head: &mut [f32]) {
        let angles = &table.cos_sin[row * table.pairs..(row + 1) * table.pairs];
        for (t, &[cos, sin]) in angles.iter().enumerate() {
            let (a, b) = self.pair(t);
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}

/// Cosines and sines of some positions, `[position][pair]`.
#[derive(Debug, Clone, Default)]
pub struct RopeTable {
    pairs: usize,
    cos_sin: Vec<[f32; 2]>,
}

impl RopeTable {
    /// [`Rope::table`] in the memory of an earlier table.
    pub fn fill(&mut self, rope: &Rope, positions: impl Iterator<Item = f64>) {
        self.clear(rope);
        for position in positions {
            for t in 0..self.pairs {
                self.push(rope, position, t);
            }
        }
    }

    /// The same where each band of pairs has positions of its own: those of all rows in band 0 come
    /// first, as in a [`Lowering`](crate::lowering::Lowering).
    pub fn fill_bands(&mut self, rope: &Rope, bands: usize, positions: &[f64]) {
        self.clear(rope);
        let rows = positions.len() / bands;
        for row in 0..rows {
            for t in 0..self.pairs {
                self.push(rope, positions[rope.band(t, bands) * rows + row], t);
            }
        }
    }

    fn clear(&mut self, rope: &Rope) {
        self.pairs = rope.pairs();
        self.cos_sin.clear();
    }

    fn push(&mut self, rope: &Rope, position: f64, t: usize) {
        let (cos, sin) = rope.angle(position, t);
        let angle = [cos, sin].map(|x| (x * rope.magnitude) as f32);
        self.cos_sin.push(angle);
    }
}

/// YaRN's share of interpolation for each pair.
pub(super) struct YarnRamp {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl YarnRamp {
    pub(super) fn new(
        dim: usize,
        theta: f64,
        context: usize,
        [beta_fast, beta_slow]: [f64; 2],
        truncate: bool,
    ) -> Self {
        // The pair that turns `rotations` times in the original window (arXiv 2309.00071, eq. 17).
        let pair = |rotations: f64| {
            let turns = context as f64 / (rotations * 2.0 * std::f64::consts::PI);
            dim as f64 * turns.ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        // `transformers` does the same, and leaves a ramp that falls as it is.
        let high = if high == low { low + 0.001 } else { high };
        Self { low, high }
    }

    /// 0 keeps the pair's frequency, 1 interpolates it fully.
    pub(super) fn interpolated(&self, pair: usize) -> f64 {
        ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn scores_depend_on_the_difference_of_positions_only() {
        for layout in [PairLayout::HalfSplit, PairLayout::Interleaved] {
            let rope = Rope::new(RopeSpec {
                layout,
                rotary_dim: 6,
                ..RopeSpec::new(8, 1e4)
            })
            .unwrap();
            let q: Vec<f32> = (0..8).map(|i| (i as f32).sin()).collect();
            let k: Vec<f32> = (0..8).map(|i| (i as f32 * 0.7).cos()).collect();
            let score = |pq, pk| {
                let table = rope.table([pq, pk].map(f64::from).into_iter());
                let (mut q, mut k) = (q.clone(), k.clone());
                rope.rotate(&table, 0, &mut q);
                rope.rotate(&table, 1, &mut k);
                dot(&q, &k)
            };
            assert!((score(17, 5) - score(12, 0)).abs() < 1e-5);
            assert!((score(17, 5) - score(16, 5)).abs() > 1e-4);
        }
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_context: 2048,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            magnitude: None,
        };
        let plain = Rope::new(RopeSpec::new(64, 1e4)).unwrap();
        let yarn = Rope::new(RopeSpec {
            scaling,
            ..RopeSpec::new(64, 1e4)
        })
        .unwrap();
        assert_eq!(yarn.frequencies[0], plain.frequencies[0]);
        assert!((yarn.frequencies[31] - plain.frequencies[31] / 4.0).abs() < 1e-12);
        assert!((yarn.magnitude() - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(
            Rope::new(RopeSpec {
                rotary_dim: 7,
                ..RopeSpec::new(8, 1e4)
            })
            .is_err()
        );
        assert!(Rope::new(RopeSpec::new(8, f64::NAN)).is_err());
        let scaling = RopeScaling::Factors(vec![1.0; 3]);
        assert!(
            Rope::new(RopeSpec {
                scaling,
                ..RopeSpec::new(8, 1e4)
            })
            .is_err()
        );
        let scaling = RopeScaling::Linear { factor: 0.0 };
        assert!(
            Rope::new(RopeSpec {
                scaling,
                ..RopeSpec::new(8, 1e4)
            })
            .is_err()
        );
    }
}

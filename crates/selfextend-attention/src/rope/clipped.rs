//! CoPE (Li et al., arXiv 2602.05258): pairs that never turned once in training hold no position that
//! a longer text could use, so their frequencies are tapered to zero.
//!
//! The last `n` frequencies are multiplied by `(1 + cos x) / 2`, `x` from 0 to pi in equal steps, as in
//! the authors' code (github.com/hrlics/CoPE, `modeling_cope.py`). There `n` is 20 of the 64 pairs of
//! Llama 3 with a base of 10 million; here it follows from what the authors say it removes: all pairs
//! whose period exceeds the trained window. Their published models were trained further with the
//! taper; without that it is as training-free as the rest of this file's neighbours.

use super::embedding::Rope;
use crate::error::AttentionError;
use std::f64::consts::PI;

/// A taper of the slowest frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clipped {
    /// The trained window.
    pub trained: usize,
    /// How many pairs, where that is not said by their periods.
    pub pairs: Option<usize>,
}

impl Clipped {
    /// What the frequency of each pair is multiplied by.
    ///
    /// # Errors
    /// [`AttentionError::Rope`] for no pairs, or more than there are.
    pub(super) fn weights(&self, rope: &Rope) -> Result<Vec<f64>, AttentionError> {
        let all = rope.pairs();
        let is_slow = |t: &usize| 2.0 * PI / rope.frequency(*t) > self.trained as f64;
        let tapered = match self.pairs {
            Some(pairs) if pairs == 0 || pairs > all => {
                return Err(AttentionError::Rope(format!(
                    "{pairs} pairs to taper, the model's heads have {all}"
                )));
            }
            Some(pairs) => pairs,
            None => (0..all).filter(is_slow).count(),
        };
        let weight = |t: usize| match (t + tapered).checked_sub(all) {
            Some(n) if tapered > 1 => 0.5 * (1.0 + (PI * n as f64 / (tapered - 1) as f64).cos()),
            _ => 1.0,
        };
        Ok((0..all).map(weight).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frequencies, RopeSpec};

    /// Frequencies of the authors' code, run once in float64 with numpy standing in for torch: base,
    /// size of a head; pairs.
    #[test]
    fn frequencies_are_those_of_the_authors_code() {
        let cases = [
            (
                5e5,
                128,
                [
                    (43, 0.000_148_253_354_326_570_46),
                    (44, 0.000_120_769_737_411_465_04),
                    (45, 9.771_021_437_254_214e-5),
                    (52, 1.458_463_440_764_396_3e-5),
                    (62, 2.055_254_846_212_905_3e-8),
                    (63, 0.0),
                ],
            ),
            (
                1e5,
                64,
                [
                    (11, 0.019_109_529_749_704_406),
                    (12, 0.013_335_214_321_633_24),
                    (13, 0.009_242_261_460_656_24),
                    (20, 0.000_466_991_177_307_249_06),
                    (30, 1.400_370_239_538_281_6e-7),
                    (31, 0.0),
                ],
            ),
        ];
        for (theta, dim, pairs) in cases {
            let rope = Rope::new(RopeSpec::new(dim, theta)).unwrap();
            let cope = Clipped {
                trained: 8192,
                pairs: Some(20),
            };
            let extended = rope.extended(&Frequencies::Clipped(cope)).unwrap();
            assert_eq!(extended.magnitude(), 1.0);
            for (t, frequency) in pairs {
                let ours = extended.frequency(t);
                assert!((ours - frequency).abs() <= 1e-12 * frequency, "{t}: {ours}");
            }
        }
    }

    #[test]
    fn what_turned_in_training_is_kept() {
        // Period 2 pi 10000^(2t/64): pair 20 turns once in 1987 tokens, pair 21 in 2649.
        let rope = Rope::new(RopeSpec::new(64, 1e4)).unwrap();
        let weights = |pairs| {
            let trained = 2048;
            Clipped { trained, pairs }.weights(&rope)
        };
        let own = weights(None).unwrap();
        assert!(own[..=21].iter().all(|&weight| weight == 1.0));
        assert!(own[21..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(own[31].abs() < 1e-12);
        assert_eq!(own, weights(Some(11)).unwrap());
        // As in the authors' code, a taper of one pair is its beginning.
        assert!(
            weights(Some(1))
                .unwrap()
                .iter()
                .all(|&weight| weight == 1.0)
        );
        assert!(weights(Some(0)).is_err() && weights(Some(33)).is_err());
    }
}

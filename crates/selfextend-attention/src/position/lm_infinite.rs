//! LM-Infinite: Han et al., "Zero-Shot Extreme Length Generalization for Large Language Models",
//! NAACL 2024, arXiv 2308.16137, section 4; code <https://github.com/Glaciohound/LM-Infinite>.
//!
//! A query sees the first `S` keys and those nearer than `R` (the Λ mask), and distances are cut off
//! at `R`:
//!
//! ```text
//! i - j < R or j < S:      min(i - j, R)
//! ```
//!
//! The paper sets `R` to the trained window `L` and `S` to 10 to 100. Defaults here are `S = 10` and
//! `R = L - 1`: at `R = L` the sinks are one position farther than any in training. Its third part, top-k keys from the middle in some layers, is not here. No limit, and a
//! cache of `S + R` keys.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Attention sinks and recent keys, with distances cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LmInfinite {
    sinks: usize,
    recent: usize,
}

impl LmInfinite {
    /// `S` sinks and the distance limit `R`, at least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when `R` is zero.
    pub fn new(sinks: usize, recent: usize) -> Result<Self, AttentionError> {
        match recent {
            0 => refuse("LM-Infinite's distance limit must be at least 1".into()),
            _ => Ok(Self { sinks, recent }),
        }
    }

    fn recent_from(&self, i: usize) -> usize {
        (i + 1).saturating_sub(self.recent)
    }
}

impl Ready for LmInfinite {}

impl Positions for LmInfinite {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let seen = i - j < self.recent || j < self.sinks;
        seen.then(|| (i - j).min(self.recent) as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        // Sinks are seen at R itself, other keys below it.
        let farthest = if self.sinks > 0 {
            self.recent
        } else {
            self.recent - 1
        };
        (farthest >= trained).then_some(trained)
    }

    fn regions(&self) -> Regions {
        [Keys::first(self.sinks), Keys::Stored].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let recent = self.recent_from(i);
        match region {
            0 => 0..self.sinks.min(recent),
            _ => split(region, i, recent),
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        (if region == 0 { self.recent } else { i }) as f64
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 0 { 0 } else { j }) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        j as f64
    }

    fn forgotten(&self, i: usize) -> Range<usize> {
        self.sinks..self.recent_from(i).max(self.sinks)
    }
}

//! STRING: An et al., "Why Does the Effective Context Length of LLMs Fall Short?", ICLR 2025,
//! arXiv 2410.18745, section 4; code <https://github.com/HKUNLP/STRING>.
//!
//! ```text
//! i - j < S: i - j        otherwise: i - j - S + W
//! ```
//!
//! Shifts well-trained positions over those that training saw rarely. The paper works within the
//! trained window, with `S` about a third of it and `W = 128`; beyond it positions stay trained
//! only while `S <= L` and `N <= L + S - W`, so the default `S` is the larger of `N/3` and
//! `N - L + W`, and `2 L - W` tokens are the most it reaches. Keys have one rotation for both
//! regions: the method costs nothing but a second query.
//!
//! The authors' prefill counts the keys at distance `S` in both regions (its two flash-attention
//! calls overlap there); their decode does not, and the paper defines it as here.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Exact distances below `S`; beyond it they start again at the local window `W`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifted {
    shift: usize,
    window: usize,
}

impl Shifted {
    /// The shift `S` and the local window `W < S`, in tokens.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when `W` is not below `S`.
    pub fn new(shift: usize, window: usize) -> Result<Self, AttentionError> {
        if window >= shift {
            return refuse(format!(
                "STRING's local window {window} must be below its shift {shift}"
            ));
        }
        Ok(Self { shift, window })
    }

    /// The paper's local window, less where the trained window is short.
    pub fn default_window(trained: usize) -> usize {
        (trained / 16).clamp(1, 128)
    }

    /// The smallest shift of at least `N/3` that keeps a context's positions trained, or the
    /// largest there is.
    pub fn default_shift(window: usize, trained: usize, context: usize) -> usize {
        let needed = (context + window).saturating_sub(trained);
        (context / 3).max(needed).min(trained).max(window + 1)
    }
}

impl Ready for Shifted {}

impl Positions for Shifted {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let d = i - j;
        let position = if d < self.shift {
            d
        } else {
            d - self.shift + self.window
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        // Distances below S come first, then those from S on.
        Some(if self.shift > trained {
            trained
        } else {
            trained + self.shift - self.window
        })
    }

    fn regions(&self) -> Regions {
        [Keys::Stored; 2].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.shift))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let shifted = i as f64 - self.shift as f64 + self.window as f64;
        if region == 0 { shifted } else { i as f64 }
    }

    fn key(&self, _region: usize, j: usize) -> f64 {
        j as f64
    }

    fn stored(&self, j: usize) -> f64 {
        j as f64
    }
}

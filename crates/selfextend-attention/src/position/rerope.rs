//! ReRoPE: Su Jianlin, "Rectified Rotary Position Embeddings", <https://kexue.fm/archives/9708>,
//! code <https://github.com/bojone/rerope>.
//!
//! ```text
//! i - j < W: i - j        otherwise: W
//! ```
//!
//! No limit while `W` is below the trained window. The author's code sets `W = 512` for a trained
//! window of 4096 (L/8, the default here) and multiplies queries by the log-n factor, which is
//! `scale=log-n` here.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Exact distances below the window `W`, the distance `W` for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReRope {
    window: usize,
}

impl ReRope {
    /// A window in tokens, at least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when it is zero.
    pub fn new(window: usize) -> Result<Self, AttentionError> {
        match window {
            0 => refuse("ReRoPE's window must be at least 1".into()),
            _ => Ok(Self { window }),
        }
    }

    /// The author's window for a trained window: an eighth.
    pub fn default_window(trained: usize) -> usize {
        (trained / 8).max(1)
    }
}

impl Ready for ReRope {}

impl Positions for ReRope {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        Some((i - j).min(self.window) as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        (self.window >= trained).then_some(trained)
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(self.window)].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.window))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        (if region == 0 { self.window } else { i }) as f64
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 0 { 0 } else { j }) as f64
    }

    fn stored(&self, _j: usize) -> f64 {
        0.0
    }
}

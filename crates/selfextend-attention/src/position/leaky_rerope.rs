//! Leaky ReRoPE: Su Jianlin, <https://kexue.fm/archives/9708>, code
//! <https://github.com/bojone/rerope>.
//!
//! ```text
//! i - j < W: i - j        otherwise: W + (i - j - W) / k
//! ```
//!
//! The division is exact: positions are fractions. The author's code sets `W = 512` and `k = 16`
//! for a trained window of 4096; here `W` is L/8 and `k` the smallest whole number that keeps the
//! context inside the trained window. Reaches `W + (L - 1 - W) k + 1` tokens. The code also
//! multiplies queries by the log-n factor, which is `scale=log-n` here.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Exact distances below the window `W`; beyond it they grow `k` times slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyReRope {
    window: usize,
    factor: f64,
}

impl LeakyReRope {
    /// A window in tokens, at least 1, and the factor `k`, at least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when either is smaller.
    pub fn new(window: usize, factor: f64) -> Result<Self, AttentionError> {
        if window == 0 || !(factor >= 1.0 && factor.is_finite()) {
            return refuse(format!(
                "Leaky ReRoPE's window {window} and factor {factor} must both be at least 1"
            ));
        }
        Ok(Self { window, factor })
    }

    /// The smallest whole factor that fits a context into a trained window.
    pub fn default_factor(window: usize, trained: usize, context: usize) -> f64 {
        let room = trained.saturating_sub(window + 1).max(1);
        context.saturating_sub(window + 1).div_ceil(room).max(1) as f64
    }
}

impl Ready for LeakyReRope {}

impl Positions for LeakyReRope {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let (d, w) = (i - j, self.window);
        Some(if d < w {
            d as f64
        } else {
            w as f64 + (d - w) as f64 / self.factor
        })
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        match trained.checked_sub(self.window + 1) {
            Some(room) => Some(self.window + (room as f64 * self.factor) as usize + 1),
            None => Some(trained),
        }
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(self.window)].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.window))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let w = self.window as f64;
        if region == 0 {
            w + (i as f64 - w) / self.factor
        } else {
            i as f64
        }
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        if region == 0 {
            j as f64 / self.factor
        } else {
            j as f64
        }
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(0, j)
    }
}

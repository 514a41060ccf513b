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
    /// A window in tokens, at least 1, and the factor `k`, from 1 to 1e6.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when either is outside.
    pub fn new(window: usize, factor: f64) -> Result<Self, AttentionError> {
        if window == 0 || !(1.0..=1e6).contains(&factor) {
            return refuse(format!(
                "Leaky ReRoPE's window {window} must be at least 1 and its factor {factor:e} from 1 to 1e6"
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
        let Some(room) = trained.saturating_sub(1).checked_sub(self.window) else {
            return Some(trained);
        };
        // The largest distance, which rounding may have moved by one.
        let mut last = self
            .window
            .saturating_add((room as f64 * self.factor) as usize);
        let fits = |d| self.relative(d, 0) <= Some((trained - 1) as f64);
        while !fits(last) {
            last -= 1;
        }
        while fits(last + 1) {
            last += 1;
        }
        Some(last + 1)
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

//! StreamingLLM: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024,
//! arXiv 2309.17453, section 3.2; code <https://github.com/mit-han-lab/streaming-llm>.
//!
//! A query sees the first `S` keys (the sinks), the `R` before it and its own; positions are those
//! inside the cache:
//!
//! ```text
//! j < S:           min(i, S + R) - j
//! i - j <= R:      i - j
//! ```
//!
//! Defaults: `S = 4` as in the paper, and `R = L - 1 - S`, which fills the trained window. No limit,
//! and a cache of `S + R` keys: text beyond it is forgotten, not extended.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Attention sinks and recent keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streaming {
    sinks: usize,
    recent: usize,
}

impl Streaming {
    /// `S` sinks and `R` recent keys, at least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when `R` is zero.
    pub fn new(sinks: usize, recent: usize) -> Result<Self, AttentionError> {
        match recent {
            0 => refuse("StreamingLLM's recent keys must be at least 1".into()),
            _ => Ok(Self { sinks, recent }),
        }
    }

    /// The recent keys that fill a trained window beside the sinks.
    pub fn default_recent(sinks: usize, trained: usize) -> usize {
        trained.saturating_sub(1 + sinks).max(1)
    }

    fn kept(&self) -> usize {
        self.sinks.saturating_add(self.recent)
    }

    fn recent_from(&self, i: usize) -> usize {
        i.saturating_sub(self.recent)
    }
}

impl Ready for Streaming {}

impl Positions for Streaming {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        if i - j <= self.recent {
            Some((i - j) as f64)
        } else if j < self.sinks {
            Some((i.min(self.kept()) - j) as f64)
        } else {
            None
        }
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        (self.kept() >= trained).then_some(trained)
    }

    fn regions(&self) -> Regions {
        [Keys::Stored; 2].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let recent = self.recent_from(i);
        match region {
            0 => 0..self.sinks.min(recent),
            _ => split(region, i, recent),
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let in_cache = i.min(self.kept());
        (if region == 0 { in_cache } else { i }) as f64
    }

    fn key(&self, _region: usize, j: usize) -> f64 {
        j as f64
    }

    fn stored(&self, j: usize) -> f64 {
        j as f64
    }

    fn forgotten(&self, i: usize) -> Range<usize> {
        self.sinks..self.recent_from(i).max(self.sinks)
    }
}

//! Dual Chunk Attention: An et al., "Training-Free Long-Context Scaling of Large Language Models",
//! ICML 2024, arXiv 2402.17463, section 3; code <https://github.com/HKUNLP/ChunkLlama>.
//!
//! With chunks of `s` tokens, and key positions `j mod s` throughout:
//!
//! ```text
//! same chunk (intra):       i mod s - j mod s
//! the one before (succ):    min(i mod s + s, c - 1) - j mod s
//! earlier chunks (inter):   c - 1 - j mod s
//! ```
//!
//! In the paper `c` is the trained window and `s = 3L/4`, the defaults here. The authors' code cuts
//! off at `c` instead of `c - 1`, and its scripts set `c = 3L/4` with a local window of L/8: that is
//! `chunk=5L/8,reach=3L/4+1` here. No limit while `c` is at most the trained window.

use super::regions::{Keys, Positions, Ready, Regions, refuse};
use crate::error::AttentionError;
use std::ops::Range;

/// Three regions: the same chunk, the one before, all earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DualChunk {
    chunk: usize,
    reach: usize,
}

impl DualChunk {
    /// The chunk `s` in tokens and the reach `c`, from `s + 1` to `2 s`.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when `c` is outside these bounds.
    pub fn new(chunk: usize, reach: usize) -> Result<Self, AttentionError> {
        if reach <= chunk || reach - chunk > chunk {
            return refuse(format!(
                "dual chunk attention's reach {reach} must be above its chunk {chunk} and at most twice it"
            ));
        }
        Ok(Self { chunk, reach })
    }

    /// The paper's chunk for a trained window: three quarters.
    pub fn default_chunk(trained: usize) -> usize {
        (trained * 3 / 4).max(1)
    }
}

impl Ready for DualChunk {}

impl Positions for DualChunk {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let (s, c) = (self.chunk, self.reach);
        let position = match i / s - j / s {
            0 => i - j,
            1 => (i % s + s).min(c - 1) - j % s,
            _ => c - 1 - j % s,
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        (self.reach > trained).then_some(trained)
    }

    fn regions(&self) -> Regions {
        [Keys::Stored; 3].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let intra = i / self.chunk * self.chunk;
        let succ = intra.saturating_sub(self.chunk);
        match region {
            0 => 0..succ,
            1 => succ..intra,
            _ => intra..i + 1,
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let (s, c) = (self.chunk, self.reach);
        let position = match region {
            0 => c - 1,
            1 => (i % s).saturating_add(s).min(c - 1),
            _ => i % s,
        };
        position as f64
    }

    fn key(&self, _region: usize, j: usize) -> f64 {
        (j % self.chunk) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(0, j)
    }
}

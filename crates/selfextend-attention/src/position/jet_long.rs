//! Jet-Long: "Efficient Long-Context Extension with Dynamic Bifocal RoPE", arXiv 2607.07740; code
//! <https://github.com/jet-ai-projects/Jet-Long> (`jetlong`).
//!
//! ```text
//! i - j <= w0: i - j        otherwise: i/G - j/G,   G = ceil(N / w)
//! ```
//!
//! with floors as in SelfExtend but without its shift. The code sets `w` to the trained window and
//! `w0 = 2048` for 32768 (L/16, the default here). `N` is the context (see [`super`]); the code
//! takes the end of the current pass, so its own chunked prefill depends on the chunks. Within the
//! trained window `G = 1`: plain attention. Reaches `G L` tokens.

use super::regions::{Keys, Positions, Ready, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Exact distances up to `w0`; positions in groups of `G` beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JetLong {
    group_size: usize,
    window: usize,
}

impl JetLong {
    /// The local window `w0`, the long window `w` and the context `N`, in tokens.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when `w` is zero.
    pub fn new(local: usize, long: usize, context: usize) -> Result<Self, AttentionError> {
        if long == 0 {
            return refuse("Jet-Long's window must be at least 1".into());
        }
        Ok(Self {
            group_size: context.div_ceil(long).max(1),
            window: local.saturating_add(1),
        })
    }

    /// The authors' local window for a trained window: a sixteenth.
    pub fn default_local(trained: usize) -> usize {
        trained / 16
    }

    /// `G`.
    pub fn group_size(&self) -> usize {
        self.group_size
    }
}

impl Ready for JetLong {}

impl Positions for JetLong {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let position = if i - j < self.window {
            i - j
        } else {
            i / self.group_size - j / self.group_size
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        Some(if self.window > trained {
            trained
        } else {
            trained.saturating_mul(self.group_size)
        })
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(self.window)].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.window))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        self.key(region, i)
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 0 { j / self.group_size } else { j }) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(0, j)
    }
}

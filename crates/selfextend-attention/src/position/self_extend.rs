//! SelfExtend: Jin et al., "LLM Maybe LongLM", ICML 2024, arXiv 2401.01325, section 3.2.

use super::regions::{Keys, Positions, Ready, Regions, split};
use crate::error::AttentionError;
use std::ops::Range;

/// Bi-level attention: exact distances inside the neighbour window `W`, floored positions in
/// groups of `G` beyond it, shifted by `W - W/G` so that the two levels meet (equation 4).
///
/// Integer division is the floor of the paper. (The authors' code divides the window as a float;
/// the two agree when `G` divides `W`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfExtend {
    group_size: usize,
    neighbor_window: usize,
}

impl SelfExtend {
    /// A group size and a neighbour window, both in tokens and at least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when either is zero.
    pub fn new(group_size: usize, neighbor_window: usize) -> Result<Self, AttentionError> {
        if group_size == 0 || neighbor_window == 0 {
            return Err(AttentionError::Position(format!(
                "group size {group_size} and neighbour window {neighbor_window} must both be at least 1"
            )));
        }
        Ok(Self {
            group_size,
            neighbor_window,
        })
    }

    /// `G`, in tokens.
    pub fn group_size(&self) -> usize {
        self.group_size
    }

    /// `W`, in tokens.
    pub fn neighbor_window(&self) -> usize {
        self.neighbor_window
    }

    /// The longest context a model trained on `trained_window` positions can take:
    /// `(L - W + floor(W/G)) * G`, which is the paper's `(L - W) * G + W` (section 3.2) where `G`
    /// divides `W`. The trained window itself when `W` reaches it.
    pub fn max_context(&self, trained_window: usize) -> usize {
        let (g, w) = (self.group_size, self.neighbor_window);
        match trained_window.checked_sub(w) {
            Some(grouped) => grouped.saturating_add(w / g).saturating_mul(g).max(w),
            None => trained_window,
        }
    }
}

impl Ready for SelfExtend {}

impl Positions for SelfExtend {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let (g, w) = (self.group_size, self.neighbor_window);
        let position = if i - j < w {
            i - j
        } else {
            i / g - j / g + (w - w / g)
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        Some(self.max_context(trained))
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(self.neighbor_window)].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.neighbor_window))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let (g, w) = (self.group_size, self.neighbor_window);
        (if region == 0 { i / g + (w - w / g) } else { i }) as f64
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 0 { j / self.group_size } else { j }) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(0, j)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_three_of_the_paper() {
        // Sequence of 10, trained window 7, G = 2, W = 4: the last row of the paper's figure 3.
        let map = SelfExtend::new(2, 4).unwrap();
        let row: Vec<f64> = (0..10).filter_map(|j| map.relative(9, j)).collect();
        assert_eq!(row, [6.0, 6.0, 5.0, 5.0, 4.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(map.max_context(7), 10);
        // 3 does not divide 128: (512 - 128 + 42) * 3.
        assert_eq!(SelfExtend::new(3, 128).unwrap().max_context(512), 1278);
    }

    #[test]
    fn zero_is_refused() {
        assert!(SelfExtend::new(0, 4).is_err());
        assert!(SelfExtend::new(4, 0).is_err());
    }
}

//! Attention as the model was trained: Su et al., "RoFormer", arXiv 2104.09864.

use super::regions::Positions;

/// The distance itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain;

impl Positions for Plain {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        Some((i - j) as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        Some(trained)
    }

    fn query(&self, _region: usize, i: usize) -> f64 {
        i as f64
    }

    fn key(&self, _region: usize, j: usize) -> f64 {
        j as f64
    }

    fn stored(&self, j: usize) -> f64 {
        j as f64
    }
}

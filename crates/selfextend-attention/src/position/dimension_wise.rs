//! DPE: Lu et al., "Effective Length Extrapolation via Dimension-Wise Positional Embeddings
//! Manipulation", COLM 2025, arXiv 2504.18857.
//!
//! The pairs of a head fall into groups of equal width, here *bands*, each with a scale of its own:
//! beyond a window all positions of a band are divided by its scale, inside it they are exact. So a
//! band with the scale `s` sees SelfExtend with groups of `s`. The scales are those at which a model
//! still finds needles, which the authors detect band by band for each model.
//!
//! As in the authors' code (github.com/LuLuLuyi/DPE, `dpe_for_llama.py`) with all dimensions scaled.
//! Its option to scale only the pairs that contribute most in each head of each layer
//! (`select_topk_dim`) is not here: positions of this crate are those of all heads. Where a scale does
//! not divide the window, the code's two forms differ (its prefill divides the window as a float); this
//! is the form of its decode step.

use super::regions::{Positions, Ready, Regions};
use super::self_extend::SelfExtend;
use crate::error::AttentionError;
use std::fmt;
use std::ops::Range;

/// The most bands.
pub const MAX_BANDS: usize = 16;

/// SelfExtend with a group size for each band of pairs, the fastest first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DimensionWise {
    /// From the slowest band; all have the same window.
    bands: [SelfExtend; MAX_BANDS],
    count: usize,
}

impl DimensionWise {
    /// A window in tokens, and the scales of the bands from the fastest pairs to the slowest.
    ///
    /// # Errors
    /// [`AttentionError::Position`] for a window or scale of zero, for no scale, and for more than
    /// [`MAX_BANDS`].
    pub fn new(window: usize, scales: &[usize]) -> Result<Self, AttentionError> {
        if scales.is_empty() || scales.len() > MAX_BANDS {
            return Err(AttentionError::Position(format!(
                "{} scales given; 1 to {MAX_BANDS} bands of pairs have one each",
                scales.len()
            )));
        }
        let mut bands = [SelfExtend::new(1, window)?; MAX_BANDS];
        for (band, &scale) in bands.iter_mut().zip(scales.iter().rev()) {
            *band = SelfExtend::new(scale, window)?;
        }
        Ok(Self {
            bands,
            count: scales.len(),
        })
    }

    /// The window, in tokens.
    pub fn window(&self) -> usize {
        self.bands[0].neighbor_window()
    }

    /// The scales, from the fastest pairs to the slowest.
    pub fn scales(&self) -> Vec<usize> {
        let bands = self.bands[..self.count].iter().rev();
        bands.map(SelfExtend::group_size).collect()
    }
}

impl fmt::Debug for DimensionWise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("DimensionWise")
            .field("window", &self.window())
            .field("scales", &self.scales())
            .finish()
    }
}

impl Ready for DimensionWise {}

impl Positions for DimensionWise {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        self.bands[0].relative(i, j)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        self.bands[0].reach(trained)
    }

    fn regions(&self) -> Regions {
        self.bands[0].regions()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        self.bands[0].span(region, i)
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        self.bands[0].query(region, i)
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        self.bands[0].key(region, j)
    }

    fn stored(&self, j: usize) -> f64 {
        self.bands[0].stored(j)
    }

    fn bands(&self) -> usize {
        self.count
    }

    fn band(&self, band: usize) -> Option<&dyn Positions> {
        self.bands[..self.count].get(band).map(|map| map as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_band_has_its_scale() {
        let map = DimensionWise::new(8, &[2, 4, 1]).unwrap();
        assert_eq!((map.window(), map.scales()), (8, vec![2, 4, 1]));
        // Slowest first: 1, 4, 2. Query 20 and key 3: 20/s - 3/s + 8 - 8/s.
        let relative: Vec<f64> = (0..map.bands())
            .map(|band| map.band(band).unwrap().relative(20, 3).unwrap())
            .collect();
        assert_eq!(relative, [17.0, 5.0 + 6.0, 9.0 + 4.0]);
        assert_eq!(
            format!("{map:?}"),
            "DimensionWise { window: 8, scales: [2, 4, 1] }"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(DimensionWise::new(0, &[2]).is_err() && DimensionWise::new(8, &[]).is_err());
        assert!(DimensionWise::new(8, &[2, 0]).is_err());
        assert!(DimensionWise::new(8, &[1; MAX_BANDS + 1]).is_err());
    }
}

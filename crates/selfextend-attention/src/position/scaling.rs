//! Scaled queries, on top of any method.

/// What a query is multiplied by, beyond the scale of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum QueryScaling {
    /// Nothing.
    #[default]
    None,
    /// `max(1, ln(i + 1) / ln(base))` at position `i`, with `base` usually the trained window:
    /// keeps the entropy of attention constant as keys grow in number (the SelfExtend authors'
    /// `scale_base`; ReRoPE's code does the same).
    LogN {
        /// Positions up to which nothing changes.
        base: usize,
    },
    /// `(0.1 ln(factor) + 1)^2` at every position: YaRN's temperature (arXiv 2309.00071, equation
    /// 22, where it is put on queries and keys, hence the square here).
    Yarn {
        /// How many times the trained window.
        factor: f64,
    },
}

impl QueryScaling {
    /// The factor of the query at position `i`.
    pub fn factor(&self, i: usize) -> f32 {
        match *self {
            Self::None => 1.0,
            Self::LogN { base } => ((i as f64 + 1.0).ln() / (base as f64).ln()).max(1.0) as f32,
            Self::Yarn { factor } => (0.1 * factor.max(1.0).ln() + 1.0).powi(2) as f32,
        }
    }
}

//! What a method is resolved for, and what it changes.

use selfextend_attention::{Frequencies, PositionMap};

/// The model and context that a method is resolved for.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The model's trained window in tokens.
    pub trained: usize,
    /// The most tokens of the sequence: the current length of all methods that depend on it.
    pub context: usize,
}

impl At {
    /// The context as a multiple of the trained window, at least 1.
    pub fn times(self) -> f64 {
        (self.context as f64 / self.trained.max(1) as f64).max(1.0)
    }
}

/// What a method changes.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Positions.
    pub map: PositionMap,
    /// Frequencies.
    pub frequencies: Frequencies,
}

impl<M: Into<PositionMap>> From<M> for Change {
    fn from(map: M) -> Self {
        Self {
            map: map.into(),
            frequencies: Frequencies::Trained,
        }
    }
}

/// Plain positions with other frequencies.
pub(super) const fn changed(frequencies: Frequencies) -> Change {
    Change {
        map: PositionMap::Plain,
        frequencies,
    }
}

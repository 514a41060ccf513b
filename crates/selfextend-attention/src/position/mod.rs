//! Maps from (query, key) to the relative position that attention uses.
//!
//! A map is the whole of a position-based context extension. The oracle asks only
//! [`PositionMap::relative`]. The kernels need the same function in a *separable* form, because a
//! rotary score is (R(p_q) q)·(R(p_k) k): the keys of a query fall into at most two regions, and
//! each region gives the query and the key a position of their own whose difference is the
//! relative position.
//!
//! * the **base** region covers the distant keys, or all of them; its keys are stored for ever;
//! * the **window** region covers the keys from [`PositionMap::window_start`] to the query.

mod self_extend;

pub use self_extend::SelfExtend;

use crate::AttentionError;

/// Which relative position each (query, key) pair gets.
///
/// ```
/// use selfextend_attention::PositionMap;
/// let map = PositionMap::self_extend(4, 16)?;
/// assert_eq!(map.relative(100, 90), 10); // inside the window
/// assert_eq!(map.relative(100, 0), 100 / 4 - 0 / 4 + 16 - 16 / 4);
/// # Ok::<(), selfextend_attention::AttentionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionMap {
    /// The distance itself: attention as the model was trained.
    Plain,
    /// Bi-level attention of arXiv 2401.01325.
    SelfExtend(SelfExtend),
}

impl PositionMap {
    /// SelfExtend with a group size and a neighbour window, both in tokens.
    ///
    /// A group size of 1 *is* plain attention (the paper's section 3) and gives that map.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when either is zero.
    pub fn self_extend(group_size: usize, neighbor_window: usize) -> Result<Self, AttentionError> {
        let map = SelfExtend::new(group_size, neighbor_window)?;
        Ok(if group_size == 1 {
            Self::Plain
        } else {
            Self::SelfExtend(map)
        })
    }

    /// The relative position of query `i` and key `j <= i`: the definition.
    pub fn relative(&self, i: usize, j: usize) -> usize {
        match self {
            Self::Plain => i - j,
            Self::SelfExtend(map) => map.relative(i, j),
        }
    }

    /// Whether the nearest keys have a region of their own.
    pub fn has_window(&self) -> bool {
        matches!(self, Self::SelfExtend(_))
    }

    /// How many keys, the query's own included, the window region can hold; 0 without one.
    pub fn window_len(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::SelfExtend(map) => map.neighbor_window(),
        }
    }

    /// The first key of query `i`'s window region. Keys before it belong to the base region.
    /// Never decreases with `i`. Without a window region, `i + 1`.
    pub fn window_start(&self, i: usize) -> usize {
        match self {
            Self::Plain => i + 1,
            Self::SelfExtend(map) => (i + 1).saturating_sub(map.neighbor_window()),
        }
    }

    /// The position query `i` is rotated to for keys of the base region.
    pub fn base_query(&self, i: usize) -> i64 {
        match self {
            Self::Plain => i as i64,
            Self::SelfExtend(map) => map.grouped_query(i) as i64,
        }
    }

    /// The position key `j` is rotated to in the base region.
    pub fn base_key(&self, j: usize) -> i64 {
        match self {
            Self::Plain => j as i64,
            Self::SelfExtend(map) => map.grouped_key(j) as i64,
        }
    }

    /// The position query `i` is rotated to for keys of the window region.
    pub fn window_query(&self, i: usize) -> i64 {
        i as i64
    }

    /// The position key `j` is rotated to in the window region.
    pub fn window_key(&self, j: usize) -> i64 {
        j as i64
    }
}

/// What a query is multiplied by, beyond the scale of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum QueryScaling {
    /// Nothing.
    #[default]
    None,
    /// `max(1, ln(i + 1) / ln(base))` at position `i`, with `base` usually the trained window:
    /// keeps the entropy of attention constant as keys grow in number (the SelfExtend authors'
    /// `scale_base`).
    LogN {
        /// Positions up to which nothing changes.
        base: usize,
    },
}

impl QueryScaling {
    /// The factor of the query at position `i`.
    pub fn factor(&self, i: usize) -> f32 {
        match *self {
            Self::None => 1.0,
            Self::LogN { base } => ((i as f64 + 1.0).ln() / (base as f64).ln()).max(1.0) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The separable form the kernels use is the definition the oracle uses.
        #[test]
        fn regions_reproduce_the_relative_position(
            g in 1usize..20, w in 1usize..200, i in 0usize..5000, back in 0usize..5000,
        ) {
            let j = i.saturating_sub(back);
            let map = PositionMap::self_extend(g, w).unwrap();
            let separable = if j >= map.window_start(i) {
                map.window_query(i) - map.window_key(j)
            } else {
                map.base_query(i) - map.base_key(j)
            };
            prop_assert_eq!(separable, map.relative(i, j) as i64);
        }

        #[test]
        fn group_size_one_is_plain(w in 1usize..200, i in 0usize..5000, back in 0usize..5000) {
            let j = i.saturating_sub(back);
            prop_assert_eq!(SelfExtend::new(1, w).unwrap().relative(i, j), i - j);
        }
    }
}

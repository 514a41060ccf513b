//! The separable form of a position map: regions of keys, each with positions of its own.

use crate::error::AttentionError;
use std::fmt::Debug;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The most regions a map may have.
pub const MAX_REGIONS: usize = 3;

/// Which derived keys of a region are kept from one decode step to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// So many up to the newest key: the window moves on with the queries.
    Newest(usize),
    /// So many from the start of the text: attention sinks, LaMPE's tail.
    First(usize),
}

impl Kept {
    /// The most keys of the region that one query sees.
    pub fn most(self) -> usize {
        match self {
            Self::Newest(most) | Self::First(most) => most,
        }
    }
}

/// Where the keys of a region come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// As they are stored: their position in the region is [`Positions::stored`].
    Stored,
    /// Rotated from the stored ones by the difference of the two positions.
    Derived(Kept),
}

impl Keys {
    /// Derived keys of which a query sees at most `most`, the newest.
    pub fn newest(most: usize) -> Self {
        Self::Derived(Kept::Newest(most))
    }

    /// Derived keys of which a query sees at most `most`, the first of the text.
    pub fn first(most: usize) -> Self {
        Self::Derived(Kept::First(most))
    }

    /// Whether its keys are derived.
    pub fn is_derived(self) -> bool {
        matches!(self, Self::Derived(_))
    }
}

/// The regions of a map, from the farthest keys to the nearest: a slice of [`Keys`], kept inline.
#[derive(Debug, Clone, Copy)]
pub struct Regions {
    keys: [Keys; MAX_REGIONS],
    count: usize,
}

impl<const N: usize> From<[Keys; N]> for Regions {
    /// Does not compile for more than [`MAX_REGIONS`], or for none.
    fn from(some: [Keys; N]) -> Self {
        const { assert!(0 < N && N <= MAX_REGIONS, "1 to 3 regions") };
        let mut keys = [Keys::Stored; MAX_REGIONS];
        keys[..N].copy_from_slice(&some);
        Self { keys, count: N }
    }
}

impl Deref for Regions {
    type Target = [Keys];

    fn deref(&self) -> &[Keys] {
        &self.keys[..self.count]
    }
}

/// A position map: its definition and its separable form. A property test holds the two together.
///
/// Queries and keys are counted from 0. The maps of this crate are causal: a query sees no key
/// after it, and [`Positions::relative`] is defined for `j <= i` only. What turns regions into
/// numbers and the kernels behind it read nothing but spans, so a span may also reach beyond its
/// query, as far as keys are stored when it attends.
pub trait Positions: Debug + Send + Sync {
    /// The relative position of query `i` and key `j`, straight from the definition; `None` where
    /// the query does not see the key.
    fn relative(&self, i: usize, j: usize) -> Option<f64>;

    /// The longest context whose relative positions are all at most `trained - 1`, the largest of
    /// training; `None` without limit. Exact: one token more has a pair beyond it.
    fn reach(&self, trained: usize) -> Option<usize>;

    /// The regions, from the farthest keys to the nearest.
    fn regions(&self) -> Regions {
        [Keys::Stored].into()
    }

    /// The keys of query `i` in a region. Spans follow each other from region to region, and
    /// neither end ever decreases with `i`. In a causal map the last one ends at `i + 1`.
    fn span(&self, _region: usize, i: usize) -> Range<usize> {
        0..i + 1
    }

    /// The position query `i` is rotated to in a region.
    fn query(&self, region: usize, i: usize) -> f64;

    /// The position key `j` is rotated to in a region.
    fn key(&self, region: usize, j: usize) -> f64;

    /// The position key `j` is stored at.
    fn stored(&self, j: usize) -> f64;

    /// How many bands of equal width the pairs of a head fall into that have positions of their own
    /// (DPE), counted from the slowest pairs. All agree in regions and spans, and the positions of
    /// this map itself are those of band 0.
    fn bands(&self) -> usize {
        1
    }

    /// The positions of a band, where there is more than one.
    fn band(&self, _band: usize) -> Option<&dyn Positions> {
        None
    }

    /// Keys that no query from position `i` on sees, so that they need not be kept. Neither end
    /// ever decreases with `i`.
    fn forgotten(&self, _i: usize) -> Range<usize> {
        0..0
    }
}

/// Maps without tables are ready as they are.
pub(super) trait Ready: Positions + Copy + 'static {
    fn ready(self) -> Arc<dyn Positions> {
        Arc::new(self)
    }
}

/// The spans of two regions that meet at key `start`: those before it, those from it on.
pub(super) fn split(region: usize, i: usize, start: usize) -> Range<usize> {
    if region == 0 { 0..start } else { start..i + 1 }
}

pub(super) fn refuse<T>(what: String) -> Result<T, AttentionError> {
    Err(AttentionError::Position(what))
}

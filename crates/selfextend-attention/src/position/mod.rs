//! Maps from (query, key) to the relative position that attention uses.
//!
//! A map is the whole of a position-based context extension. The oracle asks only
//! [`Positions::relative`], the formula of the paper. The kernels need the same function in a
//! *separable* form, because a rotary score is (R(p_q) q)·(R(p_k) k): the keys of a query fall into
//! at most [`MAX_REGIONS`] *regions*, and each gives the query and the key a position of their own
//! whose difference is the relative position. Keys in no region are not seen.
//!
//! # Current length
//!
//! Some methods depend on the length `N` of the text. Here `N` is the context a sequence was opened
//! for ([`crate::KvCache`] gets a map that is already made for it), not the number of tokens seen
//! so far: one sequence has one `N`, so its results do not depend on how a prefill is cut, on where
//! decoding starts, or on what was truncated, and a stored key never has to be rotated again.
//! Authors' code mostly takes the tokens of the current pass instead, which is the same for a text
//! that is read in one piece into a context of its own length.

mod dual_chunk;
mod jet_long;
mod lampe;
mod leaky_rerope;
mod lm_infinite;
mod logistic;
mod plain;
mod rerope;
mod scaling;
mod self_extend;
mod streaming;
mod string;

pub use dual_chunk::DualChunk;
pub use jet_long::JetLong;
pub use lampe::Lampe;
pub use leaky_rerope::LeakyReRope;
pub use lm_infinite::LmInfinite;
pub use logistic::Logistic;
pub use plain::Plain;
pub use rerope::ReRope;
pub use scaling::QueryScaling;
pub use self_extend::SelfExtend;
pub use streaming::Streaming;
pub use string::Shifted;

use crate::AttentionError;
use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

/// The most regions a map may have.
pub const MAX_REGIONS: usize = 3;

/// Where the keys of a region come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// As they are stored: their position in the region is [`Positions::stored`].
    Stored,
    /// Rotated from the stored ones. A query sees at most `most` of them, which a decode step keeps.
    Derived {
        /// The most keys of one query.
        most: usize,
    },
}

/// A position map: its definition and its separable form. A property test holds the two together.
///
/// Queries and keys are counted from 0, and `j <= i` throughout.
pub trait Positions: Debug + Send + Sync {
    /// The relative position of query `i` and key `j`, straight from the definition; `None` where
    /// the query does not see the key.
    fn relative(&self, i: usize, j: usize) -> Option<f64>;

    /// The longest context whose relative positions are all below `trained`; `None` without limit.
    fn reach(&self, trained: usize) -> Option<usize>;

    /// The regions, from the farthest keys to the nearest, at most [`MAX_REGIONS`].
    fn regions(&self) -> Vec<Keys> {
        vec![Keys::Stored]
    }

    /// The keys of query `i` in a region. Spans follow each other from region to region, the last
    /// one ends at `i + 1`, and neither end ever decreases with `i`.
    fn span(&self, _region: usize, i: usize) -> Range<usize> {
        0..i + 1
    }

    /// The position query `i` is rotated to in a region.
    fn query(&self, region: usize, i: usize) -> f64;

    /// The position key `j` is rotated to in a region.
    fn key(&self, region: usize, j: usize) -> f64;

    /// The position key `j` is stored at.
    fn stored(&self, j: usize) -> f64;

    /// Keys that no query from position `i` on sees, so that they need not be kept. Neither end
    /// ever decreases with `i`.
    fn forgotten(&self, _i: usize) -> Range<usize> {
        0..0
    }
}

/// The spans of two regions that meet at key `start`: those before it, those from it on.
fn split(region: usize, i: usize, start: usize) -> Range<usize> {
    if region == 0 { 0..start } else { start..i + 1 }
}

fn refuse<T>(what: String) -> Result<T, AttentionError> {
    Err(AttentionError::Position(what))
}

/// The table of position maps: a name for each.
macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Which relative position each (query, key) pair gets.
        ///
        /// ```
        /// use selfextend_attention::PositionMap;
        /// let map = PositionMap::self_extend(4, 16)?;
        /// assert_eq!(map.relative(100, 90), Some(10.0)); // inside the window
        /// assert_eq!(map.relative(100, 0), Some((100 / 4 - 0 / 4 + 16 - 16 / 4) as f64));
        /// # Ok::<(), selfextend_attention::AttentionError>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum PositionMap {
            /// The distance itself: attention as the model was trained.
            Plain,
            $($(#[$doc])* $name($name),)*
        }

        impl PositionMap {
            /// Its parameters, for people.
            fn parameters(&self) -> String {
                match self {
                    Self::Plain => "Plain".to_owned(),
                    $(Self::$name(map) => format!("{map:?}"),)*
                }
            }

            /// The map ready for use, with its tables.
            pub fn positions(&self) -> Arc<dyn Positions> {
                match *self {
                    Self::Plain => Arc::new(Plain),
                    $(Self::$name(map) => map.ready(),)*
                }
            }
        }

        $(impl From<$name> for PositionMap {
            fn from(map: $name) -> Self {
                Self::$name(map)
            }
        })*
    };
}

maps! {
    /// Bi-level attention of arXiv 2401.01325.
    SelfExtend,
    /// Distances cut off at a window.
    ReRope,
    /// Distances that grow slowly beyond a window.
    LeakyReRope,
    /// Distances shifted down beyond a window (STRING).
    Shifted,
    /// Chunks within chunks (DCA).
    DualChunk,
    /// Groups whose size follows the context (Jet-Long).
    JetLong,
    /// Groups that grow by a logistic law (SELF).
    Logistic,
    /// Head, compressed middle, tail (LaMPE).
    Lampe,
    /// Attention sinks and recent keys (StreamingLLM).
    Streaming,
    /// Attention sinks and recent keys, distances cut off (LM-Infinite).
    LmInfinite,
}

/// Maps without tables are ready as they are.
trait Ready: Positions + Copy + 'static {
    fn ready(self) -> Arc<dyn Positions> {
        Arc::new(self)
    }
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

    /// The relative position of query `i` and key `j <= i`; `None` where it is not seen. For many
    /// pairs, ask [`PositionMap::positions`] once.
    pub fn relative(&self, i: usize, j: usize) -> Option<f64> {
        self.positions().relative(i, j)
    }

    /// The longest context whose relative positions are all below `trained`; `None` without limit.
    pub fn reach(&self, trained: usize) -> Option<usize> {
        self.positions().reach(trained)
    }
}

/// The map's name in this crate and its parameters, as in `ReRope, window 512`.
impl fmt::Display for PositionMap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let parameters = self.parameters();
        let words = parameters.trim_end_matches(" }").replace(" {", ",");
        f.write_str(&words.replace(": ", " ").replace('_', " "))
    }
}

#[cfg(test)]
pub(crate) mod tests;

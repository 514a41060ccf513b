//! The position maps of this crate by name, as one copyable value.

use super::dimension_wise::DimensionWise;
use super::dual_chunk::DualChunk;
use super::jet_long::JetLong;
use super::lampe::Lampe;
use super::leaky_rerope::LeakyReRope;
use super::lm_infinite::LmInfinite;
use super::logistic::Logistic;
use super::plain::Plain;
use super::regions::{Positions, Ready};
use super::rerope::ReRope;
use super::self_extend::SelfExtend;
use super::streaming::Streaming;
use super::string::Shifted;
use crate::error::AttentionError;
use std::fmt;
use std::sync::Arc;

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
        #[non_exhaustive]
        // Bands of pairs take some hundred bytes; a session has one map for each kind of layer.
        #[allow(clippy::large_enum_variant)]
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
    /// Groups of another size for each band of pairs (DPE).
    DimensionWise,
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

impl From<PositionMap> for Arc<dyn Positions> {
    fn from(map: PositionMap) -> Self {
        map.positions()
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

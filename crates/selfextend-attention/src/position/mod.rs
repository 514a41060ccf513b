//! Maps from (query, key) to the relative position that attention uses.
//!
//! A map is the whole of a position-based context extension. The oracle asks only
//! [`Positions::relative`], the formula of the paper. The kernels need the same function in a
//! *separable* form, because a rotary score is (R(p_q) q)·(R(p_k) k): the keys of a query fall into
//! at most [`MAX_REGIONS`] *regions*, and each gives the query and the key a position of their own
//! whose difference is the relative position. Keys in no region are not seen.
//!
//! [`Positions`] is open: a method of your own needs no change here, only an implementation, which
//! [`LayerKind`](crate::LayerKind) takes like a [`PositionMap`].
//!
//! # Current length
//!
//! Some methods depend on the length `N` of the text. Here `N` is the context a sequence was opened
//! for ([`crate::KvCache`] gets a map that is already made for it), not the number of tokens seen
//! so far: one sequence has one `N`, so its results do not depend on how a prefill is cut, on where
//! decoding starts, or on what was truncated, and a stored key never has to be rotated again.
//! Authors' code mostly takes the tokens of the current pass instead, which is the same for a text
//! that is read in one piece into a context of its own length.

mod dimension_wise;
mod dual_chunk;
mod jet_long;
mod lampe;
mod leaky_rerope;
mod lm_infinite;
mod logistic;
mod map;
mod plain;
mod regions;
mod rerope;
mod scaling;
mod self_extend;
mod streaming;
mod string;

pub use dimension_wise::{DimensionWise, MAX_BANDS};
pub use dual_chunk::DualChunk;
pub use jet_long::JetLong;
pub use lampe::Lampe;
pub use leaky_rerope::LeakyReRope;
pub use lm_infinite::LmInfinite;
pub use logistic::Logistic;
pub use map::PositionMap;
pub use plain::Plain;
pub use regions::{Kept, Keys, MAX_REGIONS, Positions, Regions};
pub use rerope::ReRope;
pub use scaling::QueryScaling;
pub use self_extend::SelfExtend;
pub use streaming::Streaming;
pub use string::Shifted;

#[cfg(test)]
pub(crate) mod tests;

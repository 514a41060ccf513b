//! Rotary position embeddings: frequencies, tables of angles, rotations.
//!
//! Angles are computed in f64 and rounded once, so a rotation by a large position is as exact as
//! one by a small position. (Computing them in f32 is off by 1e-3 rad at position 16384.)

mod clipped;
mod embedding;
mod frequencies;
mod radix;

pub use clipped::Clipped;
pub use embedding::{PairLayout, Rope, RopeScaling, RopeSpec, RopeTable};
pub use frequencies::{Factors, Frequencies, MAX_PAIRS, Ramp, Yarn};
pub use radix::{MixedRadix, RadixGrowth};

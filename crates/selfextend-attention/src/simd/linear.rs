//! Weight matrices in panels of 16 rows, and what multiplies them.
//!
//! A panel holds 16 output rows side by side, so one activation is broadcast against 16 weights
//! and no sum crosses lanes. Formats of plain numbers are multiplied by float activations. Quantised
//! ones keep the file's own integers and meet activations rounded to 15 bits or 8 ([`Rounded`]): sums
//! are exact in 32 bits until they meet their scale. Blocks that would grow stay as the file has them
//! ([`BlockReader`]).

mod blocks;
pub(super) mod floats;
mod format;
mod integers;
pub(super) mod products;
mod quads;
mod rounded;
mod tables;
mod widened;

pub use blocks::BlockReader;
pub use format::{BLOCK, PanelFormat};
pub use integers::Integers;
pub(super) use rounded::Tile;
pub use rounded::{Precision, Rounded, Tiles};
pub use tables::{FP4, IQ4, Table};
pub(super) use widened::{Wide, Widened};
pub(super) use {integers::WIDENED, quads::Quads};

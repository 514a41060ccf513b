//! Sparse layers: a router chooses a token's experts on the device, and only those are read.
//!
//! For few tokens two kernels read the chosen experts' weights as they are stored, for activations in
//! f32; for many, tokens are grouped by expert and tensor cores multiply 16-bit numbers. What is
//! chosen stays on the device in both, so a pass of few tokens can be a CUDA graph.

mod layer;
mod mix;
mod routing;
mod scratch;

pub use layer::Experts;
pub use routing::{Routing, Score};
pub use scratch::ExpertScratch;

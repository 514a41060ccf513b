//! All that is called without Rust's guarantees, and so all of this crate's `unsafe`: kernels and
//! their arguments, CUDA graphs, cuBLAS, the driver.
//!
//! Every launch is held against the f64 oracle by `tests/`, which needs a GPU.

mod arguments;
mod blas;
mod driver;
mod graph;

pub(crate) use arguments::*;
pub(crate) use blas::Blas;
pub(crate) use driver::{driver_is_present, single_stream};
pub(crate) use graph::{Grid, Queue};

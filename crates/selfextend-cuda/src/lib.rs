//! Exact bi-level attention (SelfExtend, arXiv 2401.01325) on NVIDIA GPUs.
//!
//! The same definition as [`selfextend_attention`], for keys and values that live on the device in
//! half precision, or as bytes with scales. A position map becomes data ([`plan::Regions`]): which
//! keys each query sees in each region, and the positions that queries and keys are rotated to.
//! Three kernels read it:
//!
//! * **append** rotates new queries for every region and stores new keys and values;
//! * **prefill** walks tiles of keys region by region with one online softmax;
//! * **decode** splits the keys of a few queries over the whole device and merges.
//!
//! Distant keys are stored once, in their grouped rotation; the keys of the neighbour window are
//! rotated from those and stored again in a ring. So a region is only another pair of pointers for the kernels, and the
//! inner loops are those of plain flash attention.
//!
//! Without the feature `cuda` only [`plan`] is there, which needs no GPU and no compiler for one.

pub mod plan;

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod cache;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod error;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod graph;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod launch;
#[cfg(feature = "cuda")]
mod linear;
#[cfg(feature = "cuda")]
pub mod ops;
#[cfg(feature = "cuda")]
mod packed;
#[cfg(feature = "cuda")]
mod pass;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(all(test, feature = "cuda"))]
mod tests;
#[cfg(feature = "cuda")]
mod unpack;

#[cfg(feature = "cuda")]
pub use {
    attention::{DECODE_TOKENS, Input, Inputs, Work, append, attend, attend_stored},
    cache::{Block, DeviceCache, Room},
    cudarc::driver::CudaSlice,
    device::{Device, Element},
    error::CudaError,
    linear::{FEW, LinearScratch, Matrix},
    packed::Format,
    pass::{Plan, Step},
    rows::Storage,
};

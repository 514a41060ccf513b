//! Exact bi-level attention (SelfExtend, arXiv 2401.01325) on NVIDIA GPUs.
//!
//! The same definition as [`selfextend_attention`], for keys and values that live on the device in
//! half precision, or as bytes with scales. A position map becomes data
//! ([lowering](selfextend_attention::lowering)): which keys each query sees in each region, and the
//! positions that queries and keys are rotated to. Three kernels read it:
//!
//! * **append** rotates new queries for every region and stores new keys and values;
//! * **prefill** walks tiles of keys region by region with one online softmax;
//! * **decode** splits the keys of a few queries over the whole device and merges.
//!
//! Distant keys are stored once, in their grouped rotation; the keys of the neighbour window are
//! rotated from those and stored again in a ring. So a region is only another pair of pointers for
//! the kernels, and the inner loops are those of plain flash attention.
//!
//! [`attend`] is the way in: a [`DeviceCache`] for each sequence and kind of layer, a [`DevicePlan`]
//! for each pass.
//!
//! # Cargo features
//!
//! * `cuda` compiles the kernels, which needs `nvcc`, and everything that runs them. Without it this
//!   crate is empty. The CUDA driver is loaded at run time.
//! * `unstable` makes public what an engine needs beside attention ([`ops`]: norms, gates and linear
//!   layers) and what benchmarks take apart. It may change in any release.

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod blocks;
#[cfg(feature = "cuda")]
mod cache;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod element;
#[cfg(feature = "cuda")]
mod error;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod expert_kernels;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod experts;
#[cfg(feature = "cuda")]
mod kernels;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod launch;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod linear;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod matrix;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod memory;
#[cfg(all(feature = "cuda", feature = "unstable"))]
pub mod ops;
#[cfg(all(feature = "cuda", not(feature = "unstable")))]
#[allow(dead_code)]
mod ops;
#[cfg(feature = "cuda")]
#[cfg_attr(not(feature = "unstable"), allow(dead_code))]
mod packed;
#[cfg(feature = "cuda")]
mod plan;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod storage;
#[cfg(all(test, feature = "cuda"))]
mod tests;
#[cfg(feature = "cuda")]
mod unpack;

#[cfg(feature = "cuda")]
pub use {
    attention::{AttentionScratch, Input, Inputs, attend},
    cache::{DeviceCache, KvBlock, Room},
    cudarc::driver::CudaSlice,
    device::Device,
    element::Element,
    error::CudaError,
    plan::{DevicePlan, Segment},
    storage::Storage,
};
#[cfg(all(feature = "cuda", feature = "unstable"))]
pub use {
    attention::{append, attend_stored},
    blocks::{BlockFormat, Points},
    experts::{ExpertScratch, Experts, Routing, Score},
    linear::{FEW, LinearScratch},
    matrix::Matrix,
    packed::Format,
};

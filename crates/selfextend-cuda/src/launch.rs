//! The kernels' arguments and their launches: all the `unsafe` of this crate.
//!
//! The structures mirror `kernels/common.cuh`. Every launch is held against the f64 oracle by
//! `tests.rs`, which needs a GPU.

use crate::error::CudaError;
use crate::plan::MAX_REGIONS;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg,
};
use std::sync::Arc;

/// Sequences of one decode launch.
pub(crate) const MAX_SEQUENCES: usize = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Region {
    pub q: CUdeviceptr,
    pub k: CUdeviceptr,
    pub ring: u32,
    pub unused: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PrefillArgs {
    pub regions: [Region; MAX_REGIONS],
    pub v: CUdeviceptr,
    pub out: CUdeviceptr,
    pub bounds: CUdeviceptr,
    pub stride: i32,
    pub count: i32,
    pub tokens: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub capacity: i32,
    pub keys: i32,
    pub scale: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DecodeSequence {
    pub k: [CUdeviceptr; MAX_REGIONS],
    pub v: CUdeviceptr,
    pub ring: [u32; MAX_REGIONS],
    pub capacity: i32,
    pub keys: i32,
    pub row: i32,
    pub tokens: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DecodeArgs {
    pub q: [CUdeviceptr; MAX_REGIONS],
    pub out: CUdeviceptr,
    pub bounds: CUdeviceptr,
    pub partial: CUdeviceptr,
    pub states: CUdeviceptr,
    pub arrived: CUdeviceptr,
    pub count: i32,
    pub tokens: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub scale: f32,
    pub unused: i32,
    pub sequences: [DecodeSequence; MAX_SEQUENCES],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AppendArgs {
    pub q: CUdeviceptr,
    pub k: CUdeviceptr,
    pub v: CUdeviceptr,
    pub q_out: [CUdeviceptr; MAX_REGIONS],
    pub k_out: [CUdeviceptr; MAX_REGIONS],
    pub v_out: CUdeviceptr,
    pub q_positions: CUdeviceptr,
    pub k_positions: CUdeviceptr,
    pub q_factors: CUdeviceptr,
    pub frequencies: CUdeviceptr,
    pub ring: [u32; MAX_REGIONS],
    pub regions: i32,
    pub planes: i32,
    pub pairs: i32,
    pub interleaved: i32,
    pub magnitude: f32,
    pub stride: i32,
    pub start: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub capacity: i32,
    pub q_stride: i32,
    pub kv_stride: i32,
    pub unused: i32,
}

// SAFETY: plain numbers in C's layout, without padding that matters, as the kernels declare them
// (`layouts_match` holds the sizes against the ones nvcc checks).
unsafe impl DeviceRepr for PrefillArgs {}
// SAFETY: as above.
unsafe impl DeviceRepr for DecodeArgs {}
// SAFETY: as above.
unsafe impl DeviceRepr for AppendArgs {}

/// A kernel and the shape of its launch.
pub(crate) struct Launch<'a> {
    pub stream: &'a CudaStream,
    pub kernel: &'a CudaFunction,
    pub grid: (u32, u32, u32),
    pub block: (u32, u32, u32),
    pub shared: usize,
}

impl Launch<'_> {
    /// Queues the kernel.
    pub(crate) fn run<A: DeviceRepr>(&self, args: &A) -> Result<(), CudaError> {
        let config = LaunchConfig {
            grid_dim: self.grid,
            block_dim: self.block,
            shared_mem_bytes: self.shared as u32,
        };
        // SAFETY: callers (`attention.rs`) pass the structure the kernel declares, made of pointers
        // into slices that outlive the stream's work (freeing a slice is queued on the same stream)
        // and of extents checked against those slices' lengths.
        unsafe {
            self.stream
                .launch_builder(self.kernel)
                .arg(args)
                .launch(config)?;
        }
        Ok(())
    }
}

/// The one stream of a device.
pub(crate) fn single_stream(context: &Arc<CudaContext>) -> Result<Arc<CudaStream>, CudaError> {
    // SAFETY: slices of this crate are used on this stream only (`attention.rs` refuses others), so
    // there is nothing for events to order.
    unsafe { context.disable_event_tracking() };
    Ok(context.new_stream()?)
}

/// Whether the driver's library can be loaded.
pub(crate) fn driver_is_present() -> bool {
    // SAFETY: loads the driver's library and runs its initialisers, as any use of it would.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same numbers as the static_asserts in `common.cuh`.
    #[test]
    fn layouts_match() {
        assert_eq!(size_of::<PrefillArgs>(), 128);
        assert_eq!(size_of::<DecodeSequence>(), 64);
        assert_eq!(size_of::<DecodeArgs>(), 1112);
        assert_eq!(size_of::<AppendArgs>(), 176);
    }
}

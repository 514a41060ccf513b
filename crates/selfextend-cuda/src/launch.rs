//! The kernels' arguments and what libraries are called for: with `graph.rs`, all the `unsafe` of
//! this crate.
//!
//! The structures mirror `kernels/common.cuh`. Every launch is held against the f64 oracle by
//! `tests/`, which needs a GPU.

use crate::device::{Device, Element};
use crate::error::CudaError;
use crate::plan::MAX_PLANES;
use bytemuck::{Pod, Zeroable, bytes_of};
use cudarc::cublas::{self, CudaBlas};
use cudarc::driver::sys::{self, CUdeviceptr};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use selfextend_attention::position::MAX_REGIONS;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Sequences of one decode launch.
pub(crate) const MAX_SEQUENCES: usize = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct Region {
    pub q: CUdeviceptr,
    pub k: CUdeviceptr,
    pub ring: u32,
    pub bend: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct PrefillArgs {
    pub regions: [Region; MAX_REGIONS],
    pub v: CUdeviceptr,
    pub out: CUdeviceptr,
    pub spans: CUdeviceptr,
    pub stride: i32,
    pub count: i32,
    pub tokens: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub capacity: i32,
    pub keys: i32,
    pub scale: f32,
}

/// What the copy engine knows of a tensor.
#[repr(C, align(128))]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct TensorMap([u64; 16]);

/// [`PrefillArgs`] for Hopper.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct HopperArgs {
    pub q: [TensorMap; MAX_REGIONS],
    pub k: [TensorMap; MAX_REGIONS],
    pub v: TensorMap,
    pub a: PrefillArgs,
}

/// A tensor of 16-bit numbers with three dimensions, the first contiguous.
pub(crate) struct Tensor {
    pub address: CUdeviceptr,
    pub is_f16: bool,
    pub sizes: [usize; 3],
    /// Elements between neighbours of the second and third dimension.
    pub strides: [usize; 2],
    /// What is copied at once: 64 elements of the first dimension, so many of the others.
    pub boxed: [usize; 2],
}

impl TensorMap {
    /// Describes a tensor to the copy engine, in the 128-byte swizzle of the matrix products.
    pub(crate) fn new(tensor: Tensor) -> Result<Self, CudaError> {
        let mut map = MaybeUninit::<sys::CUtensorMap>::uninit();
        let sizes = tensor.sizes.map(|n| n as u64);
        let strides = tensor.strides.map(|n| 2 * n as u64);
        let boxed = [64, tensor.boxed[0] as u32, tensor.boxed[1] as u32];
        let every = [1; 3];
        let kind = if tensor.is_f16 {
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16
        } else {
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
        };
        // SAFETY: the arrays are as long as the rank says; the driver checks the rest and only
        // writes the map, which is 128 bytes aligned to 128 like `Self`.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                map.as_mut_ptr(),
                kind,
                3,
                tensor.address as *mut std::ffi::c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                boxed.as_ptr(),
                every.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
            .result()?;
            Ok(std::mem::transmute::<sys::CUtensorMap, Self>(
                map.assume_init(),
            ))
        }
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct DecodeSequence {
    pub k: [CUdeviceptr; MAX_REGIONS],
    pub v: CUdeviceptr,
    pub k_scales: [CUdeviceptr; MAX_REGIONS],
    pub v_scales: CUdeviceptr,
    pub ring: [u32; MAX_REGIONS],
    pub from: [i32; MAX_REGIONS],
    pub to: [i32; MAX_REGIONS],
    pub keys: i32,
    pub row: i32,
    pub tokens: i32,
    pub capacity: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct DecodeArgs {
    pub q: [CUdeviceptr; MAX_REGIONS],
    pub out: CUdeviceptr,
    pub spans: CUdeviceptr,
    pub partial: CUdeviceptr,
    pub states: CUdeviceptr,
    pub arrived: CUdeviceptr,
    pub count: i32,
    pub tokens: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub scale: f32,
    pub bend: f32,
    pub sequences: [DecodeSequence; MAX_SEQUENCES],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct AppendArgs {
    pub q: CUdeviceptr,
    pub k: CUdeviceptr,
    pub v: CUdeviceptr,
    pub q_out: [CUdeviceptr; MAX_REGIONS],
    pub k_out: [CUdeviceptr; MAX_PLANES],
    pub v_out: CUdeviceptr,
    pub k_scales: CUdeviceptr,
    pub v_scales: CUdeviceptr,
    pub q_positions: CUdeviceptr,
    pub k_positions: CUdeviceptr,
    pub q_factors: CUdeviceptr,
    pub frequencies: CUdeviceptr,
    pub ring: [u32; MAX_PLANES],
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
    pub head_dim: i32,
    pub anchored: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct UnpackArgs {
    pub bytes: [CUdeviceptr; 2],
    pub scales: [CUdeviceptr; 2],
    pub out: CUdeviceptr,
    pub dim: i32,
    pub capacity: i32,
    pub slots: i32,
    pub first: i32,
    pub stored: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct DeriveArgs {
    pub stored: CUdeviceptr,
    pub scales: CUdeviceptr,
    pub out: CUdeviceptr,
    pub positions: CUdeviceptr,
    pub frequencies: CUdeviceptr,
    pub ring: u32,
    pub pairs: i32,
    pub interleaved: i32,
    pub start: i32,
    pub kv_heads: i32,
    pub capacity: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct CopyArgs {
    pub from: [CUdeviceptr; 4],
    pub to: [CUdeviceptr; 4],
    pub count: [i32; 2],
    pub from_pitch: [i32; 2],
    pub to_pitch: [i32; 2],
}

/// A kernel and the shape of its launch.
pub(crate) struct Launch<'a> {
    pub device: &'a Device,
    pub kernel: &'a CudaFunction,
    pub grid: (u32, u32, u32),
    pub block: (u32, u32, u32),
    pub shared: usize,
}

/// An argument of a kernel that takes several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Pointer(CUdeviceptr),
    Len(u64),
    Int(i32),
    Float(f32),
    Rows([u32; FEW_ROWS]),
}

/// Rows whose numbers are arguments themselves.
pub(crate) const FEW_ROWS: usize = 32;

impl Value {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Pointer(x) | Self::Len(x) => bytes_of(x),
            Self::Int(x) => bytes_of(x),
            Self::Float(x) => bytes_of(x),
            Self::Rows(x) => bytes_of(x),
        }
    }
}

impl Launch<'_> {
    /// Queues a kernel that takes one structure; see [`Queue::submit`](crate::graph::Queue::submit).
    pub(crate) fn run<A: Pod>(&self, args: &A) -> Result<(), CudaError> {
        self.device.queue().submit(self, &[bytes_of(args)])
    }

    /// The same outside of passes, which another thread may be noting.
    pub(crate) fn run_now<A: Pod>(&self, args: &A) -> Result<(), CudaError> {
        self.device.queue().submit_now(self, &[bytes_of(args)])
    }

    /// Queues a kernel of `ops.cu` or `linear.cu`.
    pub(crate) fn run_values(&self, values: &[Value]) -> Result<(), CudaError> {
        let values: Vec<&[u8]> = values.iter().map(Value::bytes).collect();
        self.device.queue().submit(self, &values)
    }
}

/// cuBLAS on a device's stream.
#[derive(Debug)]
pub(crate) struct Blas(CudaBlas);

impl Blas {
    pub(crate) fn new(device: &Device) -> Result<Self, CudaError> {
        // SAFETY: loads cuBLAS and runs its initialisers, as any use of it would.
        if !unsafe { cublas::sys::is_culib_present() } {
            return Err(CudaError::NoBlas);
        }
        Ok(Self(CudaBlas::new(device.stream().clone())?))
    }

    /// `out[t] = matrix · x[t]`: `[outputs, inputs]` by `[tokens, inputs]`, rows contiguous, to
    /// tokens `pitch` numbers apart; operands in `T`, result in f32.
    pub(crate) fn multiply<T: Element>(
        &self,
        [outputs, tokens, inputs]: [usize; 3],
        pitch: usize,
        matrix: CUdeviceptr,
        x: CUdeviceptr,
        out: CUdeviceptr,
    ) -> Result<(), CudaError> {
        use cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        use cublas::sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F};
        let [m, n, k] = [outputs, tokens, inputs].map(|x| x as i32);
        let kind = if T::NAME == "f16" {
            CUDA_R_16F
        } else {
            CUDA_R_16BF
        };
        let (one, zero) = (1f32, 0f32);
        // SAFETY: `linear.rs` checked the extents against the slices'; cuBLAS, which counts columns
        // first, sees the transposes, so `out` is m by n with columns of m, `pitch` apart.
        unsafe {
            cublas::result::gemm_ex(
                *self.0.handle(),
                CUBLAS_OP_T,
                CUBLAS_OP_N,
                m,
                n,
                k,
                (&raw const one).cast(),
                matrix as *const _,
                kind,
                k,
                x as *const _,
                kind,
                k,
                (&raw const zero).cast(),
                out as *mut _,
                CUDA_R_32F,
                pitch as i32,
                cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )?;
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
        assert_eq!(size_of::<HopperArgs>(), 1024);
        assert_eq!(size_of::<DecodeSequence>(), 120);
        assert_eq!(size_of::<DecodeArgs>(), 2008);
        assert_eq!(size_of::<AppendArgs>(), 208);
        assert_eq!(size_of::<UnpackArgs>(), 64);
        assert_eq!(size_of::<DeriveArgs>(), 64);
        assert_eq!(size_of::<CopyArgs>(), 88);
    }
}

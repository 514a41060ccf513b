//! The kernels' arguments. The structures mirror `kernels/common.cuh`.

use crate::error::CudaError;
use bytemuck::{Pod, Zeroable, bytes_of};
use cudarc::driver::sys::{self, CUdeviceptr};
use selfextend_attention::position::MAX_REGIONS;
use std::mem::MaybeUninit;

/// Most planes of keys: the stored ones, and those of each derived region.
pub(crate) const MAX_PLANES: usize = 1 + MAX_REGIONS;

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
    pub low: [i32; MAX_REGIONS],
    pub high: [i32; MAX_REGIONS],
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

/// How a token's experts are chosen.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct Choosing {
    pub experts: i32,
    pub used: i32,
    pub score: i32,
    pub normalised: i32,
    pub groups: i32,
    pub groups_used: i32,
    pub scale: f32,
    pub unused: i32,
}

/// An argument of a kernel that takes several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Pointer(CUdeviceptr),
    Len(u64),
    Int(i32),
    Float(f32),
    Rows([u32; FEW_ROWS]),
    Choosing(Choosing),
}

/// Rows whose numbers are arguments themselves.
pub(crate) const FEW_ROWS: usize = 32;

impl Value {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Pointer(x) | Self::Len(x) => bytes_of(x),
            Self::Int(x) => bytes_of(x),
            Self::Float(x) => bytes_of(x),
            Self::Rows(x) => bytes_of(x),
            Self::Choosing(x) => bytes_of(x),
        }
    }
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
        assert_eq!(size_of::<Choosing>(), 32);
    }
}

//! A GPU with the kernels loaded.

use crate::error::CudaError;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as SHARED;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, ValidAsZeroBits,
};
use cudarc::nvrtc::Ptx;
use std::sync::Arc;

/// A 16-bit float that keys, values and queries are stored in.
pub trait Element: DeviceRepr + ValidAsZeroBits + Copy + Default + Send + Sync + 'static {
    /// Its name in the kernels' names.
    const NAME: &'static str;
}

impl Element for half::f16 {
    const NAME: &'static str = "f16";
}

impl Element for half::bf16 {
    const NAME: &'static str = "bf16";
}

/// Rows of queries and of keys in a prefill tile, and warps of a block (`prefill.cu`).
pub(crate) struct PrefillTile {
    pub rows: usize,
    pub keys: usize,
    pub warps: usize,
}

impl PrefillTile {
    pub(crate) fn of(head_dim: usize) -> Result<Self, CudaError> {
        match head_dim {
            64 | 96 | 128 => Ok(Self {
                rows: 128,
                keys: 64,
                warps: 4,
            }),
            256 => Ok(Self {
                rows: 128,
                keys: 32,
                warps: 8,
            }),
            other => Err(CudaError::HeadSize(other)),
        }
    }

    /// Bytes of shared memory: queries, and two stages of keys and values, in padded rows.
    pub(crate) fn shared(&self, head_dim: usize) -> usize {
        (self.rows + 4 * self.keys) * (head_dim + 8) * 2
    }
}

/// Warps of a decode block, each with its own tiles (`decode.cu`).
pub(crate) const DECODE_WARPS: usize = 4;
/// Query rows of a decode block, and keys of a tile.
pub(crate) const DECODE_ROWS: usize = 16;

/// Bytes of shared memory of a decode block.
pub(crate) fn decode_shared(head_dim: usize) -> usize {
    let stages = match head_dim {
        64 => 4,
        256 => 2,
        _ => 3,
    };
    let pipes = stages * 2 * DECODE_ROWS * (head_dim + 8) * 2;
    DECODE_WARPS * pipes.max(DECODE_ROWS * head_dim * 4)
}

/// A GPU, the stream everything runs on, and the kernels.
#[derive(Debug, Clone)]
pub struct Device {
    stream: Arc<CudaStream>,
    append: Arc<CudaModule>,
    prefill: Arc<CudaModule>,
    decode: Arc<CudaModule>,
    processors: usize,
}

impl Device {
    /// Opens a GPU by its number and loads the kernels.
    ///
    /// # Errors
    /// No driver, no such GPU, or one older than compute capability 8.0.
    pub fn new(ordinal: usize) -> Result<Self, CudaError> {
        if !crate::launch::driver_is_present() {
            return Err(CudaError::NoDriver);
        }
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        if major < 8 {
            return Err(CudaError::Capability { major, minor });
        }
        let load = |code: &[u8]| context.load_module(Ptx::from_binary(code.to_vec()));
        let count = Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        Ok(Self {
            append: load(include_bytes!(concat!(env!("OUT_DIR"), "/append.fatbin")))?,
            prefill: load(include_bytes!(concat!(env!("OUT_DIR"), "/prefill.fatbin")))?,
            decode: load(include_bytes!(concat!(env!("OUT_DIR"), "/decode.fatbin")))?,
            processors: context.attribute(count)? as usize,
            stream: crate::launch::single_stream(&context)?,
        })
    }

    /// The stream that all work is queued on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// What the driver calls the card.
    ///
    /// # Errors
    /// The driver's.
    pub fn name(&self) -> Result<String, CudaError> {
        Ok(self.stream.context().name()?)
    }

    /// Streaming multiprocessors.
    pub(crate) fn processors(&self) -> usize {
        self.processors
    }

    /// The kernels of a storage type and head size.
    pub(crate) fn kernels<T: Element>(&self, dim: usize) -> Result<Kernels, CudaError> {
        let (name, append) = (T::NAME, &self.append);
        let kernels = Kernels {
            append: append.load_function(&format!("append_{name}_from_{name}"))?,
            append_f32: append.load_function(&format!("append_{name}_from_f32"))?,
            prefill: self.prefill.load_function(&format!("prefill_{name}_{dim}"))?,
            decode: self.decode.load_function(&format!("decode_{name}_{dim}"))?,
        };
        let shared = PrefillTile::of(dim)?.shared(dim);
        kernels.prefill.set_attribute(SHARED, shared as i32)?;
        let shared = decode_shared(dim);
        kernels.decode.set_attribute(SHARED, shared as i32)?;
        Ok(kernels)
    }
}

/// What serves one storage type and head size.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub append: CudaFunction,
    pub append_f32: CudaFunction,
    pub prefill: CudaFunction,
    pub decode: CudaFunction,
}

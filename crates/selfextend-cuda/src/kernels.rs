//! The attention kernels of a storage and head size, and the sizes of their tiles, which mirror
//! those in `kernels/*.cu`.

use crate::device::{Device, PREFILL_ROWS};
use crate::element::Element;
use crate::error::CudaError;
use crate::storage::Storage;
use cudarc::driver::CudaFunction;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as SHARED;

/// Rows of queries and of keys in a prefill tile, and threads and shared memory of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefillTile {
    pub rows: usize,
    pub keys: usize,
    pub threads: usize,
    pub shared: usize,
}

impl PrefillTile {
    /// Of `prefill.cu`: queries, and two stages of keys and values, in padded rows.
    fn since_ampere(head_dim: usize) -> Result<Self, CudaError> {
        let (keys, threads) = match head_dim {
            64 | 96 | 128 => (64, 128),
            256 => (32, 256),
            other => return Err(CudaError::HeadSize(other)),
        };
        let rows = PREFILL_ROWS;
        Ok(Self {
            rows,
            keys,
            threads,
            shared: (rows + 4 * keys) * (head_dim + 8) * 2,
        })
    }

    /// Of `hopper.cu`, if it has the head size: the queries of two regions where they fit, and two
    /// stages of keys and values.
    fn hopper(head_dim: usize) -> Option<Self> {
        let (keys, queries) = match head_dim {
            64 | 128 => (128, 2),
            256 => (64, 1),
            _ => return None,
        };
        let rows = PREFILL_ROWS;
        Some(Self {
            rows,
            keys,
            threads: 384,
            shared: (queries * rows + 4 * keys) * head_dim * 2 + 1024,
        })
    }
}

/// Warps of a decode block, each with its own tiles (`decode.cu`).
pub(crate) const DECODE_WARPS: usize = 4;
/// Query rows of a decode block.
pub(crate) const DECODE_ROWS: usize = 16;
/// Keys of a decode tile.
pub(crate) const DECODE_KEYS: usize = 16;

/// Bytes of shared memory of a decode block.
pub(crate) fn decode_shared(head_dim: usize, storage: Storage) -> usize {
    let stages = match head_dim {
        64 => 4,
        256 => 2,
        _ => 3,
    };
    let keys = (head_dim + 8) * 2;
    let values = match storage {
        Storage::Halves => keys,
        // Bytes of values, and scales of both.
        Storage::Bytes => (head_dim | 16) + 2 * head_dim / 32 * 2,
    };
    let pipes = stages * DECODE_KEYS * (keys + values);
    DECODE_WARPS * pipes.max(DECODE_ROWS * head_dim * 4)
}

/// The smallest head size with kernels that takes heads of `head_dim`, padded with zeros: they add
/// nothing to scores, and their columns of the results are left out.
pub(crate) fn padded(head_dim: usize) -> Result<usize, CudaError> {
    let sizes = [64, 96, 128, 256];
    let fitting = sizes.into_iter().find(|&size| size >= head_dim);
    fitting.ok_or(CudaError::HeadSize(head_dim))
}

/// The kernels of one storage and head size.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub append: CudaFunction,
    pub append_f32: CudaFunction,
    /// Keys of other planes from those of the first.
    pub derive: CudaFunction,
    /// Rows between a cache and a block.
    pub copy: CudaFunction,
    /// Bytes to 16-bit floats.
    pub unpack: CudaFunction,
    pub prefill: CudaFunction,
    pub tile: PrefillTile,
    /// Whether `prefill` is `hopper.cu`'s.
    pub is_hopper: bool,
    pub decode: CudaFunction,
    pub decode_shared: usize,
}

impl Kernels {
    /// For a storage and head size. Hopper's own kernels have no soft cap.
    pub(crate) fn load<T: Element>(
        device: &Device,
        dim: usize,
        storage: Storage,
        capped: bool,
    ) -> Result<Self, CudaError> {
        let (name, append) = (T::NAME, &device.append);
        let hopper = device.hopper.as_ref().filter(|_| !capped);
        let hopper = hopper.zip(PrefillTile::hopper(dim));
        let (prefill, tile) = match &hopper {
            Some((module, tile)) => (
                module.load_function(&format!("hopper_{name}_{dim}"))?,
                *tile,
            ),
            None => {
                let tile = PrefillTile::since_ampere(dim)?;
                let kernel = format!("prefill_{name}_{dim}");
                (device.prefill.load_function(&kernel)?, tile)
            }
        };
        let decode_shared = decode_shared(dim, storage);
        let needed = tile.shared.max(decode_shared);
        let most = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let available = device.stream().context().attribute(most)? as usize;
        if needed > available {
            return Err(CudaError::SharedMemory {
                head_dim: dim,
                needed,
                available,
            });
        }
        prefill.set_attribute(SHARED, tile.shared as i32)?;
        let unpack = append.load_function(&format!("unpack_{name}"))?;
        let name = match storage {
            Storage::Halves => name.into(),
            Storage::Bytes => format!("bytes_{name}"),
        };
        let decode = device
            .decode
            .load_function(&format!("decode_{name}_{dim}"))?;
        decode.set_attribute(SHARED, decode_shared as i32)?;
        Ok(Self {
            append: append.load_function(&format!("append_{name}_from_{}", T::NAME))?,
            append_f32: append.load_function(&format!("append_{name}_from_f32"))?,
            derive: append.load_function(&format!("derive_{name}"))?,
            copy: append.load_function("copy_rows")?,
            unpack,
            is_hopper: hopper.is_some(),
            prefill,
            tile,
            decode,
            decode_shared,
        })
    }
}

//! A GPU with the kernels loaded.

use crate::error::CudaError;
use crate::graph::Queue;
use crate::rows::Storage;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as SHARED;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, ValidAsZeroBits,
};
use cudarc::nvrtc::Ptx;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Queries of a prefill block.
const PREFILL_ROWS: usize = 128;

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

    /// Of `hopper.cu`, if it has the head size: room for the queries of two regions where there is
    /// any, and two stages.
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

/// The smallest head size with kernels that takes heads of `head_dim`, padded with zeros: zeros add
/// nothing to scores, and the results' are left out.
pub(crate) fn padded(head_dim: usize) -> Result<usize, CudaError> {
    let sizes = [64, 96, 128, 256];
    let fitting = sizes.into_iter().find(|&size| size >= head_dim);
    fitting.ok_or(CudaError::HeadSize(head_dim))
}

/// A GPU, the stream everything runs on, and the kernels.
#[derive(Debug, Clone)]
pub struct Device {
    stream: Arc<CudaStream>,
    queue: Arc<Mutex<Queue>>,
    append: Arc<CudaModule>,
    prefill: Arc<CudaModule>,
    decode: Arc<CudaModule>,
    hopper: Option<Arc<CudaModule>>,
    ops: Arc<CudaModule>,
    linear: Arc<CudaModule>,
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
        let is_hopper = (major, minor) == (9, 0);
        let count = Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let stream = crate::launch::single_stream(&context)?;
        Ok(Self {
            append: load(include_bytes!(concat!(env!("OUT_DIR"), "/append.fatbin")))?,
            prefill: load(include_bytes!(concat!(env!("OUT_DIR"), "/prefill.fatbin")))?,
            decode: load(include_bytes!(concat!(env!("OUT_DIR"), "/decode.fatbin")))?,
            ops: load(include_bytes!(concat!(env!("OUT_DIR"), "/ops.fatbin")))?,
            linear: load(include_bytes!(concat!(env!("OUT_DIR"), "/linear.fatbin")))?,
            hopper: if is_hopper {
                Some(load(include_bytes!(concat!(
                    env!("OUT_DIR"),
                    "/hopper.fatbin"
                )))?)
            } else {
                None
            },
            processors: context.attribute(count)? as usize,
            queue: Arc::new(Mutex::new(Queue::new(stream.clone()))),
            stream,
        })
    }

    /// Notes the kernels of a step instead of launching them, until [`Device::play`]. Memory that
    /// they use is not to be freed before.
    pub fn record(&self) {
        self.queue().record();
    }

    /// Launches the kernels of a step, from the second such step on all at once, as a CUDA graph.
    ///
    /// # Errors
    /// The driver's.
    pub fn play(&self) -> Result<(), CudaError> {
        self.queue().play()
    }

    /// Launches what was noted, if anything was, one by one; what follows too.
    pub(crate) fn settle(&self) -> Result<(), CudaError> {
        self.queue().settle()
    }

    /// Whether steps become CUDA graphs: without, [`Device::record`] does nothing.
    pub fn use_graphs(&self, enabled: bool) {
        self.queue().enable(enabled);
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream that all work is queued on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The same device without what only Hopper has: for comparisons and tests.
    pub fn portable(self) -> Self {
        Self {
            hopper: None,
            ..self
        }
    }

    /// Whether both queue on one stream, so that memory of one can be used with the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
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

    /// Tokens whose attention fills the device about twice: more at once are no faster.
    pub fn wave(&self, heads: usize) -> usize {
        let blocks = (2 * self.processors / heads.max(1)).max(1);
        (blocks * PREFILL_ROWS).max(1024)
    }

    /// The kernels of `ops.cu`.
    pub(crate) fn ops(&self) -> &Arc<CudaModule> {
        &self.ops
    }

    /// The kernels of `linear.cu`.
    pub(crate) fn linear(&self) -> &Arc<CudaModule> {
        &self.linear
    }

    /// Makes the device this thread's, for calls that do not do it themselves.
    ///
    /// # Errors
    /// The driver's.
    pub fn bind(&self) -> Result<(), CudaError> {
        Ok(self.stream.context().bind_to_thread()?)
    }

    /// The kernels of a storage and head size; Hopper's own have no soft cap.
    pub(crate) fn kernels<T: Element>(
        &self,
        dim: usize,
        storage: Storage,
        capped: bool,
    ) -> Result<Kernels, CudaError> {
        let (name, append) = (T::NAME, &self.append);
        let hopper = self.hopper.as_ref().filter(|_| !capped);
        let hopper = hopper.zip(PrefillTile::hopper(dim));
        let (prefill, tile) = match &hopper {
            Some((module, tile)) => (
                module.load_function(&format!("hopper_{name}_{dim}"))?,
                *tile,
            ),
            None => {
                let tile = PrefillTile::since_ampere(dim)?;
                let kernel = format!("prefill_{name}_{dim}");
                (self.prefill.load_function(&kernel)?, tile)
            }
        };
        let decode_shared = decode_shared(dim, storage);
        let needed = tile.shared.max(decode_shared);
        let most = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let available = self.stream.context().attribute(most)? as usize;
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
        let decode = self.decode.load_function(&format!("decode_{name}_{dim}"))?;
        decode.set_attribute(SHARED, decode_shared as i32)?;
        Ok(Kernels {
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

/// What serves one storage and head size.
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

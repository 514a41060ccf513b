//! How a model is loaded, and how a sequence on it runs.

use crate::backend::Device;
use crate::extension::Extension;
use selfextend_attention::KvType;

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Widen every weight to float32 at load: the reference mode.
    pub exact: bool,
    /// Under a position map that reaches further than training did, keep the sliding window of a
    /// model whose layers all have one. It is switched off by default: the map would be of no use.
    pub keep_sliding_window: bool,
    /// Where the model runs.
    pub device: Device,
}

impl LoadOptions {
    /// On the CPU, a thread per core, weights as in the file.
    pub fn new() -> Self {
        Self::default()
    }

    /// With so many threads; 0 for one per core.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// With every weight widened to float32, or not.
    pub fn with_exact(self, exact: bool) -> Self {
        Self { exact, ..self }
    }

    /// With a sliding window that every layer has kept under any position map, or not.
    pub fn with_keep_sliding_window(self, keep_sliding_window: bool) -> Self {
        Self {
            keep_sliding_window,
            ..self
        }
    }

    /// On a device.
    pub fn with_device(self, device: Device) -> Self {
        Self { device, ..self }
    }
}

/// Default tokens of a prefill chunk: the cost of widening the weights is spread over them.
pub const DEFAULT_CHUNK: usize = 512;

/// How a sequence runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// How it attends, and the most tokens it may hold.
    pub extension: Extension,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Tokens of a prefill that pass through the model together.
    pub chunk: usize,
}

impl SessionOptions {
    /// Under an extension, keys and values as 16-bit floats, chunks of [`DEFAULT_CHUNK`].
    pub fn new(extension: Extension) -> Self {
        Self {
            extension,
            kv_type: KvType::default(),
            chunk: DEFAULT_CHUNK,
        }
    }

    /// With keys and values stored in another type.
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }

    /// With so many tokens of a prefill at a time.
    pub fn with_chunk(self, chunk: usize) -> Self {
        Self { chunk, ..self }
    }
}

impl From<Extension> for SessionOptions {
    fn from(extension: Extension) -> Self {
        Self::new(extension)
    }
}

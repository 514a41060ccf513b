//! How a model is loaded, and how a sequence on it runs.

use crate::builder::with_fields;
use crate::device::Device;
use crate::extension::Extension;
use selfextend_attention::KvType;

/// How linear layers multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinearMode {
    /// Weights as in the file. Activations of quantised ones are rounded to 15 bits.
    #[default]
    Rounded,
    /// Weights as in the file. Activations of quantised ones are rounded to 8 bits, a hundred times
    /// coarser, which processors with VNNI multiply with fewer instructions in a prefill. On the CPU
    /// only.
    Fast,
    /// Every weight widened to float32 at load: the reference mode. On the CPU only.
    F32,
}

/// How a model is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// How linear layers multiply.
    pub linear: LinearMode,
    /// Under a position map that reaches further than training did, keep the sliding window of a
    /// model whose layers all have one. It is switched off by default: the map would be of no use.
    pub keep_sliding_window: bool,
    /// Where the model runs.
    pub device: Device,
    /// Look at the output of every operation and name the first that is not finite; on the CPU only.
    pub check: bool,
    /// Unknown keys of the file to load the model in spite of ([`crate::keys`]).
    pub ignored_keys: Vec<String>,
}

impl LoadOptions {
    /// On the CPU, a thread per core, weights as in the file.
    pub fn new() -> Self {
        Self::default()
    }

    with_fields! {
        /// With so many threads; 0 for one per core.
        with_threads(threads: usize);
        /// With linear layers that multiply so.
        with_linear(linear: LinearMode);
        /// With a sliding window that every layer has kept under any position map, or not.
        with_keep_sliding_window(keep_sliding_window: bool);
        /// With a look at the output of every operation, or not.
        with_check(check: bool);
        /// On a device.
        with_device(device: Device);
        /// In spite of these unknown keys of the file.
        with_ignored_keys(ignored_keys: Vec<String>);
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

    with_fields! {
        /// With keys and values stored in another type.
        with_kv_type(kv_type: KvType);
        /// With so many tokens of a prefill at a time.
        with_chunk(chunk: usize);
    }
}

impl From<Extension> for SessionOptions {
    fn from(extension: Extension) -> Self {
        Self::new(extension)
    }
}

//! Keys and values of one sequence on the device.

use crate::device::{Device, Element, Kernels};
use crate::error::CudaError;
use cudarc::driver::CudaSlice;
use selfextend_attention::{AttentionShape, PairLayout, PositionMap, Rope};

/// Slots come in multiples of the widest tile, so that no tile wraps around a ring.
const SLOTS: usize = 128;

/// Keys and values of one sequence, all layers, for a number of tokens fixed when it is made.
///
/// Memory per layer and key head, in rows of the head size: `capacity` keys, `capacity` values,
/// and with a window region `window + chunk` keys more.
#[derive(Debug)]
pub struct DeviceCache<T> {
    shape: AttentionShape,
    map: PositionMap,
    rope: Rope,
    pub(crate) kernels: Kernels,
    pub(crate) frequencies: CudaSlice<f64>,
    pub(crate) layers: Vec<Planes<T>>,
    capacity: usize,
    ring: usize,
    chunk: usize,
    len: usize,
}

/// One layer's.
#[derive(Debug)]
pub(crate) struct Planes<T> {
    /// Keys in the rotation of the base region, `[kv_heads][capacity][head_dim]`.
    pub keys: CudaSlice<T>,
    /// Keys in the rotation of the window region, `[kv_heads][ring][head_dim]`; empty without one.
    pub window: CudaSlice<T>,
    /// `[kv_heads][capacity][head_dim]`.
    pub values: CudaSlice<T>,
}

impl<T: Element> DeviceCache<T> {
    /// Takes memory for `capacity` tokens, at most `chunk` of them new in a step.
    ///
    /// # Errors
    /// A head size without kernels, or the driver's: mostly too little memory.
    pub fn new(
        device: &Device,
        shape: AttentionShape,
        layers: usize,
        map: PositionMap,
        rope: Rope,
        capacity: usize,
        chunk: usize,
    ) -> Result<Self, CudaError> {
        let kernels = device.kernels::<T>(shape.head_dim())?;
        let capacity = capacity.max(1).next_multiple_of(SLOTS);
        if i32::try_from(capacity).is_err() || rope.spec().head_dim != shape.head_dim() {
            return Err(CudaError::Shape(format!(
                "a device cache of {capacity} tokens with heads of {} cannot be made for an embedding of {}",
                shape.head_dim(),
                rope.spec().head_dim
            )));
        }
        let ring = match map.window_len() {
            0 => 0,
            window => window
                .saturating_add(chunk)
                .next_multiple_of(SLOTS)
                .min(capacity),
        };
        let stream = device.stream();
        let row = shape.kv_heads() * shape.head_dim();
        let layers = (0..layers)
            .map(|_| {
                Ok(Planes {
                    keys: stream.alloc_zeros(capacity * row)?,
                    window: stream.alloc_zeros((ring * row).max(1))?,
                    values: stream.alloc_zeros(capacity * row)?,
                })
            })
            .collect::<Result<_, CudaError>>()?;
        let mut frequencies: Vec<f64> = (0..rope.pairs()).map(|t| rope.frequency(t)).collect();
        frequencies.resize(rope.pairs().max(1), 0.0);
        Ok(Self {
            kernels,
            frequencies: stream.clone_htod(&frequencies)?,
            shape,
            map,
            rope,
            layers,
            capacity,
            ring,
            chunk,
            len: 0,
        })
    }

    /// Tokens counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is counted.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heads and head size.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// The position map.
    pub fn map(&self) -> PositionMap {
        self.map
    }

    /// The rotary embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        let planes = |p: &Planes<T>| p.keys.len() + p.window.len() + p.values.len();
        self.layers.iter().map(planes).sum::<usize>() * size_of::<T>()
    }

    /// Counts the tokens of a step, once all layers have stored them.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Whether `tokens` more can be stored.
    ///
    /// # Errors
    /// [`CudaError::Capacity`] or [`CudaError::Chunk`] when not.
    pub fn check(&self, tokens: usize) -> Result<(), CudaError> {
        let wanted = self.len.saturating_add(tokens);
        if wanted > self.capacity {
            let capacity = self.capacity;
            return Err(CudaError::Capacity { wanted, capacity });
        }
        if self.map.has_window() && tokens > self.chunk && self.ring < self.capacity {
            let chunk = self.chunk;
            return Err(CudaError::Chunk { tokens, chunk });
        }
        Ok(())
    }

    /// Whether a pass can take both: the same heads, map and embedding.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        (self.shape, self.map) == (other.shape, other.map) && self.rope == other.rope
    }

    /// Keys of each region in a layer, with the number of slots that they wrap around.
    pub(crate) fn planes(&self, layer: usize) -> Vec<(&CudaSlice<T>, usize)> {
        let planes = &self.layers[layer];
        let mut all = vec![(&planes.keys, self.capacity)];
        if self.map.has_window() {
            all.push((&planes.window, self.ring));
        }
        all
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn interleaved(&self) -> bool {
        self.rope.spec().layout == PairLayout::Interleaved
    }
}

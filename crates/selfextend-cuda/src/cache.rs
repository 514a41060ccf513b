//! Keys and values of one sequence on the device.

use crate::device::{Device, Element, Kernels};
use crate::error::CudaError;
use crate::plan::{Regions, planes};
use cudarc::driver::CudaSlice;
use selfextend_attention::position::{Keys, MAX_REGIONS, Positions};
use selfextend_attention::{AttentionShape, PairLayout, Rope};
use std::sync::Arc;

/// Slots come in multiples of the widest tile, so that no tile wraps around a ring.
const SLOTS: usize = 128;

/// Keys and values of one sequence, all layers, for a number of tokens fixed when it is made.
///
/// Memory per layer and key head, in rows of the head size: `capacity` keys, `capacity` values,
/// and for each derived region `most + chunk` keys more (SelfExtend's window). Its keys must be the
/// newest of each query, or all still be there: others are refused when a pass is planned.
#[derive(Debug)]
pub struct DeviceCache<T> {
    shape: AttentionShape,
    map: Arc<dyn Positions>,
    rope: Rope,
    pub(crate) kernels: Kernels,
    pub(crate) frequencies: CudaSlice<f64>,
    pub(crate) layers: Vec<Planes<T>>,
    capacity: usize,
    /// Slots of each plane of keys.
    slots: Vec<usize>,
    /// The plane that each region reads.
    planes: Vec<usize>,
    chunk: usize,
    len: usize,
}

/// One layer's.
#[derive(Debug)]
pub(crate) struct Planes<T> {
    /// Keys in each rotation, `[kv_heads][slots][head_dim]`: for ever, then the rings of regions.
    pub keys: Vec<CudaSlice<T>>,
    /// `[kv_heads][capacity][head_dim]`.
    pub values: CudaSlice<T>,
}

impl<T: Element> DeviceCache<T> {
    /// Takes memory for `capacity` tokens, at most `chunk` of them new in a step.
    ///
    /// # Errors
    /// A head size without kernels, a soft cap, or the driver's: mostly too little memory.
    pub fn new(
        device: &Device,
        shape: AttentionShape,
        layers: usize,
        map: Arc<dyn Positions>,
        rope: Rope,
        capacity: usize,
        chunk: usize,
    ) -> Result<Self, CudaError> {
        if let Some(cap) = shape.soft_cap() {
            return Err(CudaError::SoftCap(cap));
        }
        let kernels = device.kernels::<T>(shape.head_dim())?;
        let capacity = capacity.max(1).next_multiple_of(SLOTS);
        if i32::try_from(capacity).is_err() || rope.spec().head_dim != shape.head_dim() {
            return Err(CudaError::Shape(format!(
                "a device cache of {capacity} tokens with heads of {} cannot be made for an embedding of {}",
                shape.head_dim(),
                rope.spec().head_dim
            )));
        }
        let regions = map.regions();
        if regions.is_empty() || regions.len() > MAX_REGIONS {
            return Err(CudaError::Shape(format!(
                "a position map of {} regions; the kernels take 1 to {MAX_REGIONS}",
                regions.len()
            )));
        }
        let rings = regions.iter().filter_map(|keys| match keys {
            Keys::Stored => None,
            Keys::Derived { most } => Some(most.saturating_add(chunk)),
        });
        let slots: Vec<usize> = std::iter::once(capacity)
            .chain(rings)
            .map(|slots| slots.min(capacity).next_multiple_of(SLOTS))
            .collect();
        let stream = device.stream();
        let row = shape.kv_heads() * shape.head_dim();
        let layers = (0..layers)
            .map(|_| {
                let plane = |&slots: &usize| Ok(stream.alloc_zeros(slots * row)?);
                Ok(Planes {
                    keys: slots.iter().map(plane).collect::<Result<_, CudaError>>()?,
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
            slots,
            planes: planes(&regions),
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
    pub fn map(&self) -> &Arc<dyn Positions> {
        &self.map
    }

    /// The rotary embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        let planes = self.layers.iter();
        let numbers = planes.flat_map(|p| p.keys.iter().chain([&p.values]));
        numbers.map(CudaSlice::len).sum::<usize>() * size_of::<T>()
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
        if tokens > self.chunk && self.slots.iter().any(|&slots| slots < self.capacity) {
            let chunk = self.chunk;
            return Err(CudaError::Chunk { tokens, chunk });
        }
        Ok(())
    }

    /// Whether the keys that new queries see are there.
    pub(crate) fn check_spans(&self, regions: &Regions, tokens: usize) -> Result<(), CudaError> {
        let refuse = |region, what| {
            Err(CudaError::Shape(format!(
                "region {region} of the position map {what}"
            )))
        };
        let end = self.len + tokens;
        for (r, [low, high]) in regions.spans.iter().enumerate() {
            if !low.is_sorted() || !high.is_sorted() {
                return refuse(r, "goes back from one query to the next");
            }
            if (self.len + 1..)
                .zip(high)
                .any(|(next, &high)| high < 0 || high as usize > next)
            {
                return refuse(r, "holds keys after the query");
            }
            let kept = end.saturating_sub(self.slots[self.planes[r]]);
            let mut ends = low.iter().zip(high);
            if ends.any(|(&low, &high)| low < 0 || low < high && (low as usize) < kept) {
                return refuse(r, "reaches further back than its ring");
            }
        }
        Ok(())
    }

    /// Whether a pass can take both: the same heads, embedding and planes of keys.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        self.shape == other.shape && self.rope == other.rope && self.planes == other.planes
    }

    /// Each rotation of a layer's keys, with the number of slots that it wraps around.
    pub(crate) fn planes(&self, layer: usize) -> impl Iterator<Item = (&CudaSlice<T>, usize)> {
        self.layers[layer]
            .keys
            .iter()
            .zip(self.slots.iter().copied())
    }

    /// The keys of each region in a layer, with the number of slots that they wrap around.
    pub(crate) fn regions(&self, layer: usize) -> impl Iterator<Item = (&CudaSlice<T>, usize)> {
        let keys = &self.layers[layer].keys;
        self.planes
            .iter()
            .map(|&plane| (&keys[plane], self.slots[plane]))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn interleaved(&self) -> bool {
        self.rope.spec().layout == PairLayout::Interleaved
    }
}

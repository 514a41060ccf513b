//! The cache itself: planes of keys, values, and which keys each plane holds.

use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::kernels::{Kernels, padded};
use crate::rows::{Move, Rows};
use crate::storage::Storage;
use cudarc::driver::CudaSlice;
use selfextend_attention::lowering::Lowering;
use selfextend_attention::position::Kept;
use selfextend_attention::{AttentionShape, LayerKind, PairLayout, Rope};
use std::ops::Range;
use std::sync::Arc;

/// Slots come in multiples of the widest tile, so that no tile wraps around a ring.
pub(crate) const SLOTS: usize = 128;

/// Keys and values of one sequence in layers that attend alike. It grows when room is
/// [reserved](DeviceCache::reserve).
///
/// Memory per layer and key head, in rows of the head size (padded to one that has kernels):
/// `capacity` keys and `capacity` values in its [`Storage`], and, in 16 bits, for each derived region
/// either a ring of `most + chunk` keys more (SelfExtend's window), or the `most` first keys of all
/// (LM-Infinite's sinks).
#[derive(Debug)]
pub struct DeviceCache<T> {
    pub(super) storage: Storage,
    pub(super) shape: AttentionShape,
    /// Components of a stored row.
    pub(super) dim: usize,
    kind: LayerKind,
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) frequencies: CudaSlice<f64>,
    pub(crate) layers: Vec<Planes<T>>,
    pub(super) capacity: usize,
    /// Which keys each plane keeps; `None` for all.
    kept: Vec<Option<Kept>>,
    /// Slots of each plane of keys.
    pub(super) slots: Vec<usize>,
    /// The first key that each plane still holds.
    pub(super) floors: Vec<usize>,
    /// The plane that each region reads.
    pub(super) planes: Vec<usize>,
    chunk: usize,
    pub(super) len: usize,
}

/// What a cache takes memory for at first.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Room {
    /// Layers of the model that it serves.
    pub layers: usize,
    /// How they store values and the first plane of keys.
    pub storage: Storage,
    /// Tokens.
    pub capacity: usize,
    /// The most of them that are new in a pass.
    pub chunk: usize,
}

impl Room {
    /// For `capacity` tokens in `layers` layers, in 16-bit floats; all of them may be new in one
    /// pass.
    pub fn new(layers: usize, capacity: usize) -> Self {
        Self {
            layers,
            storage: Storage::Halves,
            capacity,
            chunk: capacity,
        }
    }

    /// With another storage.
    pub fn with_storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// For at most `chunk` new tokens in a pass, which makes rings of derived keys smaller.
    pub fn with_chunk(self, chunk: usize) -> Self {
        Self { chunk, ..self }
    }
}

/// Slots of a plane that keeps all keys (`None`), or some of them.
fn slots(kept: Option<Kept>, capacity: usize, chunk: usize) -> usize {
    let slots = match kept {
        None => capacity,
        Some(Kept::Newest(most)) => most.saturating_add(chunk),
        Some(Kept::First(most)) => most.max(1),
    };
    slots.min(capacity).next_multiple_of(SLOTS)
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct Planes<T> {
    /// Keys in each plane, `[kv_heads][slots][dim]`: the stored ones, then those of each derived
    /// region.
    pub keys: Vec<Rows<T>>,
    /// `[kv_heads][capacity][dim]`.
    pub values: Rows<T>,
}

impl<T: Element> DeviceCache<T> {
    /// Takes memory for some tokens.
    ///
    /// # Errors
    /// A head size without kernels, or the driver's: mostly too little memory.
    pub fn new(
        device: &Device,
        shape: AttentionShape,
        kind: LayerKind,
        room: Room,
    ) -> Result<Self, CudaError> {
        let Room { storage, chunk, .. } = room;
        let rope = kind.rope().clone();
        let dim = padded(shape.head_dim())?;
        let kernels = Kernels::load::<T>(device, dim, storage, shape.soft_cap().is_some())?;
        let capacity = rounded(room.capacity)?;
        if rope.spec().head_dim != shape.head_dim() {
            return Err(CudaError::Shape(format!(
                "a device cache with heads of {} cannot be made for an embedding of {}",
                shape.head_dim(),
                rope.spec().head_dim
            )));
        }
        let lowering = Lowering::new(&kind, 0..0);
        if lowering.bands() > 1 {
            return Err(CudaError::Bands);
        }
        let regions = lowering.regions().iter();
        let derived = regions.clone().filter_map(|region| region.kept());
        let kept: Vec<Option<Kept>> = [None].into_iter().chain(derived.map(Some)).collect();
        let slots: Vec<usize> = kept
            .iter()
            .map(|&kept| slots(kept, capacity, chunk))
            .collect();
        let stream = device.stream();
        let rows = |storage, slots| Rows::new(stream, storage, slots * shape.kv_heads(), dim);
        let layers = (0..room.layers)
            .map(|_| {
                let mut keys = vec![rows(storage, capacity)?];
                for &slots in &slots[1..] {
                    keys.push(rows(Storage::Halves, slots)?);
                }
                let values = rows(storage, capacity)?;
                Ok(Planes { keys, values })
            })
            .collect::<Result<_, CudaError>>()?;
        let mut frequencies: Vec<f64> = (0..rope.pairs()).map(|t| rope.frequency(t)).collect();
        frequencies.resize(rope.pairs().max(1), 0.0);
        Ok(Self {
            kernels: Arc::new(kernels),
            frequencies: stream.clone_htod(&frequencies)?,
            planes: regions.map(|region| region.plane()).collect(),
            floors: vec![0; slots.len()],
            storage,
            shape,
            dim,
            kind,
            layers,
            capacity,
            kept,
            slots,
            chunk,
            len: 0,
        })
    }

    /// A second sequence with the same tokens, in memory of its own.
    ///
    /// # Errors
    /// The driver's: mostly too little memory.
    pub fn fork(&self, device: &Device) -> Result<Self, CudaError> {
        let stream = device.stream();
        let layers = self.layers.iter().map(|planes| {
            let keys = planes.keys.iter().map(|keys| keys.fork(stream));
            Ok(Planes {
                keys: keys.collect::<Result<_, CudaError>>()?,
                values: planes.values.fork(stream)?,
            })
        });
        Ok(Self {
            storage: self.storage,
            shape: self.shape,
            dim: self.dim,
            kind: self.kind.clone(),
            kernels: self.kernels.clone(),
            frequencies: stream.clone_dtod(&self.frequencies)?,
            layers: layers.collect::<Result<_, CudaError>>()?,
            capacity: self.capacity,
            kept: self.kept.clone(),
            slots: self.slots.clone(),
            floors: self.floors.clone(),
            planes: self.planes.clone(),
            chunk: self.chunk,
            len: self.len,
        })
    }

    /// Room for `tokens` more, `chunk` of them at once. See [`DeviceCache::reserve`].
    pub(super) fn make_room(
        &mut self,
        device: &Device,
        tokens: usize,
        chunk: usize,
        most: usize,
    ) -> Result<(), CudaError> {
        let wanted = self.len.saturating_add(tokens);
        let capacity = if wanted > self.capacity {
            rounded(wanted.max((2 * self.capacity).min(most)))?
        } else {
            self.capacity
        };
        let chunk = self.chunk.max(chunk);
        let slots: Vec<usize> = self
            .kept
            .iter()
            .map(|&kept| slots(kept, capacity, chunk))
            .collect();
        if capacity != self.capacity || slots != self.slots {
            self.resize(device, capacity, slots)?;
        }
        self.chunk = chunk;
        Ok(())
    }

    fn resize(
        &mut self,
        device: &Device,
        capacity: usize,
        slots: Vec<usize>,
    ) -> Result<(), CudaError> {
        let stream = device.stream();
        let to = |old_slots, new_slots, keys| Move {
            heads: self.shape.kv_heads(),
            dim: self.dim,
            old_slots,
            new_slots,
            keys,
        };
        let layers = self.layers.iter().map(|planes| {
            let keys = planes.keys.iter().enumerate();
            let keys = keys
                .map(|(p, keys)| keys.moved(stream, &to(self.slots[p], slots[p], self.held(p))));
            Ok(Planes {
                keys: keys.collect::<Result<_, CudaError>>()?,
                values: planes
                    .values
                    .moved(stream, &to(self.capacity, capacity, 0..self.len))?,
            })
        });
        self.layers = layers.collect::<Result<_, CudaError>>()?;
        self.capacity = capacity;
        self.slots = slots;
        Ok(())
    }

    /// The keys that a plane holds.
    pub(super) fn held(&self, plane: usize) -> Range<usize> {
        let end = match self.kept[plane] {
            None | Some(Kept::Newest(_)) => self.len,
            Some(Kept::First(_)) => self.len.min(self.slots[plane]),
        };
        self.floors[plane].min(end)..end
    }

    /// Records which keys of the rings are overwritten once those before `end` are stored.
    pub(crate) fn overwrite(&mut self, end: usize) {
        for ((floor, slots), kept) in self.floors.iter_mut().zip(&self.slots).zip(&self.kept) {
            if matches!(kept, Some(Kept::Newest(_))) {
                *floor = (*floor).max(end.saturating_sub(*slots));
            }
        }
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

    /// Components of a row of rotated queries and of results: the head size, padded to one that
    /// has kernels.
    pub fn padded_dim(&self) -> usize {
        self.dim
    }

    /// What its layers have in common: position map, rotary embedding, sliding window.
    pub fn kind(&self) -> &LayerKind {
        &self.kind
    }

    /// The rotary embedding.
    pub fn rope(&self) -> &Rope {
        self.kind.rope()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        let planes = self.layers.iter();
        let rows = planes.flat_map(|p| p.keys.iter().chain([&p.values]));
        rows.map(Rows::bytes).sum()
    }

    /// Bytes that a token takes permanently.
    pub fn token_bytes(&self) -> usize {
        2 * self.layers.len() * self.shape.kv_heads() * self.storage.row_bytes(self.dim)
    }

    /// Bytes of the derived keys, once there is room for `capacity` tokens.
    pub fn ring_bytes(&self, capacity: usize) -> usize {
        let rings = self.kept.iter().skip(1);
        let slots: usize = rings.map(|&kept| slots(kept, capacity, self.chunk)).sum();
        let row = Storage::Halves.row_bytes(self.dim);
        self.layers.len() * self.shape.kv_heads() * slots * row
    }

    /// Counts the tokens of a pass, once all layers have stored them.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Forgets every token from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        let len = self.len;
        self.floors
            .iter_mut()
            .for_each(|floor| *floor = (*floor).min(len));
    }

    /// Whether `tokens` from `start` on can be stored at once.
    ///
    /// # Errors
    /// [`CudaError::Capacity`] or [`CudaError::Chunk`] when not.
    pub fn check(&self, start: usize, tokens: usize) -> Result<(), CudaError> {
        let wanted = start.saturating_add(tokens);
        if wanted > self.capacity {
            let capacity = self.capacity;
            return Err(CudaError::Capacity { wanted, capacity });
        }
        let mut rings = self.kept.iter().zip(&self.slots);
        let wraps = |(kept, slots): (&Option<Kept>, &usize)| {
            matches!(kept, Some(Kept::Newest(_))) && *slots < self.capacity
        };
        if tokens > self.chunk && rings.any(wraps) {
            let chunk = self.chunk;
            return Err(CudaError::Chunk { tokens, chunk });
        }
        Ok(())
    }

    /// Whether the keys that some queries see are there.
    pub(crate) fn check_spans(&self, lowering: &Lowering) -> Result<(), CudaError> {
        let refuse = |region, what| {
            Err(CudaError::Shape(format!(
                "region {region} of the position map {what}"
            )))
        };
        let end = lowering.queries().end;
        for (r, region) in lowering.regions().iter().enumerate() {
            let spans = region.spans();
            if !spans.is_sorted_by_key(|span| span.0) || !spans.is_sorted_by_key(|span| span.1) {
                return refuse(r, "goes back from one query to the next");
            }
            let (plane, slots) = (region.plane(), self.slots[region.plane()]);
            let kept = match self.kept[plane] {
                None => 0..end,
                Some(Kept::Newest(_)) => self.floors[plane].max(end.saturating_sub(slots))..end,
                Some(Kept::First(_)) => self.floors[plane]..slots,
            };
            let is_missing =
                |&(low, high): &(usize, usize)| low < high && (low < kept.start || high > kept.end);
            if spans.iter().any(is_missing) {
                return refuse(r, "reaches beyond the keys that are kept for it");
            }
        }
        Ok(())
    }

    /// Whether a pass can take both: the same storage, heads, embedding and planes of keys.
    pub fn same_kind(&self, other: &Self) -> bool {
        self.storage == other.storage
            && self.shape == other.shape
            && self.rope() == other.rope()
            && self.planes == other.planes
    }

    /// Each rotation of a layer's keys, with the number of slots that it wraps around.
    pub(crate) fn planes(&self, layer: usize) -> impl Iterator<Item = (&Rows<T>, usize)> {
        self.layers[layer]
            .keys
            .iter()
            .zip(self.slots.iter().copied())
    }

    /// A bit for each plane that holds the first keys of all.
    pub(crate) fn anchored(&self) -> i32 {
        let is_first = |kept: &Option<Kept>| matches!(kept, Some(Kept::First(_)));
        let planes = self.kept.iter().enumerate();
        planes.map(|(p, kept)| i32::from(is_first(kept)) << p).sum()
    }

    /// Whether it has a ring, which the most new tokens of a step make larger.
    pub fn has_ring(&self) -> bool {
        let mut kept = self.kept.iter();
        kept.any(|kept| matches!(kept, Some(Kept::Newest(_))))
    }

    /// The keys of each region in a layer, with the number of slots that they wrap around.
    pub(crate) fn regions(&self, layer: usize) -> impl Iterator<Item = (&Rows<T>, usize)> {
        let keys = &self.layers[layer].keys;
        self.planes
            .iter()
            .map(|&plane| (&keys[plane], self.slots[plane]))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn interleaved(&self) -> bool {
        self.rope().spec().layout == PairLayout::Interleaved
    }
}

/// A number of tokens in whole tiles.
fn rounded(capacity: usize) -> Result<usize, CudaError> {
    let rounded = capacity.max(1).checked_next_multiple_of(SLOTS);
    rounded
        .filter(|&capacity| i32::try_from(capacity).is_ok())
        .ok_or_else(|| {
            CudaError::Shape(format!(
                "{capacity} tokens are more than a device cache can count"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_end_with_what_their_context_says() {
        for (kept, full) in [(Kept::Newest(300), 384), (Kept::First(10), 128)] {
            for context in [1_usize, 127, 128, 300, 385, 5000] {
                let some = slots(Some(kept), context.next_multiple_of(SLOTS), 50);
                assert_eq!(slots(Some(kept), context, 50), some, "{kept:?} {context}");
                assert!(some <= full && (context < full || some == full));
            }
        }
    }
}

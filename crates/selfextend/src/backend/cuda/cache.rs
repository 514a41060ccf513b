//! Keys and values of one sequence on a GPU: a device cache for each kind of layer.

use super::half::Half;
use crate::backend::block::{Block, DeviceBlock, Held};
use crate::backend::cache::foreign_block;
use crate::backend::{Cache, CacheLayout};
use crate::error::{Error, Result};
use selfextend_attention::{KvType, QueryScaling};
use selfextend_cuda::{CudaError, Device, DeviceCache, KvBlock, Room, Storage};
use std::any::Any;
use std::sync::Arc;

/// Keys and values of one sequence, in 16-bit floats or bytes. It shares no memory with others, and keeps
/// what a sliding window or a method that forgets no longer sees. Capacity is what was reserved, and
/// grows by doubling where that is not enough.
pub struct CudaCache<T> {
    device: Device,
    pub(super) kinds: Vec<DeviceCache<T>>,
    /// Of each layer, its kind and its number among the layers of that kind.
    pub(super) layers: Vec<(usize, usize)>,
    pub(super) scaling: QueryScaling,
    context: usize,
    /// Most tokens that attend together where there is a ring of window keys, which holds the
    /// window and as many: a ring for whole chunks of 2048 would take 6% of a cache of 32k tokens.
    pub(super) wave: usize,
    len: usize,
}

impl<T: Half> CudaCache<T> {
    /// An empty one.
    ///
    /// # Errors
    /// Storage in float32, heads without kernels, or too little memory.
    pub(super) fn new(device: &Device, layout: CacheLayout) -> Result<Self> {
        let CacheLayout {
            shape,
            kinds,
            layers,
            options,
        } = layout;
        let context = options.extension.context();
        let storage = match options.kv_type {
            KvType::F16 => Storage::Halves,
            KvType::Q8_0 => Storage::Bytes,
            KvType::Q4 => {
                return Err(Error::Device(
                    "a CUDA device has no kernels for keys and values in four bits (q4); f16 and q8_0 work, and q4 on the CPU".into(),
                ));
            }
            KvType::F32 => {
                return Err(Error::Device(
                    "a CUDA device keeps keys and values in at most 16 bits, not as f32; f16 and q8_0 work, and f32 on the CPU".into(),
                ));
            }
        };
        let mut counts = vec![0; kinds.len()];
        let place = |&kind: &usize| {
            counts[kind] += 1;
            (kind, counts[kind] - 1)
        };
        let layers = layers.iter().map(place).collect();
        let wave = device.wave(shape.heads());
        let kinds = kinds.iter().zip(counts).map(|(kind, count)| {
            let chunk = options.chunk.min(context).min(wave);
            let room = Room::new(count, 1).with_storage(storage).with_chunk(chunk);
            DeviceCache::new(device, shape, kind.clone(), room)
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            device: device.clone(),
            layers,
            scaling: options.extension.query_scaling(),
            context,
            wave,
            len: 0,
        })
    }

    fn in_block(&self, kinds: Vec<KvBlock>) -> Block {
        let device = self.device.clone();
        Block::on_device(Arc::new(CudaBlock { device, kinds }))
    }

    /// Prepares for a pass.
    pub(super) fn prepare(&mut self, tokens: usize) -> Result<()> {
        for kind in &mut self.kinds {
            kind.reserve(&self.device, tokens, tokens.min(self.wave), self.context)?;
        }
        Ok(())
    }
}

/// Memory is freed through the device of the thread that drops it.
impl<T> Drop for CudaCache<T> {
    fn drop(&mut self) {
        let _ = self.device.bind();
    }
}

/// Keys and values of up to a page of tokens, a block for each kind of layer.
#[derive(Debug)]
struct CudaBlock {
    device: Device,
    kinds: Vec<KvBlock>,
}

impl DeviceBlock for CudaBlock {
    fn bytes(&self) -> usize {
        self.kinds.iter().map(KvBlock::bytes).sum()
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let kinds = self.kinds.iter().map(KvBlock::to_bytes);
        Ok(kinds.collect::<Result<Vec<_>, CudaError>>()?.concat())
    }
}

/// As above.
impl Drop for CudaBlock {
    fn drop(&mut self) {
        let _ = self.device.bind();
    }
}

impl<T: Half> Cache for CudaCache<T> {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> usize {
        self.kinds.iter().map(DeviceCache::bytes).sum()
    }

    fn commit(&mut self, tokens: usize) {
        self.len += tokens;
        self.kinds.iter_mut().for_each(|kind| kind.commit(tokens));
    }

    fn truncate(&mut self, len: usize) -> usize {
        self.len = len.min(self.len);
        for kind in &mut self.kinds {
            kind.truncate(self.len);
        }
        self.len
    }

    fn reserve(&mut self, tokens: usize) -> Result<()> {
        let more = tokens.min(self.context).saturating_sub(self.len);
        self.device.bind()?;
        for kind in &mut self.kinds {
            // No more than asked for, and rings for chunks of the usual size.
            kind.reserve(&self.device, more, 0, 0)?;
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn Cache>> {
        let kinds = self.kinds.iter().map(|kind| kind.fork(&self.device));
        Ok(Box::new(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            device: self.device.clone(),
            layers: self.layers.clone(),
            ..*self
        }))
    }

    fn shares_blocks(&self) -> bool {
        false
    }

    fn block(&self, number: usize) -> Option<Block> {
        self.device.bind().ok()?;
        let kinds = self.kinds.iter();
        let copies = kinds.map(|kind| kind.block(&self.device, number));
        let copies = copies.collect::<Result<Option<_>, _>>().ok()??;
        Some(self.in_block(copies))
    }

    fn push_block(&mut self, block: &Block, tokens: usize) -> Result<()> {
        let Block(Held::Device(block)) = block else {
            return Err(foreign_block());
        };
        let block: &dyn Any = &**block;
        let block = block.downcast_ref::<CudaBlock>();
        let fits = |block: &&CudaBlock| {
            block.device.is_same(&self.device) && block.kinds.len() == self.kinds.len()
        };
        let block = block.filter(fits);
        let CudaBlock { kinds, .. } = block.ok_or_else(foreign_block)?;
        self.device.bind()?;
        let mut both = self.kinds.iter_mut().zip(kinds);
        let pushed = both.try_for_each(|(kind, block)| {
            kind.push_block(&self.device, block, tokens, self.context)
        });
        match pushed {
            Ok(()) => self.len += tokens,
            // Some kinds may have stored what others have not.
            Err(_) => drop(self.truncate(self.len)),
        }
        Ok(pushed?)
    }

    fn read_block(&self, mut bytes: &[u8]) -> Result<Option<Block>> {
        if bytes.len() != self.block_bytes() {
            return Ok(None);
        }
        self.device.bind()?;
        let kinds = self.kinds.iter().map(|kind| {
            let (its, rest) = bytes.split_at(kind.block_bytes());
            bytes = rest;
            kind.read_block(&self.device, its)
        });
        let kinds = kinds.collect::<Result<Option<_>, CudaError>>()?;
        Ok(kinds.map(|kinds| self.in_block(kinds)))
    }

    fn block_bytes(&self) -> usize {
        self.kinds.iter().map(DeviceCache::block_bytes).sum()
    }

    fn ring_bytes(&self) -> usize {
        let kinds = self.kinds.iter();
        kinds.map(|kind| kind.ring_bytes(self.context)).sum()
    }
}

//! Copies of a page's tokens, for other sequences that start with the same text.

use super::device_cache::DeviceCache;
use crate::device::{Device, Launch};
use crate::element::Element;
use crate::error::CudaError;
use crate::launch::{CopyArgs, Grid};
use crate::memory::address;
use cudarc::driver::CudaSlice;
use selfextend_attention::cache::PAGE;

/// What a thread copies at once.
const UNIT: usize = 16;
const THREADS: u32 = 256;

/// Keys of the first plane, and values, of up to [`PAGE`] tokens in all layers of a
/// [`DeviceCache`], in memory of its own.
///
/// Layer after layer, it has rows of keys and of values, `[kv_heads][PAGE][dim]`, and then the
/// scales of both where they are bytes.
#[derive(Debug)]
pub struct KvBlock(CudaSlice<u8>);

impl KvBlock {
    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.0.num_bytes()
    }

    /// Its bytes: for [`DeviceCache::read_block`].
    ///
    /// # Errors
    /// The driver's.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CudaError> {
        Ok(self.0.stream().clone_dtoh(&self.0)?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBlock,
    ToCache,
}

impl<T: Element> DeviceCache<T> {
    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        PAGE * self.token_bytes()
    }

    /// A copy of the tokens `number * PAGE..`, as far as they are stored; `None` where none is.
    ///
    /// # Errors
    /// The driver's: mostly too little memory.
    pub fn block(&self, device: &Device, number: usize) -> Result<Option<KvBlock>, CudaError> {
        let first = number * PAGE;
        if first >= self.len {
            return Ok(None);
        }
        let block = KvBlock(device.stream().alloc_zeros(self.block_bytes())?);
        let tokens = PAGE.min(self.len - first);
        self.copy(device, &block, first, tokens, Direction::ToBlock)?;
        Ok(Some(block))
    }

    /// Continues with the first `tokens` tokens of a block of another cache with the same map, shape
    /// and storage, whose text is the same up to there. Room grows as by
    /// [`DeviceCache::reserve`], which also derives what blocks do not hold.
    ///
    /// # Errors
    /// A cache that does not end at the start of a page, a block of another size, or the driver's:
    /// mostly too little memory.
    pub fn push_block(
        &mut self,
        device: &Device,
        block: &KvBlock,
        tokens: usize,
        most: usize,
    ) -> Result<(), CudaError> {
        let fits = self.len.is_multiple_of(PAGE) && tokens <= PAGE;
        if !fits || block.bytes() != self.block_bytes() {
            return Err(CudaError::Shape(format!(
                "a block of {} bytes, {tokens} tokens of it, cannot follow {} tokens in blocks of {}",
                block.bytes(),
                self.len,
                self.block_bytes()
            )));
        }
        device.settle()?;
        self.make_room(device, tokens, 0, most)?;
        self.copy(device, block, self.len, tokens, Direction::ToCache)?;
        self.len += tokens;
        let len = self.len;
        self.floors[1..].fill(len);
        Ok(())
    }

    /// A block from what [`KvBlock::to_bytes`] gave for one of a cache of this shape and storage; `None`
    /// when the length does not fit.
    ///
    /// # Errors
    /// The driver's: mostly too little memory.
    pub fn read_block(&self, device: &Device, bytes: &[u8]) -> Result<Option<KvBlock>, CudaError> {
        if bytes.len() != self.block_bytes() {
            return Ok(None);
        }
        Ok(Some(KvBlock(device.stream().clone_htod(bytes)?)))
    }

    /// Copies the rows of some tokens, from slot `first` on, rounded up to whole units.
    fn copy(
        &self,
        device: &Device,
        block: &KvBlock,
        first: usize,
        tokens: usize,
        direction: Direction,
    ) -> Result<(), CudaError> {
        let heads = self.shape.kv_heads();
        // Bytes of a row of numbers, and of its scales.
        let row = self.storage.row_parts(self.dim);
        let tokens = tokens.next_multiple_of(UNIT);
        let units = |rows: usize| row.map(|bytes| (rows * bytes / UNIT) as i32);
        let parts = row.map(|bytes| heads * PAGE * bytes);
        let mut theirs = address(device, &block.0);
        for planes in &self.layers {
            let (keys, key_scales) = planes.keys[0].addresses(device);
            let (values, value_scales) = planes.values.addresses(device);
            let mine = [keys, values, key_scales, value_scales];
            let mut args = CopyArgs {
                count: units(tokens),
                from_pitch: units(self.capacity),
                to_pitch: units(PAGE),
                ..CopyArgs::default()
            };
            for (what, mine) in mine.into_iter().enumerate() {
                args.from[what] = mine + (first * row[what / 2]) as u64;
                args.to[what] = theirs;
                theirs += parts[what / 2] as u64;
            }
            if direction == Direction::ToCache {
                std::mem::swap(&mut args.from, &mut args.to);
                std::mem::swap(&mut args.from_pitch, &mut args.to_pitch);
            }
            Launch {
                device,
                kernel: &self.kernels.copy,
                grid: Grid {
                    blocks: (
                        (args.count[0] as u32).div_ceil(THREADS),
                        heads as u32,
                        if row[1] == 0 { 2 } else { 4 },
                    ),
                    threads: (THREADS, 1, 1),
                    shared: 0,
                },
            }
            .run_now(&args)?;
        }
        Ok(())
    }
}

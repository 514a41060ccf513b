//! Panels of a file's own blocks, for formats that would grow as [`super::Integers`].
//!
//! Their codes are indices of lattices and signs, or digits of base 3: what they stand for is looked
//! up number by number. So a panel keeps the blocks of its 16 rows, and they become integers for a
//! tile of columns at a time, for few rows of activations as for many.

use crate::simd::vector::WIDTH;
use std::fmt::Debug;

/// Columns of the longest block.
const MOST: usize = 256;
/// Columns that share a scale, at least.
const LEAST: usize = 16;

/// A format of blocks, and what reads them.
pub trait BlockReader: Debug + Send + Sync {
    /// Columns of a block: 64, 128 or 256.
    fn columns(&self) -> usize;
    /// Bytes of a block.
    fn bytes(&self) -> usize;
    /// Columns that share a scale: 16, 32 or 64. `chunk * 16383 * largest integer` stays below 2^31.
    fn chunk(&self) -> usize;
    /// Reads a block: a weight is an integer times the scale of its chunk.
    fn read(&self, block: &[u8], integers: &mut [i16], scales: &mut [f32]);
}

/// A block's numbers.
pub(super) struct Block {
    integers: [i16; MOST],
    scales: [f32; MOST / LEAST],
}

impl Block {
    pub(super) const EMPTY: Self = Self {
        integers: [0; MOST],
        scales: [0.0; MOST / LEAST],
    };

    /// Reads the block of row `lane` of a unit, which is the blocks of 16 rows.
    ///
    /// # Panics
    /// When the unit is too short, or the reader's sizes are not those it may have.
    pub(super) fn read(&mut self, reader: &dyn BlockReader, unit: &[u8], lane: usize) {
        let (columns, bytes) = (reader.columns(), reader.bytes());
        let scales = columns / reader.chunk();
        let block = &unit[lane * bytes..][..bytes];
        reader.read(
            block,
            &mut self.integers[..columns],
            &mut self.scales[..scales],
        );
    }

    /// The weights as floats.
    pub(super) fn weights(&self, reader: &dyn BlockReader, to: &mut [f32]) {
        let chunks = to.chunks_mut(reader.chunk());
        let from = self.integers.chunks(reader.chunk()).zip(&self.scales);
        for (to, (integers, scale)) in chunks.zip(from) {
            for (to, integer) in to.iter_mut().zip(integers) {
                *to = scale * f32::from(*integer);
            }
        }
    }

    /// Writes row `lane` of `[pair of columns][16][2]` integers and of `[chunk][16]` scales.
    pub(super) fn scatter(
        &self,
        reader: &dyn BlockReader,
        lane: usize,
        integers: &mut [i16],
        scales: &mut [f32],
    ) {
        let columns = reader.columns();
        let pairs = self.integers[..columns].as_chunks::<2>().0;
        let to = integers.as_chunks_mut::<2>().0;
        for (to, pair) in to.chunks_exact_mut(WIDTH).zip(pairs) {
            to[lane] = *pair;
        }
        let from = &self.scales[..columns / reader.chunk()];
        for (to, scale) in scales.chunks_exact_mut(WIDTH).zip(from) {
            to[lane] = *scale;
        }
    }
}

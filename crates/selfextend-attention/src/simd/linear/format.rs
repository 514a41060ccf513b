//! How weights are stored.

use super::blocks::{Block, BlockReader};
use super::integers::{Integers, Scales};
use super::tables::{FP4, IQ4};
use crate::simd::vector::WIDTH;
use half::{bf16, f16};

/// Columns that share a scale in most quantised formats, of weights and of the KV cache.
pub const BLOCK: usize = 32;

/// How the weights of a panel are stored. The quantised ones are named after ggml's types, whose
/// integers they hold.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum PanelFormat {
    /// `[column][16]` floats.
    F32,
    /// `[column][16]` half floats.
    F16,
    /// `[column][16]` floats without the lower half of their bits.
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
    MXFP4,
    /// `[block of columns][16]` blocks of a file.
    Blocks(&'static dyn BlockReader),
}

impl PanelFormat {
    /// What its integers are like, if panels hold any.
    pub const fn integers(self) -> Option<Integers> {
        use Scales::{Own, Powers, Shared};
        Some(match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::Blocks(_) => return None,
            Self::Q4_0 => Integers::new(4, BLOCK, Own).centred_on(8),
            Self::Q4_1 => Integers::new(4, BLOCK, Own).with_minimum(),
            Self::Q5_0 => Integers::new(5, BLOCK, Own).centred_on(16),
            Self::Q5_1 => Integers::new(5, BLOCK, Own).with_minimum(),
            Self::Q8_0 => Integers::new(8, BLOCK, Own).centred_on(128),
            Self::Q2K => Integers::new(2, 16, Shared).with_minimum(),
            // Three bits are stored in four.
            Self::Q3K => Integers::new(4, 16, Shared).centred_on(4),
            Self::Q4K => Integers::new(4, BLOCK, Shared).with_minimum(),
            Self::Q5K => Integers::new(5, BLOCK, Shared).with_minimum(),
            Self::Q6K => Integers::new(6, 16, Shared).centred_on(32),
            Self::IQ4NL => Integers::new(4, BLOCK, Own).through(&IQ4),
            Self::IQ4XS => Integers::new(4, BLOCK, Shared).through(&IQ4),
            Self::MXFP4 => Integers::new(4, BLOCK, Powers).through(&FP4),
        })
    }

    /// Whether it is multiplied by rounded activations, not by floats.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Columns in its unit of storage.
    pub fn unit(self) -> usize {
        match self {
            Self::Blocks(reader) => reader.columns(),
            _ => self.integers().map_or(1, |integers| integers.unit()),
        }
    }

    /// Bytes of a unit of storage: 16 rows of [`PanelFormat::unit`] columns.
    pub fn unit_bytes(self) -> usize {
        match self {
            Self::F32 => WIDTH * size_of::<f32>(),
            Self::F16 | Self::BF16 => WIDTH * size_of::<f16>(),
            Self::Blocks(reader) => WIDTH * reader.bytes(),
            _ => self.integers().map_or(0, |integers| integers.unit_bytes()),
        }
    }

    /// Bytes of a panel of `columns` columns.
    ///
    /// # Panics
    /// When `columns` is not a multiple of the unit.
    pub fn panel_bytes(self, columns: usize) -> usize {
        assert!(columns.is_multiple_of(self.unit()));
        columns / self.unit() * self.unit_bytes()
    }

    /// Writes the weights of row `lane` of a unit of storage.
    ///
    /// # Panics
    /// When the unit is too short.
    pub fn weights(self, unit: &[u8], lane: usize, to: &mut [f32]) {
        let two = || [unit[2 * lane], unit[2 * lane + 1]];
        let number = |column| match self {
            Self::F32 => f32::from_le_bytes(unit.as_chunks().0[lane]),
            Self::F16 => f16::from_le_bytes(two()).to_f32(),
            Self::BF16 => bf16::from_le_bytes(two()).to_f32(),
            _ => self
                .integers()
                .map_or(0.0, |integers| integers.weight(unit, lane, column)),
        };
        if let Self::Blocks(reader) = self {
            let mut block = Block::EMPTY;
            block.read(reader, unit, lane);
            block.weights(reader, to);
        } else {
            for (column, to) in to.iter_mut().enumerate() {
                *to = number(column);
            }
        }
    }
}

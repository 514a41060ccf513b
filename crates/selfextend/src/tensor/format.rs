//! The formats of tensors.

use std::fmt;

/// How a tensor's numbers are stored. A row is a whole number of blocks.
///
/// The block formats are ggml's; `ggml-common.h` of llama.cpp defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorFormat {
    /// 32-bit floats.
    F32,
    /// Half floats.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// 32 codes of 4 bits and a scale.
    Q4_0,
    /// 32 codes of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 codes of 5 bits and a scale.
    Q5_0,
    /// 32 codes of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 codes of 8 bits and a scale.
    Q8_0,
    /// 256 codes of 2 bits; 16 scales and minima of 4 bits.
    Q2K,
    /// 256 codes of 3 bits; 16 scales of 6 bits.
    Q3K,
    /// 256 codes of 4 bits; 8 scales and minima of 6 bits.
    Q4K,
    /// 256 codes of 5 bits; 8 scales and minima of 6 bits.
    Q5K,
    /// 256 codes of 6 bits; 16 scales of 8 bits.
    Q6K,
    /// 32 codes of 4 bits, of values that lie unevenly, and a scale.
    IQ4NL,
    /// 256 such codes; 8 scales of 6 bits.
    IQ4XS,
    /// 32 floats of 4 bits and a power of two.
    MXFP4,
    /// 64 floats of 4 bits; 4 scales that are floats of 8 bits.
    NVFP4,
    /// 256 times -1, 0 or 1 as digits of base 3, and a scale.
    TQ1_0,
    /// 256 times -1, 0 or 1 in 2 bits, and a scale.
    TQ2_0,
    /// 256 numbers as 64 of 512 points of a lattice, with signs; 8 scales of 4 bits.
    IQ3S,
    /// 256 numbers as 64 of 256 points of a lattice, with signs; 8 scales of 4 bits.
    IQ3XXS,
    /// 256 numbers as 32 of 1024 points of a lattice, with signs; 16 scales of 4 bits.
    IQ2S,
    /// 256 numbers as 32 of 512 points of a lattice, with signs; 16 scales of 4 bits.
    IQ2XS,
    /// 256 numbers as 32 of 256 points of a lattice, with signs; 8 scales of 4 bits.
    IQ2XXS,
    /// 256 numbers as 32 of 2048 points of a lattice; 8 scales of 3 bits.
    IQ1S,
    /// 256 numbers as 32 of 2048 points of a lattice; 16 scales of 3 bits.
    IQ1M,
}

impl TensorFormat {
    /// Every format.
    pub const ALL: [Self; 26] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
        Self::NVFP4,
        Self::TQ1_0,
        Self::TQ2_0,
        Self::IQ3S,
        Self::IQ3XXS,
        Self::IQ2S,
        Self::IQ2XS,
        Self::IQ2XXS,
        Self::IQ1S,
        Self::IQ1M,
    ];

    /// Its name in ggml, as files and `gguf` write it.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Numbers in a block; 1 where each number stands alone.
    pub fn block_len(self) -> usize {
        self.facts().1
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.facts().2
    }

    /// Bytes that so many numbers take; `None` when they are not whole blocks.
    pub fn bytes(self, numbers: usize) -> Option<usize> {
        let blocks = numbers.is_multiple_of(self.block_len());
        blocks
            .then(|| (numbers / self.block_len()).checked_mul(self.block_bytes()))
            .flatten()
    }

    /// Name, numbers and bytes of a block: `GGML_QUANT_SIZES` of gguf-py's `constants.py`.
    fn facts(self) -> (&'static str, usize, usize) {
        match self {
            Self::F32 => ("F32", 1, 4),
            Self::F16 => ("F16", 1, 2),
            Self::BF16 => ("BF16", 1, 2),
            Self::Q4_0 => ("Q4_0", 32, 2 + 16),
            Self::Q4_1 => ("Q4_1", 32, 2 + 2 + 16),
            Self::Q5_0 => ("Q5_0", 32, 2 + 4 + 16),
            Self::Q5_1 => ("Q5_1", 32, 2 + 2 + 4 + 16),
            Self::Q8_0 => ("Q8_0", 32, 2 + 32),
            Self::Q2K => ("Q2_K", 256, 16 + 64 + 2 + 2),
            Self::Q3K => ("Q3_K", 256, 32 + 64 + 12 + 2),
            Self::Q4K => ("Q4_K", 256, 2 + 2 + 12 + 128),
            Self::Q5K => ("Q5_K", 256, 2 + 2 + 12 + 32 + 128),
            Self::Q6K => ("Q6_K", 256, 128 + 64 + 16 + 2),
            Self::IQ4NL => ("IQ4_NL", 32, 2 + 16),
            Self::IQ4XS => ("IQ4_XS", 256, 2 + 2 + 4 + 128),
            Self::MXFP4 => ("MXFP4", 32, 1 + 16),
            Self::NVFP4 => ("NVFP4", 64, 4 + 32),
            Self::TQ1_0 => ("TQ1_0", 256, 48 + 4 + 2),
            Self::TQ2_0 => ("TQ2_0", 256, 64 + 2),
            Self::IQ3S => ("IQ3_S", 256, 2 + 64 + 8 + 32 + 4),
            Self::IQ3XXS => ("IQ3_XXS", 256, 2 + 64 + 32),
            Self::IQ2S => ("IQ2_S", 256, 2 + 32 + 32 + 8 + 8),
            Self::IQ2XS => ("IQ2_XS", 256, 2 + 64 + 8),
            Self::IQ2XXS => ("IQ2_XXS", 256, 2 + 64),
            Self::IQ1S => ("IQ1_S", 256, 2 + 32 + 16),
            Self::IQ1M => ("IQ1_M", 256, 32 + 16 + 8),
        }
    }
}

impl fmt::Display for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

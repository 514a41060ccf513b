//! How weights of each format are kept on a device.

use crate::tensor::TensorFormat;
use selfextend_cuda::{BlockFormat, Format};

/// How a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// In blocks that kernels multiply.
    Packed(Format),
    /// In the blocks of its file, which are unpacked to 16 bits where they are multiplied.
    Blocks(BlockFormat),
    /// In 16-bit floats.
    Narrow,
}

impl Kept {
    /// For a format.
    pub(super) fn of(format: TensorFormat) -> Self {
        use TensorFormat::*;
        match format {
            F32 | F16 | BF16 => Self::Narrow,
            Q4_0 => Self::Packed(Format::Q4_0),
            Q4_1 => Self::Packed(Format::Q4_1),
            Q5_0 => Self::Packed(Format::Q5_0),
            Q5_1 => Self::Packed(Format::Q5_1),
            Q8_0 => Self::Packed(Format::Q8_0),
            Q2K => Self::Packed(Format::Q2K),
            Q3K => Self::Packed(Format::Q3K),
            Q4K => Self::Packed(Format::Q4K),
            Q5K => Self::Packed(Format::Q5K),
            Q6K => Self::Packed(Format::Q6K),
            IQ4NL => Self::Packed(Format::IQ4NL),
            IQ4XS => Self::Packed(Format::IQ4XS),
            MXFP4 => Self::Packed(Format::MXFP4),
            IQ2XXS => Self::Blocks(BlockFormat::IQ2XXS),
            IQ2XS => Self::Blocks(BlockFormat::IQ2XS),
            IQ2S => Self::Blocks(BlockFormat::IQ2S),
            IQ3XXS => Self::Blocks(BlockFormat::IQ3XXS),
            IQ3S => Self::Blocks(BlockFormat::IQ3S),
            IQ1S => Self::Blocks(BlockFormat::IQ1S),
            IQ1M => Self::Blocks(BlockFormat::IQ1M),
            TQ1_0 => Self::Blocks(BlockFormat::TQ1_0),
            TQ2_0 => Self::Blocks(BlockFormat::TQ2_0),
            NVFP4 => Self::Blocks(BlockFormat::NVFP4),
        }
    }
}

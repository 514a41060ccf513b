//! The 16-bit floats of a device's weights.

use crate::tensor::TensorFormat;
use selfextend_cuda::Element;

/// A 16-bit float that weights are kept in, or unpacked to.
pub trait Half: Element {
    /// Its format in files.
    const FORMAT: TensorFormat;
    /// Rounds.
    fn narrow(x: f32) -> Self;
    /// From a file's bytes.
    fn read(bytes: [u8; 2]) -> Self;
}

impl Half for ::half::f16 {
    const FORMAT: TensorFormat = TensorFormat::F16;
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn read(bytes: [u8; 2]) -> Self {
        Self::from_le_bytes(bytes)
    }
}

impl Half for ::half::bf16 {
    const FORMAT: TensorFormat = TensorFormat::BF16;
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn read(bytes: [u8; 2]) -> Self {
        Self::from_le_bytes(bytes)
    }
}

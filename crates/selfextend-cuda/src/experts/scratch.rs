//! Buffers of sparse layers.

use crate::memory::Buffer;

/// Buffers that sparse layers keep from call to call. A pair is a token with one of its experts; a place
/// is a pair in the order of the experts.
#[derive(Debug)]
pub struct ExpertScratch<T> {
    pub(super) chosen: Buffer<u32>,
    pub(super) weights: Buffer<f32>,
    /// What experts have between their matrices.
    pub(super) inner: Buffer<f32>,
    pub(super) places: Buffer<u32>,
    pub(super) pairs: Buffer<u32>,
    pub(super) tiles: Buffer<u32>,
    pub(super) narrow: Buffer<T>,
    pub(super) narrow_inner: Buffer<T>,
    pub(super) outputs: Buffer<f32>,
}

impl<T> Default for ExpertScratch<T> {
    fn default() -> Self {
        Self {
            chosen: Buffer::default(),
            weights: Buffer::default(),
            inner: Buffer::default(),
            places: Buffer::default(),
            pairs: Buffer::default(),
            tiles: Buffer::default(),
            narrow: Buffer::default(),
            narrow_inner: Buffer::default(),
            outputs: Buffer::default(),
        }
    }
}

#[cfg(test)]
impl<T> ExpertScratch<T> {
    /// Which experts were chosen last, and their weights.
    pub(crate) fn chosen(
        &self,
        device: &crate::device::Device,
    ) -> Result<(Vec<u32>, Vec<f32>), crate::error::CudaError> {
        Ok((self.chosen.read(device)?, self.weights.read(device)?))
    }
}

//! Storage types of keys and values.

use super::stored::PAGE;
use crate::shape::AttentionShape;
use crate::simd::kernels::EIGHT;
use crate::simd::linear::BLOCK;
use half::f16;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 4 bytes per component; the reference.
    F32,
    /// 2 bytes per component.
    #[default]
    F16,
    /// Bytes with a half-float scale for each 32 components (ggml's q8_0).
    Q8_0,
    /// Four bits with a half-float scale for each 32 components, of heads that a Hadamard transform
    /// has spread out; of keys, what differs from the mean of 256 tokens before.
    Q4,
}

impl KvType {
    /// Bytes of a page of one layer.
    pub(super) fn page_bytes(self, shape: AttentionShape) -> usize {
        let (keys, values) = (shape.head_dim(), shape.padded_dim());
        let blocks = |components: usize| components.div_ceil(BLOCK);
        let token = match self {
            Self::F32 => (keys + values) * size_of::<f32>(),
            Self::F16 => (keys + values) * size_of::<f16>(),
            Self::Q8_0 => keys.next_multiple_of(2) + values + 2 * blocks(keys) * size_of::<f16>(),
            Self::Q4 => {
                let codes = keys.next_multiple_of(EIGHT) + values;
                codes / 2 + 2 * blocks(keys) * size_of::<f16>()
            }
        };
        let offset = if self.is_transformed() {
            keys * size_of::<f32>()
        } else {
            0
        };
        shape.kv_heads() * (PAGE * token + offset)
    }

    /// Whether decode multiplies the stored integers by rounded queries.
    pub(crate) fn is_quantized(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4)
    }

    /// Whether pages hold Hadamard transforms of keys and values: queries of stored keys are
    /// transformed too, and so are weighted sums of values, which undoes it.
    pub(crate) fn is_transformed(self) -> bool {
        self == Self::Q4
    }
}

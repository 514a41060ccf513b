//! How a cache stores keys and values: as 16-bit floats, or as bytes with scales.

use half::f16;

/// Components that share a scale (as in `common.cuh`).
pub(crate) const BLOCK: usize = 32;

/// How a cache stores values and the first plane of keys. The keys of derived regions are always
/// 16-bit floats: rounding them to bytes again would add an error to the neighbours, which matter
/// most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 16-bit floats.
    Halves,
    /// Bytes with a half-float scale for each 32 components (ggml's q8_0).
    Bytes,
}

impl Storage {
    /// Bytes of a row of `dim` components: of its numbers, and of their scales.
    pub(crate) fn row_parts(self, dim: usize) -> [usize; 2] {
        match self {
            Self::Halves => [2 * dim, 0],
            Self::Bytes => [dim, dim / BLOCK * size_of::<f16>()],
        }
    }

    /// Bytes of a row of `dim` components.
    pub(crate) fn row_bytes(self, dim: usize) -> usize {
        self.row_parts(dim).iter().sum()
    }
}

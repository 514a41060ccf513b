//! Rows of keys or values in device memory.

use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::memory::address;
use crate::storage::{BLOCK, Storage};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, ValidAsZeroBits};
use half::f16;
use std::ops::Range;
use std::sync::Arc;

/// Rows of some heads, `[heads][slots][dim]`.
#[derive(Debug)]
pub(crate) enum Rows<T> {
    Halves(CudaSlice<T>),
    /// Scales are `[heads][slots][dim / 32]`.
    Bytes {
        bytes: CudaSlice<i8>,
        scales: CudaSlice<f16>,
    },
}

/// A change of the number of slots.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub heads: usize,
    pub dim: usize,
    pub old_slots: usize,
    pub new_slots: usize,
    /// The keys that are kept; each is in the slot of its number modulo the number of slots.
    pub keys: Range<usize>,
}

impl<T: Element> Rows<T> {
    /// `count` rows of zeros.
    pub(crate) fn new(
        stream: &Arc<CudaStream>,
        storage: Storage,
        count: usize,
        dim: usize,
    ) -> Result<Self, CudaError> {
        Ok(match storage {
            Storage::Halves => Self::Halves(stream.alloc_zeros(count * dim)?),
            Storage::Bytes => Self::Bytes {
                bytes: stream.alloc_zeros(count * dim)?,
                scales: stream.alloc_zeros(count * dim / BLOCK)?,
            },
        })
    }

    /// A copy.
    pub(crate) fn fork(&self, stream: &Arc<CudaStream>) -> Result<Self, CudaError> {
        Ok(match self {
            Self::Halves(rows) => Self::Halves(stream.clone_dtod(rows)?),
            Self::Bytes { bytes, scales } => Self::Bytes {
                bytes: stream.clone_dtod(bytes)?,
                scales: stream.clone_dtod(scales)?,
            },
        })
    }

    /// A copy with another number of slots.
    pub(crate) fn moved(&self, stream: &Arc<CudaStream>, to: &Move) -> Result<Self, CudaError> {
        Ok(match self {
            Self::Halves(rows) => Self::Halves(moved(stream, rows, to, to.dim)?),
            Self::Bytes { bytes, scales } => Self::Bytes {
                bytes: moved(stream, bytes, to, to.dim)?,
                scales: moved(stream, scales, to, to.dim / BLOCK)?,
            },
        })
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Halves(rows) => rows.num_bytes(),
            Self::Bytes { bytes, scales } => bytes.num_bytes() + scales.num_bytes(),
        }
    }

    /// Where the numbers start, and their scales; null where they have none.
    pub(crate) fn addresses(&self, device: &Device) -> (CUdeviceptr, CUdeviceptr) {
        match self {
            Self::Halves(rows) => (address(device, rows), 0),
            Self::Bytes { bytes, scales } => (address(device, bytes), address(device, scales)),
        }
    }
}

fn moved<N: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    from: &CudaSlice<N>,
    to: &Move,
    width: usize,
) -> Result<CudaSlice<N>, CudaError> {
    let (old, new) = (to.old_slots, to.new_slots);
    let mut out = stream.alloc_zeros(new * to.heads * width)?;
    for head in 0..to.heads {
        let mut key = to.keys.start;
        while key < to.keys.end {
            let (a, b) = (key % old, key % new);
            let run = (old - a).min(new - b).min(to.keys.end - key);
            let rows = |slots: usize, first: usize| {
                (head * slots + first) * width..(head * slots + first + run) * width
            };
            stream.memcpy_dtod(&from.slice(rows(old, a)), &mut out.slice_mut(rows(new, b)))?;
            key += run;
        }
    }
    Ok(out)
}

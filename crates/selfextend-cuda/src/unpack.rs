//! Bytes of a layer as 16-bit floats, for the prefill kernels, which read nothing else.

use crate::cache::{DeviceCache, SLOTS};
use crate::device::{Device, Launch};
use crate::element::Element;
use crate::error::CudaError;
use crate::launch::{Grid, UnpackArgs};
use crate::memory::{address, grow};
use crate::plan::SegmentPlan;
use cudarc::driver::CudaSlice;
use cudarc::driver::sys::CUdeviceptr;

const THREADS: u32 = 256;

/// Keys and values, `[kv_heads][slots][dim]`, in the order of their positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpacked {
    pub keys: CUdeviceptr,
    pub values: CUdeviceptr,
    pub slots: usize,
}

/// Unpacks what a segment's tokens see of a layer that is stored as bytes; `None` for other storage.
/// The kernels may read all of each tile that holds a key they see, so such tiles are filled whole.
pub(crate) fn unpack<T: Element>(
    device: &Device,
    layer: usize,
    (cache, segment): (&DeviceCache<T>, &SegmentPlan),
    to: &mut Option<CudaSlice<T>>,
) -> Result<Option<Unpacked>, CudaError> {
    let planes = &cache.layers[layer];
    let (keys, key_scales) = planes.keys[0].addresses(device);
    let (values, value_scales) = planes.values.addresses(device);
    if key_scales == 0 {
        return Ok(None);
    }
    let (heads, dim) = (cache.shape().kv_heads(), cache.padded_dim());
    let stored = segment.start + segment.tokens;
    let slots = stored.next_multiple_of(SLOTS);
    let len = |slots: usize| 2 * heads * slots * dim;
    // By doubling, but never beyond the cache's capacity.
    let doubled = 2 * to.as_ref().map_or(0, CudaSlice::len);
    let wanted = match to {
        Some(to) if to.len() >= len(slots) => to.len(),
        _ => len(slots).max(doubled.min(len(cache.capacity()))),
    };
    grow(device, to, wanted)?;
    let out = to.as_ref().map_or(0, |to| address(device, to));
    let seen = segment.extents.iter().filter(|(from, end)| from < end);
    let first = seen.map(|(from, _)| *from as usize).min().unwrap_or(0) / SLOTS * SLOTS;
    let pieces = (slots - first) * dim / 16;
    Launch {
        device,
        kernel: &cache.kernels.unpack,
        grid: Grid {
            blocks: ((pieces as u32).div_ceil(THREADS), heads as u32, 2),
            threads: (THREADS, 1, 1),
            shared: 0,
        },
    }
    .run(&UnpackArgs {
        bytes: [keys, values],
        scales: [key_scales, value_scales],
        out,
        dim: dim as i32,
        capacity: cache.capacity() as i32,
        slots: slots as i32,
        first: first as i32,
        stored: stored as i32,
        unused: 0,
    })?;
    Ok(Some(Unpacked {
        keys: out,
        values: out + (len(slots) / 2 * size_of::<T>()) as u64,
        slots,
    }))
}

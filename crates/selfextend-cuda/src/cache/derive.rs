//! Keys of derived planes, made again from the stored ones: after truncating to where a ring has
//! overwritten them, and in a sequence that continues from blocks, which hold stored keys only.

use super::DeviceCache;
use crate::attention::address;
use crate::device::{Device, Element};
use crate::error::CudaError;
use crate::launch::{DeriveArgs, Launch};
use std::ops::Range;

impl<T: Element> DeviceCache<T> {
    /// Derives what the next query sees of each plane and the plane does not hold. Later queries see
    /// no earlier keys.
    pub(super) fn derive(&mut self, device: &Device) -> Result<(), CudaError> {
        for region in 0..self.planes.len() {
            let plane = self.planes[region];
            let missing = self.map.span(region, self.len).start..self.held(plane).start;
            if plane > 0 && !missing.is_empty() {
                self.derive_keys(device, region, missing.clone())?;
                self.floors[plane] = missing.start;
            }
        }
        Ok(())
    }

    fn derive_keys(
        &self,
        device: &Device,
        region: usize,
        keys: Range<usize>,
    ) -> Result<(), CudaError> {
        let (plane, dim) = (self.planes[region], self.dim);
        let stored = keys.clone().map(|j| self.map.stored(j));
        let positions: Vec<f64> = stored
            .chain(keys.clone().map(|j| self.map.key(region, j)))
            .collect();
        let positions = device.stream().clone_htod(&positions)?;
        for planes in &self.layers {
            let (stored, scales) = planes.keys[0].addresses(device);
            let (out, _) = planes.keys[plane].addresses(device);
            Launch {
                device,
                kernel: &self.kernels.derive,
                grid: (keys.len() as u32, 1, 1),
                block: (dim as u32 / 2, (512 / dim as u32).max(1), 1),
                shared: self.rope.pairs() * size_of::<[f32; 2]>(),
            }
            // Not noted: the positions are freed before a pass is played.
            .run_now(&DeriveArgs {
                stored,
                scales,
                out,
                positions: address(device, &positions),
                frequencies: address(device, &self.frequencies),
                ring: self.slots[plane] as u32,
                pairs: self.rope.pairs() as i32,
                interleaved: i32::from(self.interleaved()),
                start: keys.start as i32,
                kv_heads: self.shape.kv_heads() as i32,
                capacity: self.capacity as i32,
            })?;
        }
        Ok(())
    }
}

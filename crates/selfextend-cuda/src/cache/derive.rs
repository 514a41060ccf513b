//! Keys of derived planes, made again from the stored ones: after truncating to where a ring has
//! overwritten them, and in a sequence that continues from blocks, which hold stored keys only.

use super::device_cache::DeviceCache;
use crate::device::{Device, Launch};
use crate::element::Element;
use crate::error::CudaError;
use crate::launch::{DeriveArgs, Grid};
use crate::memory::address;
use selfextend_attention::lowering::key_positions;
use selfextend_attention::position::Positions;
use std::ops::Range;

impl<T: Element> DeviceCache<T> {
    /// Makes ready for `tokens` more, `chunk` of them at once: room, and the derived keys that they
    /// see. Room grows by doubling, but not beyond `most` tokens unless they are needed; what is
    /// stored stays, also after an error.
    ///
    /// # Errors
    /// The driver's: mostly too little memory.
    pub fn reserve(
        &mut self,
        device: &Device,
        tokens: usize,
        chunk: usize,
        most: usize,
    ) -> Result<(), CudaError> {
        self.make_room(device, tokens, chunk, most)?;
        self.derive(device)
    }

    /// Derives what the next query sees of each plane and the plane does not hold. Later queries see
    /// no earlier keys.
    fn derive(&mut self, device: &Device) -> Result<(), CudaError> {
        for region in 0..self.planes.len() {
            let plane = self.planes[region];
            let missing = self.kind().span(region, self.len).start..self.held(plane).start;
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
        let both = |j| key_positions(self.kind(), region, j);
        let stored = keys.clone().map(|j| both(j)[0]);
        let derived = keys.clone().map(|j| both(j)[1]);
        let positions: Vec<f64> = stored.chain(derived).collect();
        let positions = device.stream().clone_htod(&positions)?;
        for planes in &self.layers {
            let (stored, scales) = planes.keys[0].addresses(device);
            let (out, _) = planes.keys[plane].addresses(device);
            Launch {
                device,
                kernel: &self.kernels.derive,
                grid: Grid {
                    blocks: (keys.len() as u32, 1, 1),
                    threads: (dim as u32 / 2, (512 / dim as u32).max(1), 1),
                    shared: self.rope().pairs() * size_of::<[f32; 2]>(),
                },
            }
            // Not recorded: the positions are freed before a pass is launched.
            .run_now(&DeriveArgs {
                stored,
                scales,
                out,
                positions: address(device, &positions),
                frequencies: address(device, &self.frequencies),
                ring: self.slots[plane] as u32,
                pairs: self.rope().pairs() as i32,
                interleaved: i32::from(self.interleaved()),
                start: keys.start as i32,
                kv_heads: self.shape.kv_heads() as i32,
                capacity: self.capacity as i32,
            })?;
        }
        Ok(())
    }
}

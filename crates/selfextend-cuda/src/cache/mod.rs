//! Keys and values of one sequence on the device.
//!
//! Keys are stored permanently in one rotation; those of derived regions are rotated from what is
//! stored there (`append.cu`), so that they can be [made again](derive) wherever they are missing.

mod block;
mod derive;
mod device_cache;

pub use block::KvBlock;
pub(crate) use device_cache::SLOTS;
pub use device_cache::{DeviceCache, Room};

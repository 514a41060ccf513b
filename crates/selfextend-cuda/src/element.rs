//! The 16-bit floats that weights, keys, values and queries are stored in.

use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

/// A 16-bit float.
pub trait Element: DeviceRepr + ValidAsZeroBits + Copy + Default + Send + Sync + 'static {
    /// How the kernels' names call it.
    const NAME: &'static str;
}

impl Element for half::f16 {
    const NAME: &'static str = "f16";
}

impl Element for half::bf16 {
    const NAME: &'static str = "bf16";
}

//! The kernels on a real device, each step against f64, by error rules. Skipped without a GPU.

mod attention;
mod experts;
mod linear;
mod ops;

use crate::{Device, Element};

/// A storage type with what the error rules need.
trait Half: Element + PartialEq + std::fmt::Debug {
    /// Half the distance between neighbours, relatively.
    const UNIT: f64;
    fn round(x: f32) -> Self;
    fn wide(self) -> f64;
}

impl Half for half::f16 {
    const UNIT: f64 = 1.0 / 2048.0;
    fn round(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
}

impl Half for half::bf16 {
    const UNIT: f64 = 1.0 / 256.0;
    fn round(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
}

fn device() -> Option<Device> {
    match Device::new(0) {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

//! Formats whose blocks stay as their file has them: matrices are unpacked to 16 bits where they are
//! multiplied.

use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use cudarc::driver::{CudaFunction, CudaSlice};
use std::sync::Arc;

/// A block format, named as ggml does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFormat {
    /// Points of a lattice with signs, 2 bits and a 16th.
    IQ2XXS,
    /// 2.3 bits.
    IQ2XS,
    /// 2.6 bits.
    IQ2S,
    /// 3 bits and a 16th.
    IQ3XXS,
    /// 3.4 bits.
    IQ3S,
    /// Points of a lattice, 1.6 bits.
    IQ1S,
    /// 1.8 bits.
    IQ1M,
    /// -1, 0 or 1 as digits of base 3.
    TQ1_0,
    /// -1, 0 or 1 in 2 bits.
    TQ2_0,
    /// Floats of 4 bits, with scales of 8 bits.
    NVFP4,
}

impl BlockFormat {
    /// Every one.
    pub(crate) const ALL: [Self; 10] = [
        Self::IQ2XXS,
        Self::IQ2XS,
        Self::IQ2S,
        Self::IQ3XXS,
        Self::IQ3S,
        Self::IQ1S,
        Self::IQ1M,
        Self::TQ1_0,
        Self::TQ2_0,
        Self::NVFP4,
    ];

    /// How the kernels' names call it, and columns and bytes of a block.
    fn facts(self) -> (&'static str, usize, usize) {
        match self {
            Self::IQ2XXS => ("iq2_xxs", 256, 66),
            Self::IQ2XS => ("iq2_xs", 256, 74),
            Self::IQ2S => ("iq2_s", 256, 82),
            Self::IQ3XXS => ("iq3_xxs", 256, 98),
            Self::IQ3S => ("iq3_s", 256, 110),
            Self::IQ1S => ("iq1_s", 256, 50),
            Self::IQ1M => ("iq1_m", 256, 56),
            Self::TQ1_0 => ("tq1_0", 256, 54),
            Self::TQ2_0 => ("tq2_0", 256, 66),
            Self::NVFP4 => ("nvfp4", 64, 36),
        }
    }

    /// Bytes of a row; `None` where blocks do not fit it.
    pub(crate) fn row_bytes(self, columns: usize) -> Option<usize> {
        let (_, block, bytes) = self.facts();
        let fits = columns > 0 && columns.is_multiple_of(block);
        fits.then(|| columns / block * bytes)
    }
}

/// The points of the lattices of IQ1, IQ2 and IQ3, on the device.
#[derive(Debug, Clone)]
pub struct Points(pub(crate) Arc<CudaSlice<i8>>);

impl Points {
    /// Copies the tables of ggml to the device, point after point: of IQ2_XXS (256 points of 8
    /// numbers), IQ2_XS (512 of 8), IQ2_S (1024 of 8), IQ3_XXS (256 of 4), IQ3_S (512 of 4) and IQ1
    /// (2048 of 8; before an eighth is added).
    ///
    /// # Errors
    /// [`CudaError::Shape`] for other lengths, or the driver's.
    pub fn new(device: &Device, tables: [&[i8]; 6]) -> Result<Self, CudaError> {
        let lengths = tables.map(<[i8]>::len);
        if lengths != [2048, 4096, 8192, 1024, 2048, 16_384] {
            return Err(CudaError::Shape(format!(
                "tables of {lengths:?} numbers are no lattices of ggml"
            )));
        }
        let all = device.stream().clone_htod(&tables.concat())?;
        Ok(Self(Arc::new(all)))
    }
}

/// The kernels of one format.
#[derive(Debug)]
pub(crate) struct BlockKernels {
    pub unpack: CudaFunction,
    pub take: CudaFunction,
}

impl BlockKernels {
    /// Those of all formats, in the order of [`BlockFormat::ALL`].
    pub(crate) fn all<T: Element>(device: &Device) -> Result<Vec<Self>, CudaError> {
        let kernel = |name: &str| device.blocks().load_function(name);
        let kernels = BlockFormat::ALL.map(|format| {
            let (name, ..) = format.facts();
            Ok(Self {
                unpack: kernel(&format!("unpack_{name}_{}", T::NAME))?,
                take: kernel(&format!("take_{name}"))?,
            })
        });
        kernels.into_iter().collect()
    }
}

//! The kernels of experts, by the layout of their weights.

use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::packed::Layout;
use cudarc::driver::CudaFunction;
use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST_SHARED;
use std::fmt;

/// Bytes of shared memory of a block of `experts_many.cu`: a tile of weights and two of activations.
pub(crate) const SHARED: usize = (128 + 2 * 64) * (128 + 8) * 2;

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Packed(Layout),
}

impl Kind {
    pub(crate) fn has_kernels(self) -> bool {
        match self {
            Self::Plain => true,
            Self::Packed(layout) => layout.is_wide(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("16-bit floats"),
            Self::Packed(layout) => write!(f, "{:?}", layout.format()),
        }
    }
}

/// Of one layout: products with gate and up, and with down.
#[derive(Debug)]
pub(crate) struct PartKernels {
    pub few: [CudaFunction; 2],
    pub many: [CudaFunction; 2],
}

/// The kernels of `experts.cu` and `experts_many.cu`.
#[derive(Debug)]
pub(crate) struct ExpertKernels {
    pub choose: CudaFunction,
    pub group: CudaFunction,
    pub combine: CudaFunction,
    parts: Vec<(Kind, PartKernels)>,
}

impl ExpertKernels {
    pub(crate) fn new<T: Element>(device: &Device) -> Result<Self, CudaError> {
        let [few, many] = device.experts();
        let part = |name: &str| {
            let many = |part: &str| {
                let kernel = many.load_function(&format!("many_{part}_{name}_{}", T::NAME))?;
                kernel.set_attribute(MOST_SHARED, SHARED as i32)?;
                Ok::<_, CudaError>(kernel)
            };
            Ok::<_, CudaError>(PartKernels {
                few: [
                    few.load_function(&format!("gated_{name}"))?,
                    few.load_function(&format!("down_{name}"))?,
                ],
                many: [many("gated")?, many("down")?],
            })
        };
        let packed = Layout::all().filter(|layout| layout.is_wide());
        let packed = packed.map(|layout| Ok((Kind::Packed(layout), part(&layout.name())?)));
        let plain = [Ok((Kind::Plain, part(T::NAME)?))];
        Ok(Self {
            choose: few.load_function("choose")?,
            group: many.load_function("group")?,
            combine: many.load_function("combine")?,
            parts: plain
                .into_iter()
                .chain(packed)
                .collect::<Result<_, CudaError>>()?,
        })
    }

    pub(crate) fn of(&self, kind: Kind) -> Result<&PartKernels, CudaError> {
        let found = self.parts.iter().find(|(known, _)| *known == kind);
        let none = || CudaError::Shape(format!("experts in {kind} have no CUDA kernels"));
        found.map(|(_, kernels)| kernels).ok_or_else(none)
    }
}

//! The experts of a layer on the device.

use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::expert_kernels::Kind;
use crate::matrix::{Matrix, Numbers};
use crate::memory::address;
use cudarc::driver::CudaSlice;

/// Experts whose scores fit the shared memory of a block.
const MOST_EXPERTS: usize = 2048;

/// The experts of a layer: gated feed-forward layers, `down · (curve(gate · x) * (up · x))`.
#[derive(Debug)]
pub struct Experts<T> {
    /// Gate, up and down of each.
    matrices: Vec<[Matrix<T>; 3]>,
    /// Where the gates of all experts are, then their ups, then their downs.
    pub(super) table: CudaSlice<u64>,
    /// Gate and up, and down.
    pub(super) parts: [Part; 2],
}

/// What all matrices of a part have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Where planes start after the first.
    pub(super) starts: [usize; 3],
}

impl Part {
    fn of<T>(matrix: &Matrix<T>) -> Option<Self> {
        let (outputs, inputs) = (matrix.outputs, matrix.inputs);
        let (kind, starts) = match &matrix.numbers {
            Numbers::Plain(_) => (Kind::Plain, [0; 3]),
            Numbers::Packed(layout, _) => {
                let [_, high, scales, supers, _] = layout.starts(outputs, inputs);
                (Kind::Packed(*layout), [high, scales, supers])
            }
            Numbers::Wide(_) | Numbers::Blocks(..) => return None,
        };
        Some(Self {
            kind,
            outputs,
            inputs,
            starts,
        })
    }
}

impl<T: Element> Experts<T> {
    /// The experts of a layer, each as gate, up and down.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for sizes or formats that differ between experts or between gates and ups,
    /// formats that the kernels do not read, and too many experts; or the driver's.
    pub fn new(device: &Device, matrices: Vec<[Matrix<T>; 3]>) -> Result<Self, CudaError> {
        let shape = |reason: String| Err(CudaError::Shape(reason));
        let count = matrices.len();
        if !(1..=MOST_EXPERTS).contains(&count) {
            return shape(format!(
                "a layer of {count} experts has no CUDA kernels: 1 to {MOST_EXPERTS} do"
            ));
        }
        let mut parts = [None; 3];
        for (n, part) in parts.iter_mut().enumerate() {
            let its = Part::of(&matrices[0][n]);
            if matrices.iter().any(|expert| Part::of(&expert[n]) != its) {
                return shape("experts of a layer differ in size or format".into());
            }
            *part = its;
        }
        let [Some(gate), Some(up), Some(down)] = parts else {
            return shape(format!(
                "experts in {} have no CUDA kernels",
                matrices[0][0].format()
            ));
        };
        if gate != up {
            return shape(format!(
                "gates of experts and their other inputs differ, {} and {}: they share a CUDA kernel",
                gate.kind, up.kind
            ));
        }
        if (down.inputs, down.outputs) != (gate.outputs, gate.inputs) {
            return shape("the matrices of experts do not fit each other".into());
        }
        for part in [gate, down] {
            if !part.kind.has_kernels() {
                return shape(format!(
                    "experts with rows of {} columns in {} have no CUDA kernels: multiples of 128 do",
                    part.inputs, part.kind
                ));
            }
        }
        let address = |matrix: &Matrix<T>| match &matrix.numbers {
            Numbers::Plain(numbers) => address(device, numbers),
            Numbers::Packed(_, bytes) | Numbers::Blocks(_, bytes, _) => address(device, bytes),
            Numbers::Wide(numbers) => address(device, numbers),
        };
        let all = (0..3).flat_map(|n| matrices.iter().map(move |expert| address(&expert[n])));
        let table: Vec<u64> = all.collect();
        Ok(Self {
            table: device.stream().clone_htod(&table)?,
            parts: [gate, down],
            matrices,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.matrices.len()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        let matrices = self.matrices.iter().flatten();
        matrices.map(Matrix::bytes).sum::<usize>() + self.table.num_bytes()
    }
}

//! Sparse layers: a router chooses a token's experts on the device, and only those are read.
//!
//! For few tokens two kernels read the chosen experts' weights as they are stored, for activations in
//! f32; for many, tokens are grouped by expert and tensor cores multiply 16-bit numbers. What is
//! chosen stays on the device in both, so a pass of few tokens can be a CUDA graph.

mod kernels;
mod routing;

use crate::Device;
use crate::element::Element;
use crate::error::CudaError;
use crate::launch::Value;
use crate::linear::FEW;
use crate::matrix::{Matrix, Numbers};
use crate::memory::{Buffer, address};
use crate::ops::{Curve, Ops, rows};
use cudarc::driver::CudaSlice;
pub(crate) use kernels::ExpertKernels;
use kernels::{Kind, PartKernels, SHARED};
pub use routing::{Routing, Score};

/// Threads of the blocks of `experts.cu`, and the rows of weights that one takes.
const FEW_THREADS: usize = 128;
const FEW_ROWS: usize = 4;
/// Of `experts_many.cu`: threads, places of a tile, rows of weights of a tile.
const MANY_THREADS: usize = 256;
const PLACES: usize = 64;
const ROWS: usize = 128;
/// Blocks of a launch in its second dimension.
const MOST_BLOCKS: usize = 65_535;
/// Experts whose scores fit the shared memory of a block.
const MOST_EXPERTS: usize = 2048;

/// The experts of a layer: gated feed-forward layers, `down · (curve(gate · x) * (up · x))`.
#[derive(Debug)]
pub struct Experts<T> {
    /// Gate, up and down of each.
    matrices: Vec<[Matrix<T>; 3]>,
    /// Where the gates of all experts are, then their ups, then their downs.
    table: CudaSlice<u64>,
    /// Gate and up, and down.
    parts: [Part; 2],
}

/// What all matrices of a part have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    kind: Kind,
    outputs: usize,
    inputs: usize,
    /// Where planes start after the first.
    starts: [usize; 3],
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

/// Buffers that sparse layers keep from call to call. A pair is a token with one of its experts; a place
/// is a pair in the order of the experts.
#[derive(Debug)]
pub struct ExpertScratch<T> {
    chosen: Buffer<u32>,
    weights: Buffer<f32>,
    /// What experts have between their matrices.
    inner: Buffer<f32>,
    places: Buffer<u32>,
    pairs: Buffer<u32>,
    tiles: Buffer<u32>,
    narrow: Buffer<T>,
    narrow_inner: Buffer<T>,
    outputs: Buffer<f32>,
}

impl<T> Default for ExpertScratch<T> {
    fn default() -> Self {
        Self {
            chosen: Buffer::default(),
            weights: Buffer::default(),
            inner: Buffer::default(),
            places: Buffer::default(),
            pairs: Buffer::default(),
            tiles: Buffer::default(),
            narrow: Buffer::default(),
            narrow_inner: Buffer::default(),
            outputs: Buffer::default(),
        }
    }
}

#[cfg(test)]
impl<T> ExpertScratch<T> {
    /// Which experts were chosen last, and their weights.
    pub(crate) fn chosen(&self, device: &Device) -> Result<(Vec<u32>, Vec<f32>), CudaError> {
        Ok((self.chosen.read(device)?, self.weights.read(device)?))
    }
}

impl<T: Element> Ops<T> {
    /// `out[t] = sum of weight * down · (curve(gate · x[t]) * (up · x[t]))` over the experts that
    /// `routing` chooses by the token's row of `router`; `bias` is added to scores for the choice alone.
    ///
    /// # Errors
    /// Sizes that do not fit together, or the driver's.
    pub fn mix(
        &self,
        experts: &Experts<T>,
        (routing, bias): (&Routing, Option<&CudaSlice<f32>>),
        curve: Curve,
        (x, router): (&Buffer<f32>, &Buffer<f32>),
        out: &mut Buffer<f32>,
        scratch: &mut ExpertScratch<T>,
    ) -> Result<(), CudaError> {
        let [gate, _] = experts.parts;
        let tokens = rows(x.len(), gate.inputs)?;
        if rows(router.len(), experts.count())? != tokens {
            let (numbers, count) = (router.len(), experts.count());
            return Err(CudaError::Shape(format!(
                "{numbers} numbers are not {tokens} rows for {count} experts"
            )));
        }
        out.resize(&self.device, x.len())?;
        self.choose(experts.count(), (routing, bias), router, scratch)?;
        let used = routing.used;
        if tokens <= FEW {
            self.mix_few(experts, used, curve, x, out, scratch)
        } else {
            self.mix_many(experts, used, curve, x, out, scratch)
        }
    }

    fn mix_few(
        &self,
        experts: &Experts<T>,
        used: usize,
        curve: Curve,
        x: &Buffer<f32>,
        out: &mut Buffer<f32>,
        scratch: &mut ExpertScratch<T>,
    ) -> Result<(), CudaError> {
        let [gate, down] = experts.parts;
        let pairs = scratch.chosen.len();
        scratch.inner.resize(&self.device, pairs * gate.outputs)?;
        let (chosen, inner) = (
            self.at(scratch.chosen.slice()?),
            self.at(scratch.inner.slice()?),
        );
        let mut values = self.part(experts, 0).to_vec();
        values.extend([
            chosen,
            self.at(x.slice()?),
            inner,
            Value::Int(experts.count() as i32),
            Value::Int(gate.outputs as i32),
            Value::Int(gate.inputs as i32),
            Value::Int(used as i32),
            Value::Int(curve as i32),
        ]);
        let grid = [gate.outputs.div_ceil(FEW_ROWS), pairs];
        let threads = [FEW_THREADS, 0];
        self.launch_grid(&self.kernels(gate.kind)?.few[0], grid, threads, &values)?;
        let mut values = self.part(experts, 1).to_vec();
        values.extend([
            chosen,
            self.at(scratch.weights.slice()?),
            inner,
            self.at(out.slice()?),
            Value::Int(down.outputs as i32),
            Value::Int(down.inputs as i32),
            Value::Int(used as i32),
        ]);
        let grid = [down.outputs.div_ceil(FEW_ROWS), pairs / used];
        self.launch_grid(&self.kernels(down.kind)?.few[1], grid, threads, &values)
    }

    fn mix_many(
        &self,
        experts: &Experts<T>,
        used: usize,
        curve: Curve,
        x: &Buffer<f32>,
        out: &mut Buffer<f32>,
        scratch: &mut ExpertScratch<T>,
    ) -> Result<(), CudaError> {
        let [gate, down] = experts.parts;
        let tiles = self.group(experts.count(), scratch)?;
        let count = scratch.chosen.len();
        self.narrow(x, &mut scratch.narrow)?;
        scratch
            .narrow_inner
            .resize(&self.device, count * gate.outputs)?;
        scratch.outputs.resize(&self.device, count * down.outputs)?;
        let (places, pairs) = (scratch.places.slice()?, scratch.pairs.slice()?);
        let listed = self.at(scratch.tiles.slice()?);
        let (inner, outputs) = (
            self.at(scratch.narrow_inner.slice()?),
            self.at(scratch.outputs.slice()?),
        );
        let mut values = self.part(experts, 0).to_vec();
        values.extend([
            self.at(pairs),
            listed,
            self.at(scratch.narrow.slice()?),
            inner,
            Value::Int(experts.count() as i32),
            Value::Int(gate.outputs as i32),
            Value::Int(gate.inputs as i32),
            Value::Int(used as i32),
            Value::Int(curve as i32),
        ]);
        let threads = [MANY_THREADS, SHARED];
        let grid = [gate.outputs.div_ceil(ROWS / 2), tiles];
        self.launch_grid(&self.kernels(gate.kind)?.many[0], grid, threads, &values)?;
        let mut values = self.part(experts, 1).to_vec();
        values.extend([
            listed,
            inner,
            outputs,
            Value::Int(down.outputs as i32),
            Value::Int(down.inputs as i32),
        ]);
        let grid = [down.outputs.div_ceil(ROWS), tiles];
        self.launch_grid(&self.kernels(down.kind)?.many[1], grid, threads, &values)?;
        let values = [
            outputs,
            self.at(places),
            self.at(scratch.weights.slice()?),
            self.at(out.slice()?),
            Value::Int(down.outputs as i32),
            Value::Int(used as i32),
        ];
        let combine = &self.experts.combine;
        self.launch(combine, [count / used, MANY_THREADS], &values)
    }

    /// Puts pairs in the order of the experts, and returns how many tiles of places there are at most.
    fn group(&self, count: usize, scratch: &mut ExpertScratch<T>) -> Result<usize, CudaError> {
        let pairs = scratch.chosen.len();
        let tiles = pairs / PLACES + count.min(pairs);
        if tiles > MOST_BLOCKS {
            return Err(CudaError::Shape(format!(
                "{pairs} pairs of tokens and experts are too many for one pass; use smaller chunks"
            )));
        }
        scratch.places.resize(&self.device, pairs)?;
        scratch.pairs.resize(&self.device, pairs)?;
        scratch.tiles.resize(&self.device, 1 + 3 * tiles)?;
        let values = [
            self.at(scratch.chosen.slice()?),
            self.at(scratch.places.slice()?),
            self.at(scratch.pairs.slice()?),
            self.at(scratch.tiles.slice()?),
            Value::Int(count as i32),
            Value::Int(pairs as i32),
        ];
        let shared = count * size_of::<u32>();
        self.launch_grid(&self.experts.group, [1, 1], [1024, shared], &values)?;
        Ok(tiles)
    }

    fn kernels(&self, kind: Kind) -> Result<&PartKernels, CudaError> {
        self.experts.of(kind)
    }

    /// The table of a part, and where its planes start.
    fn part(&self, experts: &Experts<T>, part: usize) -> [Value; 4] {
        let first = 2 * part * experts.count() * size_of::<u64>();
        let table = self.address(&experts.table) + first as u64;
        let [high, scales, supers] = experts.parts[part].starts;
        [
            Value::Pointer(table),
            Value::Len(high as u64),
            Value::Len(scales as u64),
            Value::Len(supers as u64),
        ]
    }
}

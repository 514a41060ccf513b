//! The products of a sparse layer.

use super::layer::Experts;
use super::routing::Routing;
use super::scratch::ExpertScratch;
use crate::element::Element;
use crate::error::CudaError;
use crate::expert_kernels::{Kind, PartKernels, SHARED};
use crate::launch::Value;
use crate::linear::FEW;
use crate::memory::Buffer;
use crate::ops::{Curve, MOST_BLOCKS, Ops, rows};
use cudarc::driver::CudaSlice;

/// Threads of the blocks of `experts.cu`, and the rows of weights that one takes.
const FEW_THREADS: usize = 128;
const FEW_ROWS: usize = 4;
/// Of `experts_many.cu`: threads, places of a tile, rows of weights of a tile.
const MANY_THREADS: usize = 256;
const PLACES: usize = 64;
const ROWS: usize = 128;

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

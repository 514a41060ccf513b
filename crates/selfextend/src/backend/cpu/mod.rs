//! The CPU: plain slices, reused buffers, work split so that results never depend on the threads.

mod experts;
mod matrix;
mod pack;
mod pages;
mod share;

use super::{Backend, CacheLayout, FEW_SEQUENCES, Mixture, Phase};
use crate::config::{Activation, XieLu};
use crate::error::Result;
use crate::options::LinearMode;
use crate::routing::sigmoid;
use crate::tensor::RawTensor;
use experts::{ExpertScratch, mix};
pub use matrix::CpuMatrix;
use matrix::multiply;
use selfextend_attention::attention::{AttentionScratch, Segment, attend};
use selfextend_attention::cache::SegmentPlan;
use selfextend_attention::simd::elementwise::{self, Gate, layer_norm, rms_norm};
use selfextend_attention::simd::linear::{Precision, Rounded};
use selfextend_attention::{KvCache, parallel};
use share::{PARALLEL_ROWS, SHARED_WIDTH};
use smallvec::SmallVec;
use std::borrow::Cow;

/// The CPU backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// How linear layers multiply.
    pub linear: LinearMode,
}

impl Cpu {
    /// What activations are rounded to where weights are quantised.
    fn precision(self) -> Precision {
        match self.linear {
            LinearMode::Fast => Precision::Bytes,
            LinearMode::Rounded | LinearMode::F32 => Precision::Words,
        }
    }
}

/// Scratch memory of the CPU, reused from step to step.
#[derive(Debug, Default)]
pub struct CpuScratch {
    phase: Phase,
    attention: AttentionScratch,
    /// The current activations of linear layers as integers.
    rounded: Rounded,
    experts: ExpertScratch,
}

impl Backend for Cpu {
    type Matrix = CpuMatrix;
    type Vector = Vec<f32>;
    type Buffer = Vec<f32>;
    type Scratch = CpuScratch;
    type Cache = KvCache;
    /// One for each sequence.
    type Plan = Vec<SegmentPlan>;

    const EXACT_STEPS: bool = true;

    fn enter(&self, phase: Phase, scratch: &mut CpuScratch) {
        scratch.phase = phase;
    }

    fn matrix(&self, tensor: RawTensor) -> Result<CpuMatrix, String> {
        CpuMatrix::new(tensor, self.linear == LinearMode::F32)
    }

    fn vector(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn matrix_bytes(&self, matrix: &CpuMatrix) -> usize {
        matrix.bytes()
    }

    fn embed(&self, table: &CpuMatrix, ids: &[u32], out: &mut Vec<f32>) {
        let width = table.columns();
        out.resize(ids.len() * width, 0.0);
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(width)) {
            table.row(*id as usize, row);
        }
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, eps: f32, out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        in_rows(x, out, weight.len(), |x, out| {
            rms_norm(x, weight, eps, out);
        });
    }

    fn layer_norm(
        &self,
        x: &Vec<f32>,
        weight: &Vec<f32>,
        bias: Option<&Vec<f32>>,
        eps: f32,
        out: &mut Vec<f32>,
    ) {
        out.resize(x.len(), 0.0);
        let bias = bias.map_or(&[][..], |bias| bias);
        in_rows(x, out, weight.len(), |x, out| {
            layer_norm(x, weight, bias, eps, out);
        });
    }

    fn linear<const N: usize>(
        &self,
        x: &Vec<f32>,
        matrices: [&CpuMatrix; N],
        out: [&mut Vec<f32>; N],
        scratch: &mut CpuScratch,
    ) {
        let (phase, rounded) = (scratch.phase, &mut scratch.rounded);
        multiply(x, matrices, out, phase, self.precision(), rounded);
    }

    fn add_bias(&self, x: &mut Vec<f32>, bias: &Vec<f32>) {
        for row in x.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    }

    fn multiply(&self, x: &mut Vec<f32>, weights: &Vec<f32>) {
        for row in x.chunks_exact_mut(weights.len()) {
            row.iter_mut().zip(weights).for_each(|(x, w)| *x *= w);
        }
    }

    fn cache(&self, layout: CacheLayout) -> Result<KvCache> {
        Ok(layout.on_cpu())
    }

    fn plan(
        &self,
        caches: &mut [&mut KvCache],
        tokens: &[&[u32]],
        phase: Phase,
        plans: &mut Vec<SegmentPlan>,
    ) -> Result<()> {
        plans.resize_with(caches.len(), SegmentPlan::default);
        for ((cache, plan), tokens) in caches.iter().zip(plans).zip(tokens) {
            match phase {
                Phase::Prefill => cache.plan_prefill_into(tokens.len(), plan),
                Phase::ByLength => cache.plan_into(tokens.len(), plan),
                Phase::Decode => cache.plan_steps_into(tokens.len(), plan),
            }
        }
        Ok(())
    }

    fn attend(
        &self,
        layer: usize,
        caches: &mut [&mut KvCache],
        plans: &Vec<SegmentPlan>,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        out: &mut Vec<f32>,
        scratch: &mut CpuScratch,
    ) -> Result<()> {
        out.resize(q.len(), 0.0);
        let pairs = caches.iter_mut().zip(plans);
        let mut segments: SmallVec<[Segment; FEW_SEQUENCES]> =
            pairs.map(|(cache, plan)| Segment { cache, plan }).collect();
        let scratch = &mut scratch.attention;
        Ok(attend(layer, &mut segments, q, k, v, out, scratch)?)
    }

    fn mix(
        &self,
        mixture: Mixture<CpuMatrix, Vec<f32>>,
        x: &Vec<f32>,
        router: &Vec<f32>,
        out: &mut Vec<f32>,
        scratch: &mut CpuScratch,
    ) -> Result<()> {
        let gate = |gate: &mut Vec<f32>, up: &Vec<f32>| self.gate(gate, up, mixture.activation);
        mix(
            &mixture,
            x,
            router,
            out,
            (scratch.phase, self.precision()),
            gate,
            &mut scratch.experts,
        );
        Ok(())
    }

    fn weigh(&self, x: &mut Vec<f32>, gate: &Vec<f32>) -> Result<()> {
        let width = x.len().checked_div(gate.len()).unwrap_or(0);
        for (row, &gate) in x.chunks_exact_mut(width.max(1)).zip(gate) {
            let weight = sigmoid(gate);
            row.iter_mut().for_each(|x| *x *= weight);
        }
        Ok(())
    }

    fn gate(&self, gate: &mut Vec<f32>, up: &Vec<f32>, activation: Activation) {
        in_rows(up, gate, SHARED_WIDTH, |up, gate| match curve(activation) {
            Curve::Vector(curve) => curve.gate(gate, up),
            Curve::Scalar(f) => {
                let pairs = gate.iter_mut().zip(up);
                pairs.for_each(|(gate, up)| *gate = f(*gate) * up);
            }
        });
    }

    fn activate(&self, x: &mut Vec<f32>, activation: Activation) {
        let tasks = x.chunks_mut(SHARED_WIDTH * PARALLEL_ROWS);
        parallel::for_each(tasks, |x| match curve(activation) {
            Curve::Vector(curve) => curve.activate(x),
            Curve::Scalar(f) => x.iter_mut().for_each(|x| *x = f(*x)),
        });
    }

    fn xielu(&self, x: &mut Vec<f32>, curve: XieLu) {
        let tasks = x.chunks_mut(SHARED_WIDTH * PARALLEL_ROWS);
        parallel::for_each(tasks, |x| {
            x.iter_mut().for_each(|x| *x = xielu(*x, curve));
        });
    }

    fn scale(&self, x: &mut Vec<f32>, factor: f32) {
        x.iter_mut().for_each(|x| *x *= factor);
    }

    fn clamp(&self, x: &mut Vec<f32>, limit: f32) {
        // Unlike `max` and `min`, `clamp` keeps what is not a number.
        x.iter_mut().for_each(|x| *x = x.clamp(-limit, limit));
    }

    fn soft_cap(&self, x: &mut Vec<f32>, cap: f32) {
        let tasks = x.chunks_mut(SHARED_WIDTH * PARALLEL_ROWS);
        parallel::for_each(tasks, |x| {
            x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        });
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>) {
        in_rows(y, x, SHARED_WIDTH, |y, x| elementwise::add(x, y));
    }

    fn take_rows(&self, x: &Vec<f32>, width: usize, rows: &[usize], out: &mut Vec<f32>) {
        out.clear();
        rows.iter()
            .for_each(|row| out.extend_from_slice(&x[row * width..(row + 1) * width]));
    }

    fn read<'a>(&self, buffer: &'a Vec<f32>) -> Cow<'a, [f32]> {
        Cow::Borrowed(buffer)
    }
}

/// How an activation is computed.
enum Curve {
    Vector(Gate),
    Scalar(fn(f32) -> f32),
}

fn curve(activation: Activation) -> Curve {
    match activation {
        Activation::Silu => Curve::Vector(Gate::SILU),
        Activation::GeluTanh => Curve::Vector(Gate::GELU_TANH),
        Activation::GeluSigmoid => Curve::Vector(Gate::GELU_SIGMOID),
        Activation::Gelu => Curve::Scalar(gelu),
        Activation::Relu => Curve::Scalar(relu),
        Activation::ReluSquared => Curve::Scalar(|x| relu(x) * relu(x)),
    }
}

/// Keeps what is not a number, which `f32::max` would turn into 0.
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

fn xielu(x: f32, curve: XieLu) -> f32 {
    let XieLu {
        positive,
        negative,
        beta,
        epsilon,
    } = curve;
    if x > 0.0 {
        positive * x * x + beta * x
    } else {
        // The comparison keeps what is not a number.
        let low = if x > epsilon { epsilon } else { x };
        (low.exp_m1() - x) * negative + beta * x
    }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * libm::erfcf(-x * std::f32::consts::FRAC_1_SQRT_2)
}

/// Runs `work(from, to)` on equal ranges of two slices, on several threads where that is faster.
fn in_rows(from: &[f32], to: &mut [f32], width: usize, work: impl Fn(&[f32], &mut [f32]) + Sync) {
    let some = width * PARALLEL_ROWS;
    if to.len() < 2 * some {
        work(from, to);
    } else {
        let tasks = to.chunks_mut(some).zip(from.chunks(some));
        parallel::for_each(tasks, |(to, from)| work(from, to));
    }
}

//! NVIDIA GPUs: kernels and caches of `selfextend-cuda`, matrix products by cuBLAS.
//!
//! Activations are f32. Queries, keys and values are rounded to 16 bits once (in a cache of bytes to
//! those, and from them to 16 bits), with sums in f32: a number is off by one part in 2048 for f16
//! (256 for bf16) at each rounding. Tests hold logits to that rule, with errors that add up at
//! random.
//!
//! Weights stay in the blocks of their file (`Kept`); plain floats are rounded to 16 bits, but those
//! of routers. Passes of at most [`selfextend_cuda::FEW`] rows multiply them by
//! activations as they are; longer ones round both to 16 bits for cuBLAS. A [`Phase`] is ignored:
//! what else is in a pass may change a token's result, within the same rule.
//!
//! Work is queued. The first error is kept, and the operations after it are skipped, until
//! [`Backend::finish`] returns it.

mod cache;
mod convert;
mod format;
mod half;

pub use self::half::Half;
use super::{Backend, CacheLayout, Expert, Mixture, Phase};
use crate::config::{Activation, XieLu};
use crate::error::{Error, Result};
use crate::sampling::TokenScore;
use crate::tensor::{RawTensor, lattices};
pub use cache::CudaCache;
use convert::{curve, routing};
use format::Kept;
use selfextend_cuda::ops::{Buffer, Ops};
use selfextend_cuda::{
    AttentionScratch, CudaError, CudaSlice, Device, DeviceCache, DevicePlan, ExpertScratch,
    Experts, FEW, Inputs, LinearScratch, Matrix, Points, Segment, attend,
};
use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

impl From<CudaError> for Error {
    fn from(error: CudaError) -> Self {
        let reason = format!("cuda: {error}");
        if error.is_out_of_memory() {
            Self::DeviceMemory(reason)
        } else {
            Self::Device(reason)
        }
    }
}

/// A GPU with weights of one type.
#[derive(Debug)]
pub struct Cuda<T> {
    device: Device,
    ops: Ops<T>,
    points: Points,
    /// What went wrong first since a pass began.
    fault: Mutex<Option<CudaError>>,
}

impl<T: Half> Cuda<T> {
    /// Opens a GPU by its number.
    ///
    /// # Errors
    /// No driver, no such GPU or one too old, or no cuBLAS.
    pub fn new(number: usize) -> Result<Self> {
        let device = Device::new(number)?;
        // A switch to measure what they gain, or to work around a driver.
        device.use_graphs(std::env::var_os("SELFEXTEND_CUDA_GRAPHS").is_none_or(|x| x != "0"));
        Ok(Self {
            ops: Ops::new(&device)?,
            points: Points::new(&device, lattices())?,
            device,
            fault: Mutex::default(),
        })
    }

    /// The GPU.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn fault(&self) -> MutexGuard<'_, Option<CudaError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an operation unless one before it failed.
    fn queue(&self, operation: impl FnOnce() -> Result<(), CudaError>) {
        let mut fault = self.fault();
        if fault.is_none() {
            *fault = operation().err();
        }
    }
}

/// Memory is freed through the device of the thread that drops it; drop the weights that were made with
/// a backend after it.
impl<T> Drop for Cuda<T> {
    fn drop(&mut self) {
        let _ = self.device.bind();
    }
}

/// A vector of weights, or why the device could not hold it.
pub type Vector = Result<CudaSlice<f32>, CudaError>;

fn given(vector: &Vector) -> Result<&CudaSlice<f32>, CudaError> {
    vector.as_ref().map_err(Clone::clone)
}

/// Scratch memory that operations reuse from step to step.
#[derive(Debug)]
pub struct Scratch<T> {
    linear: LinearScratch<T>,
    experts: ExpertScratch<T>,
    /// Results of attention, heads padded.
    attended: Buffer<T>,
    attention: AttentionScratch<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            linear: LinearScratch::default(),
            experts: ExpertScratch::default(),
            attended: Buffer::default(),
            attention: AttentionScratch::default(),
        }
    }
}

/// The sequences of a pass whose layers of one kind run together.
#[derive(Debug)]
struct Group {
    members: Vec<usize>,
    plan: DevicePlan,
}

/// Groups of sequences for each kind of layer.
#[derive(Debug, Default)]
pub struct PassPlan {
    kinds: Vec<Vec<Group>>,
    rows: usize,
}

impl<T: Half> Cuda<T> {
    /// Plans some sequences of a pass in waves, so that none has more new tokens at once than its ring
    /// holds.
    fn waves(
        &self,
        caches: &[&mut CudaCache<T>],
        kind: usize,
        members: &[usize],
        tokens: &[&[u32]],
        rows: usize,
        groups: &mut Vec<Group>,
    ) -> Result<()> {
        let first = |n: usize| tokens[..n].iter().map(|tokens| tokens.len()).sum::<usize>();
        let first_cache = &caches[members[0]];
        let wave = if first_cache.kinds[kind].has_ring() {
            first_cache.wave
        } else {
            usize::MAX
        };
        let most = members.iter().map(|&n| tokens[n].len()).max();
        for after in (0..most.unwrap_or(0)).step_by(wave) {
            let segments = members.iter().map(|&n| {
                let skipped = after.min(tokens[n].len());
                Segment {
                    cache: &caches[n].kinds[kind],
                    after: skipped,
                    tokens: (tokens[n].len() - skipped).min(wave),
                    row: first(n) + skipped,
                    scaling: caches[n].scaling,
                }
            });
            let segments: Vec<Segment<T>> = segments.collect();
            groups.push(Group {
                members: members.to_vec(),
                plan: DevicePlan::of(&self.device, &segments, rows)?,
            });
        }
        Ok(())
    }
}

impl<T: Half> Backend for Cuda<T> {
    type Matrix = Matrix<T>;
    type Vector = Vector;
    type Experts = Experts<T>;
    type Buffer = Buffer<f32>;
    type Scratch = Scratch<T>;
    type Cache = CudaCache<T>;
    type Plan = PassPlan;

    const THREADED: bool = false;
    // Products and attention have other kernels for one row than for several.
    const EXACT_STEPS: bool = false;

    fn enter(&self, _phase: Phase, _scratch: &mut Scratch<T>) {
        *self.fault() = self.device.bind().err();
    }

    fn matrix(&self, tensor: RawTensor) -> Result<Matrix<T>, String> {
        tensor.check()?;
        let (rows, columns) = (tensor.rows, tensor.columns);
        let (device, data) = (&self.device, &tensor.data);
        let matrix = match Kept::of(tensor.format) {
            Kept::Packed(format) => Matrix::packed(device, format, data, rows, columns),
            Kept::Blocks(format) => {
                Matrix::blocks(device, format, &self.points, data, [rows, columns])
            }
            Kept::Narrow => {
                let numbers: Vec<T> = if tensor.format == T::FORMAT {
                    let words = data.chunks_exact(2);
                    words.map(|word| T::read([word[0], word[1]])).collect()
                } else {
                    tensor.to_floats().into_iter().map(T::narrow).collect()
                };
                Matrix::new(device, &numbers, rows, columns)
            }
        };
        matrix.map_err(|error| error.to_string())
    }

    fn router(&self, tensor: RawTensor) -> Result<Matrix<T>, String> {
        tensor.check()?;
        let (rows, columns) = (tensor.rows, tensor.columns);
        Matrix::wide(&self.device, &tensor.to_floats(), rows, columns)
            .map_err(|error| error.to_string())
    }

    fn experts(&self, experts: Vec<Expert<Matrix<T>, Vector>>) -> Result<Experts<T>, String> {
        if experts.iter().any(|expert| expert.biases.is_some()) {
            return Err(
                "experts with biases have no kernels for GPUs here; load the model on the CPU"
                    .into(),
            );
        }
        let matrices = experts.into_iter().map(|it| [it.gate, it.up, it.down]);
        Experts::new(&self.device, matrices.collect()).map_err(|error| error.to_string())
    }

    fn experts_bytes(&self, experts: &Experts<T>) -> usize {
        experts.bytes()
    }

    fn vector(&self, values: Vec<f32>) -> Vector {
        Ok(self.device.stream().clone_htod(&values)?)
    }

    fn matrix_bytes(&self, matrix: &Matrix<T>) -> usize {
        matrix.bytes()
    }

    fn embed(&self, table: &Matrix<T>, ids: &[u32], out: &mut Buffer<f32>) {
        self.queue(|| self.ops.embed(table, ids, out));
    }

    fn rms_norm(&self, x: &Buffer<f32>, weight: &Vector, eps: f32, out: &mut Buffer<f32>) {
        self.queue(|| self.ops.rms_norm(x, given(weight)?, eps, out));
    }

    fn layer_norm(
        &self,
        x: &Buffer<f32>,
        weight: &Vector,
        bias: Option<&Vector>,
        eps: f32,
        out: &mut Buffer<f32>,
    ) {
        self.queue(|| {
            let bias = bias.map(given).transpose()?;
            self.ops.layer_norm(x, given(weight)?, bias, eps, out)
        });
    }

    fn linear<const N: usize>(
        &self,
        x: &Buffer<f32>,
        matrices: [&Matrix<T>; N],
        out: [&mut Buffer<f32>; N],
        scratch: &mut Scratch<T>,
    ) {
        self.queue(|| self.ops.linear(x, matrices, out, &mut scratch.linear));
    }

    fn add_bias(&self, x: &mut Buffer<f32>, bias: &Vector) {
        self.queue(|| self.ops.add_bias(x, given(bias)?));
    }

    fn multiply(&self, x: &mut Buffer<f32>, weights: &Vector) {
        self.queue(|| self.ops.multiply(x, given(weights)?));
    }

    fn cache(&self, layout: CacheLayout) -> Result<CudaCache<T>> {
        CudaCache::new(&self.device, layout)
    }

    fn plan(
        &self,
        caches: &mut [&mut CudaCache<T>],
        tokens: &[&[u32]],
        _phase: Phase,
        plan: &mut PassPlan,
    ) -> Result<()> {
        for (cache, tokens) in caches.iter_mut().zip(tokens) {
            cache.prepare(tokens.len())?;
        }
        plan.rows = tokens.iter().map(|tokens| tokens.len()).sum();
        plan.kinds.clear();
        for kind in 0..caches.first().map_or(0, |cache| cache.kinds.len()) {
            let mut its = Vec::new();
            for members in groups(caches, kind)? {
                self.waves(caches, kind, &members, tokens, plan.rows, &mut its)?;
            }
            plan.kinds.push(its);
        }
        // Passes without cuBLAS can become CUDA graphs.
        if plan.rows <= FEW {
            self.device.record();
        }
        Ok(())
    }

    fn attend(
        &self,
        layer: usize,
        caches: &mut [&mut CudaCache<T>],
        plan: &PassPlan,
        q: &Buffer<f32>,
        k: &Buffer<f32>,
        v: &Buffer<f32>,
        out: &mut Buffer<f32>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let Scratch {
            attended,
            attention,
            ..
        } = scratch;
        self.queue(|| {
            let Some(first) = caches.first() else {
                return Ok(());
            };
            let (kind, place) = first.layers[layer];
            let (shape, padded) = (first.kinds[kind].shape(), first.kinds[kind].padded_dim());
            let heads = plan.rows * shape.heads();
            attended.resize(&self.device, heads * padded)?;
            let inputs = Inputs {
                q: q.slice()?,
                k: k.slice()?,
                v: v.slice()?,
            };
            for group in &plan.kinds[kind] {
                let mut its: Vec<&mut DeviceCache<T>> = caches
                    .iter_mut()
                    .enumerate()
                    .filter(|(n, _)| group.members.contains(n))
                    .map(|(_, cache)| &mut cache.kinds[kind])
                    .collect();
                let (plan, out) = (&group.plan, attended.slice_mut()?);
                attend(&self.device, place, &mut its, plan, inputs, out, attention)?;
            }
            self.ops
                .widen(attended, heads, [shape.head_dim(), padded], out)
        });
        Ok(())
    }

    fn mix(
        &self,
        mixture: Mixture<Experts<T>, Vector>,
        x: &Buffer<f32>,
        router: &Buffer<f32>,
        out: &mut Buffer<f32>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let (routing, curve) = (routing(&mixture)?, curve(mixture.activation));
        self.queue(|| {
            let bias = mixture.choice_bias.map(given).transpose()?;
            let scratch = &mut scratch.experts;
            let given = (x, router);
            self.ops.mix(
                mixture.experts,
                (&routing, bias),
                curve,
                given,
                out,
                scratch,
            )
        });
        Ok(())
    }

    fn weigh(&self, x: &mut Buffer<f32>, gate: &Buffer<f32>) -> Result<()> {
        self.queue(|| self.ops.weigh(x, gate));
        Ok(())
    }

    fn gate(&self, gate: &mut Buffer<f32>, up: &Buffer<f32>, activation: Activation) {
        self.queue(|| self.ops.gate(curve(activation), gate, up));
    }

    fn activate(&self, x: &mut Buffer<f32>, activation: Activation) {
        self.queue(|| self.ops.activate(curve(activation), x));
    }

    fn xielu(&self, x: &mut Buffer<f32>, curve: XieLu) {
        let XieLu {
            positive,
            negative,
            beta,
            epsilon,
        } = curve;
        self.queue(|| self.ops.xielu(x, [positive, negative, beta, epsilon]));
    }

    fn scale(&self, x: &mut Buffer<f32>, factor: f32) {
        self.queue(|| self.ops.scale(x, factor));
    }

    fn clamp(&self, x: &mut Buffer<f32>, limit: f32) {
        self.queue(|| self.ops.clamp(x, limit));
    }

    fn soft_cap(&self, x: &mut Buffer<f32>, cap: f32) {
        self.queue(|| self.ops.soft_cap(x, cap));
    }

    fn add(&self, x: &mut Buffer<f32>, y: &Buffer<f32>) {
        self.queue(|| self.ops.add(x, y));
    }

    fn take_rows(&self, x: &Buffer<f32>, width: usize, rows: &[usize], out: &mut Buffer<f32>) {
        let wanted: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.queue(|| self.ops.take_rows(x, width, &wanted, out));
    }

    fn finish(&self) -> Result<()> {
        let played = self.device.play();
        match self.fault().take() {
            Some(error) => Err(error.into()),
            None => Ok(played?),
        }
    }

    fn scores(&self, logits: &Buffer<f32>, targets: &[u32]) -> Vec<TokenScore> {
        let mut scores = Vec::new();
        self.queue(|| {
            scores = self.ops.scores(logits, targets)?;
            if scores.iter().all(|(x, _)| x.is_finite()) {
                Ok(())
            } else {
                Err(CudaError::NotFinite(T::NAME))
            }
        });
        let score = |(log_probability, is_top)| TokenScore {
            log_probability,
            is_top,
        };
        scores.into_iter().map(score).collect()
    }

    fn read<'a>(&self, buffer: &'a Buffer<f32>) -> Cow<'a, [f32]> {
        let mut numbers = Vec::new();
        self.queue(|| {
            numbers = buffer.read(&self.device)?;
            // f16 ends at 65504: an overflow must not be mistaken for a result.
            if numbers.iter().all(|x| x.is_finite()) {
                Ok(())
            } else {
                Err(CudaError::NotFinite(T::NAME))
            }
        });
        Cow::Owned(numbers)
    }
}

/// Sequences that a kernel can take together, by their numbers.
fn groups<T: Half>(caches: &[&mut CudaCache<T>], kind: usize) -> Result<Vec<Vec<usize>>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (n, cache) in caches.iter().enumerate() {
        if cache.layers != caches[0].layers {
            return Err(Error::Device(
                "sequences of one pass are of different models".into(),
            ));
        }
        let alike = |group: &&mut Vec<usize>| {
            let first = &caches[group[0]].kinds[kind];
            first.same_kind(&cache.kinds[kind])
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(n),
            None => groups.push(vec![n]),
        }
    }
    Ok(groups)
}

//! A model's weights on the backend that its passes run on.

use crate::backend::cpu::Cpu;
use crate::backend::no_experts;
use crate::backend::{Backend, Cache, CacheLayout, FEW_SEQUENCES, Phase, SessionBytes};
use crate::config::ModelConfig;
use crate::decoder::{self, Activations, OnLayer, OnLogits, Weights};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model_file::ModelFile;
use crate::options::{LinearMode, LoadOptions};
use crate::sampling::TokenScore;
use crate::turns::{Spare, Turn, on_pool};
use rayon::ThreadPool;
use selfextend_attention::parallel;
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

/// Which new tokens a pass computes logits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitRows {
    /// None.
    None,
    /// The last one.
    Last,
    /// All.
    All,
}

/// One sequence's part of a pass.
pub(crate) struct PassInput<'a> {
    /// Its keys and values.
    pub cache: &'a mut dyn Cache,
    /// Its new tokens.
    pub tokens: &'a [u32],
    /// Which of them get logits.
    pub logits: LogitRows,
}

/// Called with an input, the row among its new tokens, and logits.
pub(crate) type OnRow<'a> = &'a mut (dyn FnMut(usize, usize, &[f32]) + Send);

/// A model's weights where they run, whichever backend that is.
pub(crate) trait DeviceModel: Send + Sync {
    /// Bytes of weights held in memory.
    fn weight_bytes(&self) -> usize;

    /// See [`crate::Model::check_exact_steps`].
    fn has_exact_steps(&self) -> bool;

    /// An empty cache of this backend.
    fn cache(&self, layout: CacheLayout) -> Result<Box<dyn Cache>>;

    /// What such a cache will take.
    fn session_bytes(&self, layout: CacheLayout) -> Result<SessionBytes>;

    /// See [`crate::Model::forward_with`].
    fn forward(
        &self,
        config: &ModelConfig,
        phase: Phase,
        inputs: &mut [PassInput],
        on_layer: OnLayer,
        visit: OnRow,
    ) -> Result<()>;

    /// See [`crate::Session::score`]; one target for each token of the input.
    fn score(
        &self,
        config: &ModelConfig,
        input: PassInput,
        targets: &[u32],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(TokenScore) + Send),
    ) -> Result<()>;
}

/// Reads a file's weights onto the device that the options name.
pub(crate) fn load(
    file: &ModelFile,
    config: &ModelConfig,
    pool: &Arc<ThreadPool>,
    options: &LoadOptions,
) -> Result<Box<dyn DeviceModel>> {
    match options.device {
        Device::Cpu => {
            let linear = options.linear;
            Ok(Box::new(BackendModel::load(
                file,
                config,
                pool,
                Cpu { linear },
                options.check,
            )?))
        }
        Device::Cuda(_) if options.check => Err(Error::Device(
            "outputs are checked on the CPU only: a CUDA device does not hand them out".into(),
        )),
        Device::Cuda(_) if options.linear == LinearMode::F32 => Err(Error::Device(
            "float32 weights are for the CPU: a CUDA device multiplies 16-bit floats".into(),
        )),
        Device::Cuda(_) if options.linear == LinearMode::Fast => Err(Error::Device(
            "8-bit activations are for the CPU: a CUDA device multiplies 16-bit floats".into(),
        )),
        Device::Cuda(_) if config.experts.is_some() => Err(no_experts()),
        Device::Cuda(number) => cuda(number, file, config, pool),
    }
}

/// Weights are 16-bit floats there: bf16 where a file has such weights, else f16.
#[cfg(feature = "cuda")]
fn cuda(
    number: usize,
    file: &ModelFile,
    config: &ModelConfig,
    pool: &Arc<ThreadPool>,
) -> Result<Box<dyn DeviceModel>> {
    use crate::backend::cuda::Cuda;
    let tensors = file.tensors();
    if tensors.iter().any(|tensor| tensor.format == "BF16") {
        let backend = Cuda::<half::bf16>::new(number)?;
        Ok(Box::new(BackendModel::load(
            file, config, pool, backend, false,
        )?))
    } else {
        let backend = Cuda::<half::f16>::new(number)?;
        Ok(Box::new(BackendModel::load(
            file, config, pool, backend, false,
        )?))
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(
    number: usize,
    _file: &ModelFile,
    _config: &ModelConfig,
    _pool: &Arc<ThreadPool>,
) -> Result<Box<dyn DeviceModel>> {
    Err(Error::Device(format!(
        "this build has no CUDA, so no device cuda:{number}: build it with the cargo feature `cuda`, or use the cpu"
    )))
}

/// A backend with its weights and buffers.
struct BackendModel<B: Backend> {
    backend: B,
    weights: Weights<B>,
    /// Whether passes look at every output.
    check: bool,
    spare: Spare<B>,
    /// For a backend whose passes share state: one at a time.
    turn: Turn,
    pool: Arc<ThreadPool>,
}

impl<B: Backend> BackendModel<B> {
    fn load(
        file: &ModelFile,
        config: &ModelConfig,
        pool: &Arc<ThreadPool>,
        backend: B,
        check: bool,
    ) -> Result<Self> {
        let weights = pool.install(|| file.weights(config, &backend))?;
        Ok(Self {
            backend,
            weights,
            check,
            spare: Spare::default(),
            turn: Turn::default(),
            pool: pool.clone(),
        })
    }
}

impl<B: Backend> DeviceModel for BackendModel<B> {
    fn weight_bytes(&self) -> usize {
        self.weights.bytes(&self.backend)
    }

    fn has_exact_steps(&self) -> bool {
        B::EXACT_STEPS
    }

    fn cache(&self, layout: CacheLayout) -> Result<Box<dyn Cache>> {
        Ok(Box::new(self.backend.cache(layout)?))
    }

    fn session_bytes(&self, layout: CacheLayout) -> Result<SessionBytes> {
        self.backend.session_bytes(layout)
    }

    fn forward(
        &self,
        config: &ModelConfig,
        phase: Phase,
        inputs: &mut [PassInput],
        on_layer: OnLayer,
        visit: OnRow,
    ) -> Result<()> {
        self.pass(
            config,
            phase,
            inputs,
            on_layer,
            &mut |rows, owners, activations| {
                let hand_out: OnLogits = &mut |at, logits| {
                    let (input, row) = owners[at];
                    visit(input, row, logits);
                };
                decoder::logits(
                    &self.backend,
                    config,
                    &self.weights,
                    rows,
                    activations,
                    hand_out,
                )
            },
        )
    }

    fn score(
        &self,
        config: &ModelConfig,
        input: PassInput,
        targets: &[u32],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(TokenScore) + Send),
    ) -> Result<()> {
        let phase = Phase::ByLength;
        self.pass(
            config,
            phase,
            &mut [input],
            on_layer,
            &mut |rows, _, activations| {
                let Self {
                    backend, weights, ..
                } = self;
                decoder::scores(backend, config, weights, rows, targets, activations, visit)
            },
        )
    }
}

/// Called with the rows of a pass whose logits are wanted, the inputs that they belong to, and the
/// activations.
type OnRows<'a, B> =
    &'a mut (dyn FnMut(&[usize], &[(usize, usize)], &mut Activations<B>) -> Result<()> + Send);

impl<B: Backend> BackendModel<B> {
    /// All layers, then `end`.
    fn pass(
        &self,
        config: &ModelConfig,
        phase: Phase,
        inputs: &mut [PassInput],
        on_layer: OnLayer,
        end: OnRows<B>,
    ) -> Result<()> {
        let Self {
            backend, weights, ..
        } = self;
        let _turn = if B::THREADED {
            None
        } else {
            Some(self.turn.take()?)
        };
        let mut activations = self.spare.take();
        activations.enter(backend, phase);
        activations.check = self.check;
        let tokens: List<&[u32]> = inputs.iter().map(|input| input.tokens).collect();
        if tokens.iter().all(|tokens| tokens.is_empty()) {
            return Ok(());
        }
        let (rows, owners) = wanted_rows(inputs);
        let mut caches: List<&mut B::Cache> = List::new();
        for input in inputs.iter_mut() {
            let cache: &mut dyn Any = &mut *input.cache;
            let foreign = || Error::Device("a session of a model on another device".into());
            caches.push(cache.downcast_mut().ok_or_else(foreign)?);
        }
        let mut pass = || {
            let (caches, tokens) = (&mut caches, &tokens);
            decoder::forward(
                backend,
                config,
                weights,
                caches,
                tokens,
                &mut activations,
                on_layer,
                &mut |activations| end(&rows, &owners, activations),
            )
        };
        let ended = if B::THREADED {
            on_pool(&self.pool, || parallel::awake(pass))
        } else {
            pass()
        };
        self.spare.put_back(activations);
        ended
    }
}

/// Inline for a decode step of few sequences, which should allocate nothing.
type List<T> = SmallVec<[T; FEW_SEQUENCES]>;

/// Packed rows whose logits are wanted, and the input and row within it that each belongs to.
fn wanted_rows(inputs: &[PassInput]) -> (List<usize>, List<(usize, usize)>) {
    let (mut rows, mut owners, mut first) = (List::new(), List::new(), 0);
    for (n, input) in inputs.iter().enumerate() {
        let count = input.tokens.len();
        let from = match input.logits {
            LogitRows::None => count,
            LogitRows::Last => count.saturating_sub(1),
            LogitRows::All => 0,
        };
        rows.extend((from..count).map(|row| first + row));
        owners.extend((from..count).map(|row| (n, row)));
        first += count;
    }
    (rows, owners)
}

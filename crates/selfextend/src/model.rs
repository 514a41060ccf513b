//! A loaded model and the sequences that run on it.

use crate::backend::Phase;
use crate::backend::cpu::Cpu;
use crate::config::ModelConfig;
use crate::decoder::{self, FEW_SEQUENCES, OnLayer, Weights, Work};
use crate::error::{Error, Result};
use crate::gguf::GgufFile;
use crate::session::{Input, LogitRows, Session, SessionOptions};
use selfextend_attention::{AttentionShape, KvCache, Rope, parallel};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Widen every weight to float32 at load (`--linear f32`): the reference mode.
    pub exact: bool,
}

/// A model in memory. Cloning shares it.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    config: ModelConfig,
    weights: Weights<Cpu>,
    backend: Cpu,
    shape: AttentionShape,
    rope: Arc<Rope>,
    pool: rayon::ThreadPool,
    work: Mutex<Work<Cpu>>,
}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds a model this version cannot run.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self> {
        Self::from_gguf(&GgufFile::open(path)?, options)
    }

    /// Loads the weights of an opened GGUF file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_gguf(gguf: &GgufFile, options: LoadOptions) -> Result<Self> {
        let config = gguf.config()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|n| format!("selfextend-{n}"))
            .build()
            .map_err(|error| Error::Threads {
                threads: options.threads,
                reason: error.to_string(),
            })?;
        let backend = Cpu {
            exact: options.exact,
        };
        let weights = pool.install(|| gguf.weights(&config, &backend))?;
        let shape = AttentionShape::new(config.heads, config.kv_heads, config.head_dim)?;
        let rope = Arc::new(Rope::new(config.rope.clone())?);
        let work = Mutex::default();
        Ok(Self(Arc::new(Inner {
            config,
            weights,
            backend,
            shape,
            rope,
            pool,
            work,
        })))
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> usize {
        self.0.weights.bytes(&self.0.backend)
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.0.pool.current_num_threads()
    }

    /// An empty sequence of at most `context` tokens under a position map.
    pub fn session(&self, options: SessionOptions) -> Session {
        let Inner {
            shape,
            rope,
            config,
            ..
        } = &*self.0;
        let cache = KvCache::new(
            *shape,
            config.layers,
            options.kv_type,
            options.map,
            rope.clone(),
        )
        .with_query_scaling(options.query_scaling);
        Session::new(self.clone(), cache, options)
    }

    /// One pass over the new tokens of several sequences, whose linear layers run together.
    /// `on_layer` is called before each layer and stops the pass with an error; `visit(input,
    /// row, logits)` gets the logits each input asked for, in order; `row` counts its new tokens.
    ///
    /// # Errors
    /// Tokens outside the vocabulary or beyond a session's context, and whatever `on_layer`
    /// returns. The sessions are then as they were before.
    pub fn forward(
        &self,
        inputs: &mut [Input],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(usize, usize, &[f32]) + Send),
    ) -> Result<()> {
        self.forward_in(Phase::ByLength, inputs, on_layer, visit)
    }

    /// [`Model::forward`] through the kernels of one phase. In [`Phase::Prefill`] and
    /// [`Phase::Decode`] (one token a sequence) the logits of a sequence are bit for bit the same
    /// whatever else is in the pass and however a prefill is cut.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_in(
        &self,
        phase: Phase,
        inputs: &mut [Input],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(usize, usize, &[f32]) + Send),
    ) -> Result<()> {
        for input in inputs.iter() {
            input.check(self.config().vocab)?;
        }
        let Inner {
            config,
            weights,
            backend,
            pool,
            work,
            ..
        } = &*self.0;
        // After a panic elsewhere the buffers hold old numbers, which every pass overwrites.
        let work = &mut *work.lock().unwrap_or_else(PoisonError::into_inner);
        work.enter(backend, phase);
        let tokens: List<&[u32]> = inputs.iter().map(|input| input.tokens).collect();
        let (rows, owners) = wanted_rows(inputs);
        let mut caches: List<&mut KvCache> = inputs
            .iter_mut()
            .map(|input| &mut input.session.cache)
            .collect();
        let pass = || {
            decoder::forward(
                backend,
                config,
                weights,
                &mut caches,
                &tokens,
                work,
                on_layer,
            )?;
            decoder::logits(backend, config, weights, &rows, work, &mut |at, logits| {
                let (input, row) = owners[at];
                visit(input, row, logits);
            });
            Ok(())
        };
        pool.install(|| parallel::awake(pass))
    }
}

/// Short in a decode step, which should allocate nothing.
type List<T> = SmallVec<[T; FEW_SEQUENCES]>;

/// Packed rows whose logits are wanted, and the input and row within it that each belongs to.
fn wanted_rows(inputs: &[Input]) -> (List<usize>, List<(usize, usize)>) {
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

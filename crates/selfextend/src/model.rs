//! A loaded model and the sequences that run on it.

use crate::backend::{CacheLayout, Device, Phase};
use crate::config::{LayerAttention, ModelConfig, Rotary};
use crate::decoder::OnLayer;
use crate::error::{Error, Result};
use crate::model_file::ModelFile;
use crate::runner::{self, Engine};
use crate::sampling::TokenScore;
use crate::session::{Fault, Input, Session, SessionOptions};
use selfextend_attention::cache::LayerKind;
use selfextend_attention::{
    AttentionError, AttentionShape, Frequencies, PositionMap, Rope, RopeSpec, parallel,
};
use std::path::Path;
use std::sync::Arc;

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Threads; 0 for one per core.
    pub threads: usize,
    /// Widen every weight to float32 at load (`--linear f32`): the reference mode.
    pub exact: bool,
    /// Under a position map that reaches further than training did, keep the sliding window of a
    /// model whose layers all have one. Switched off by default: the map would be of no use.
    pub keep_sliding_window: bool,
    /// Where the model runs.
    pub device: Device,
}

/// A model in memory. Cloning shares it.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    config: ModelConfig,
    engine: Box<dyn Engine>,
    shape: AttentionShape,
    ropes: Ropes,
    keep_sliding_window: bool,
    pool: Arc<rayon::ThreadPool>,
}

/// The rotary embeddings of a model's layers.
struct Ropes {
    global: Arc<Rope>,
    /// For sessions of at most so many tokens of context.
    short: Option<(usize, Arc<Rope>)>,
    local: Arc<Rope>,
    none: Arc<Rope>,
}

impl Ropes {
    fn new(config: &ModelConfig) -> Result<Self> {
        let rope =
            |spec: &RopeSpec| -> Result<Arc<Rope>> { Ok(Arc::new(Rope::new(spec.clone())?)) };
        let short = config.short_rope.as_ref();
        let short = short.map(|(context, spec)| Ok::<_, Error>((*context, rope(spec)?)));
        Ok(Self {
            global: rope(&config.rope)?,
            short: short.transpose()?,
            local: rope(config.local_rope.as_ref().unwrap_or(&config.rope))?,
            none: rope(&RopeSpec {
                rotary_dim: 0,
                ..RopeSpec::new(config.head_dim, config.rope.theta)
            })?,
        })
    }
}

impl Model {
    /// Loads a GGUF file, or a folder of safetensors files with their config.json.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds a model this version cannot run.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self> {
        Self::from_file(&ModelFile::open(path)?, options)
    }

    /// Loads the weights of an opened file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_file(file: &ModelFile, options: LoadOptions) -> Result<Self> {
        let config = file.config()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|n| format!("selfextend-{n}"))
            .build()
            .map_err(|error| Error::Threads {
                threads: options.threads,
                reason: error.to_string(),
            })?;
        let pool = Arc::new(pool);
        let engine = runner::load(file, &config, &pool, options)?;
        let shape = config.attention_shape()?;
        let ropes = Ropes::new(&config)?;
        Ok(Self(Arc::new(Inner {
            config,
            engine,
            shape,
            ropes,
            keep_sliding_window: options.keep_sliding_window,
            pool,
        })))
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> usize {
        self.0.engine.weight_bytes()
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.0.pool.current_num_threads()
    }

    /// An empty sequence of at most `context` tokens under a position map and frequencies. Where
    /// the frequencies do not fit the model, or the device the session, appending to it says so.
    pub fn session(&self, options: SessionOptions) -> Session {
        let Inner { config, shape, .. } = &*self.0;
        let (rope, fault) = match self.global_rope(&options) {
            Ok(rope) => (rope, None),
            Err(error) => {
                let rope = self.0.ropes.global.clone();
                (rope, Some(Fault::Frequencies(error)))
            }
        };
        // Kinds of layers that attend alike, and the kind of each layer.
        let mut alike: Vec<LayerAttention> = Vec::new();
        let mut number = |layer: &LayerAttention| {
            let known = alike.iter().position(|it| it == layer);
            known.unwrap_or_else(|| {
                alike.push(*layer);
                alike.len() - 1
            })
        };
        let numbers: Vec<usize> = config.attention.iter().map(&mut number).collect();
        let kinds = alike
            .into_iter()
            .map(|layer| self.kind(layer, options.map, &rope))
            .collect();
        let layout = CacheLayout {
            shape: *shape,
            kv_type: options.kv_type,
            kinds,
            layers: numbers,
            scaling: options.query_scaling,
            context: options.context,
            chunk: options.chunk,
        };
        match self.0.engine.cache(layout.clone()) {
            Ok(cache) => Session::new(self.clone(), cache, options, fault),
            Err(error) => {
                let fault = fault.unwrap_or_else(|| Fault::of_cache(error));
                Session::new(
                    self.clone(),
                    Box::new(layout.on_cpu()),
                    options,
                    Some(fault),
                )
            }
        }
    }

    /// The rotary embedding of a session's global layers.
    fn global_rope(&self, options: &SessionOptions) -> Result<Arc<Rope>, AttentionError> {
        let ropes = &self.0.ropes;
        let rope = match &ropes.short {
            Some((longest, short)) if options.context <= *longest => short,
            _ => &ropes.global,
        };
        match options.frequencies {
            Frequencies::Trained => Ok(rope.clone()),
            change => Ok(Arc::new(rope.extended(&change)?)),
        }
    }

    /// How a layer attends. Local layers stay as they were trained; the position map is for the
    /// others.
    fn kind(&self, layer: LayerAttention, map: PositionMap, global: &Arc<Rope>) -> LayerKind {
        let Inner { config, ropes, .. } = &*self.0;
        let everywhere = config.slides_everywhere();
        let switched_off = everywhere && map != PositionMap::Plain && !self.0.keep_sliding_window;
        let is_local = layer.window.is_some() && !everywhere;
        let (rope, knows_positions) = match layer.rotary {
            Rotary::Global => (global, true),
            Rotary::Local => (&ropes.local, true),
            Rotary::None => (&ropes.none, false),
        };
        let map = match is_local || !knows_positions {
            true => PositionMap::Plain,
            false => map,
        };
        let kind = LayerKind::new(map, rope.clone());
        match layer.window.filter(|_| !switched_off) {
            Some(window) => kind.with_window(window),
            None => kind,
        }
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
        self.0
            .engine
            .forward(self.config(), phase, inputs, on_layer, visit)
    }

    /// See [`Session::score`].
    pub(crate) fn score(
        &self,
        input: Input,
        targets: &[u32],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(TokenScore) + Send),
    ) -> Result<()> {
        let engine = &self.0.engine;
        engine.score(self.config(), input, targets, on_layer, visit)
    }

    /// Does something else for each of some sequences on the threads that run the passes, as to
    /// draw their tokens.
    pub fn for_each<T: Send>(&self, tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
        self.0.pool.install(|| parallel::for_each(tasks, work));
    }
}

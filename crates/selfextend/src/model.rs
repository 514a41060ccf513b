//! A loaded model: its configuration, its rotary embeddings, its weights where they run.

use crate::backend::{Cache, CacheLayout, Phase, SessionBytes};
use crate::config::{LayerAttention, ModelConfig, Rotary};
use crate::decoder::OnLayer;
use crate::device_model::{self, DeviceModel, OnRow, PassInput};
use crate::error::{Error, Result};
use crate::model_file::ModelFile;
use crate::options::{LoadOptions, SessionOptions};
use crate::sampling::TokenScore;
use crate::turns::on_pool;
use selfextend_attention::cache::LayerKind;
use selfextend_attention::{
    AttentionError, AttentionShape, Frequencies, PositionMap, Rope, RopeSpec, parallel,
};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// The most threads of a pool: starting more takes minutes, and no machine has the cores.
const MOST_THREADS: usize = 1024;

/// A model in memory. Cloning shares it.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    config: ModelConfig,
    weights: Box<dyn DeviceModel>,
    shape: AttentionShape,
    ropes: Ropes,
    keep_sliding_window: bool,
    pool: Arc<rayon::ThreadPool>,
}

/// The rotary embeddings of a model's layers.
struct Ropes {
    global: Arc<Rope>,
    /// For sessions whose context is at most this many tokens.
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
    pub fn load(path: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let file = ModelFile::open(path.as_ref())?.ignoring(&options.ignored_keys);
        Self::from_file(&file, options)
    }

    /// Loads the weights of an opened file. Which unknown keys it is read in spite of is the file's
    /// own setting ([`ModelFile::ignoring`]).
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_file(file: &ModelFile, options: LoadOptions) -> Result<Self> {
        // Before threads are started: most files that are refused are refused here.
        let config = file.config()?;
        let cannot = |reason| Error::Threads {
            threads: options.threads,
            reason,
        };
        if options.threads > MOST_THREADS {
            return Err(cannot(format!("{MOST_THREADS} are the most")));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|n| format!("selfextend-{n}"))
            .build();
        let pool = Arc::new(pool.map_err(|error| cannot(error.to_string()))?);
        Self::on_threads(file, config, pool, &options)
    }

    /// [`Model::from_file`], but on the threads of another model, whatever the options say of them:
    /// for models whose passes take turns.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_file_beside(file: &ModelFile, options: LoadOptions, other: &Self) -> Result<Self> {
        Self::on_threads(file, file.config()?, other.0.pool.clone(), &options)
    }

    fn on_threads(
        file: &ModelFile,
        config: ModelConfig,
        pool: Arc<rayon::ThreadPool>,
        options: &LoadOptions,
    ) -> Result<Self> {
        let weights = device_model::load(file, &config, &pool, options)?;
        let shape = config.attention_shape()?;
        let ropes = Ropes::new(&config)?;
        Ok(Self(Arc::new(Inner {
            config,
            weights,
            shape,
            ropes,
            keep_sliding_window: options.keep_sliding_window,
            pool,
        })))
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> usize {
        self.0.weights.weight_bytes()
    }

    /// Whether tokens that pass together in [`Phase::Decode`] get bit for bit what each gets alone, which
    /// [`crate::speculate`] needs: on the CPU, not on a device whose kernels depend on their number.
    ///
    /// # Errors
    /// [`Error::Device`] where they do not.
    pub fn check_exact_steps(&self) -> Result<()> {
        if self.0.weights.has_exact_steps() {
            return Ok(());
        }
        Err(Error::Device(
            "speculation is for the CPU: on a CUDA device tokens that are verified together get other logits than each alone, and the text could change"
                .into(),
        ))
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.0.pool.current_num_threads()
    }

    /// What a session under these options will take of the memory that holds keys and values.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn session_bytes(&self, options: &SessionOptions) -> Result<SessionBytes> {
        self.0.weights.session_bytes(self.layout(options)?)
    }

    /// A digest of everything besides weights and tokens that the keys and values of a session depend
    /// on, and of how blocks hold them: maps, rotary embeddings and sliding windows of all layers,
    /// query scaling, storage, kind of device, version. Sessions with the same identity can use each
    /// other's [blocks](crate::Session::block), in other processes too.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn block_identity(&self, options: &SessionOptions) -> Result<String> {
        let CacheLayout {
            shape,
            kinds,
            layers,
            ..
        } = self.layout(options)?;
        let scaling = options.extension.query_scaling();
        let shares = self.session_bytes(options)?.shares_blocks;
        let version = env!("CARGO_PKG_VERSION");
        let all = (
            version,
            shape,
            kinds,
            layers,
            options.kv_type,
            scaling,
            shares,
        );
        let digest = Sha256::digest(format!("{all:?}"));
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// An empty cache for a session.
    pub(crate) fn cache(&self, options: &SessionOptions) -> Result<Box<dyn Cache>> {
        self.0.weights.cache(self.layout(options)?)
    }

    /// How the layers of a session attend.
    fn layout(&self, options: &SessionOptions) -> Result<CacheLayout> {
        let Inner { config, shape, .. } = &*self.0;
        let rope = self.global_rope(options)?;
        // The distinct kinds of layers, and the kind of each layer.
        let mut alike: Vec<LayerAttention> = Vec::new();
        let mut number = |layer: &LayerAttention| {
            let known = alike.iter().position(|it| it == layer);
            known.unwrap_or_else(|| {
                alike.push(*layer);
                alike.len() - 1
            })
        };
        let layers: Vec<usize> = config.attention.iter().map(&mut number).collect();
        let kinds = alike.into_iter();
        let kinds = kinds.map(|layer| self.kind(layer, options.extension.map(), &rope));
        Ok(CacheLayout {
            shape: *shape,
            kinds: kinds.collect(),
            layers,
            options: options.clone(),
        })
    }

    /// The rotary embedding of a session's global layers.
    fn global_rope(&self, options: &SessionOptions) -> Result<Arc<Rope>, AttentionError> {
        let ropes = &self.0.ropes;
        let rope = match &ropes.short {
            Some((longest, short)) if options.extension.context() <= *longest => short,
            _ => &ropes.global,
        };
        match options.extension.frequencies() {
            Frequencies::Trained => Ok(rope.clone()),
            change => Ok(Arc::new(rope.extended(&change)?)),
        }
    }

    /// How a layer attends. Local layers stay as they were trained; the position map applies to the
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
        let map = if is_local || !knows_positions {
            PositionMap::Plain
        } else {
            map
        };
        let kind = LayerKind::new(map, rope.clone());
        match layer.window.filter(|_| !switched_off) {
            Some(window) => kind.with_window(window),
            None => kind,
        }
    }

    /// See [`Model::forward_with`].
    pub(crate) fn pass(
        &self,
        phase: Phase,
        inputs: &mut [PassInput],
        on_layer: OnLayer,
        visit: OnRow,
    ) -> Result<()> {
        let Inner {
            weights, config, ..
        } = &*self.0;
        weights.forward(config, phase, inputs, on_layer, visit)
    }

    /// See [`crate::Session::score`].
    pub(crate) fn score(
        &self,
        input: PassInput,
        targets: &[u32],
        on_layer: OnLayer,
        visit: &mut (dyn FnMut(TokenScore) + Send),
    ) -> Result<()> {
        let Inner {
            weights, config, ..
        } = &*self.0;
        weights.score(config, input, targets, on_layer, visit)
    }

    /// Whether both are the same model in memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Runs other work, one task per item, on the threads that run the passes: drawing tokens, for
    /// example.
    pub fn for_each<T: Send>(&self, tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
        on_pool(&self.0.pool, || parallel::for_each(tasks, work));
    }
}

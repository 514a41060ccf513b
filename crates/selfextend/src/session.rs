//! One sequence: its tokens, its KV cache and its settings.

use crate::backend::{Block, Cache};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampling::TokenScore;
use crate::settings::ContextSettings;
use selfextend_attention::{AttentionError, Frequencies, KvType, PositionMap, QueryScaling};

/// How a sequence runs.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// The most tokens it may hold.
    pub context: usize,
    /// The map from query and key to a relative position.
    pub map: PositionMap,
    /// How the model's frequencies are changed.
    pub frequencies: Frequencies,
    /// What queries are multiplied by.
    pub query_scaling: QueryScaling,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Tokens of a prefill that pass through the model together.
    pub chunk: usize,
}

impl From<ContextSettings> for SessionOptions {
    fn from(settings: ContextSettings) -> Self {
        let ContextSettings {
            context,
            map,
            frequencies,
            query_scaling,
            ..
        } = settings;
        Self {
            context,
            map,
            frequencies,
            query_scaling,
            kv_type: KvType::default(),
            chunk: DEFAULT_CHUNK,
        }
    }
}

/// Default tokens of a prefill chunk: the cost of widening the weights is spread over them.
pub const DEFAULT_CHUNK: usize = 512;

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
pub struct Input<'a> {
    /// The sequence.
    pub session: &'a mut Session,
    /// Its new tokens.
    pub tokens: &'a [u32],
    /// Which of them get logits.
    pub logits: LogitRows,
}

impl Input<'_> {
    pub(crate) fn check(&self, vocab: usize) -> Result<()> {
        if let Some(fault) = &self.session.fault {
            return Err(fault.clone().into());
        }
        let (context, used) = (self.session.options.context, self.session.len());
        if self.tokens.len() > context.saturating_sub(used) {
            return Err(Error::ContextFull {
                context,
                used,
                more: self.tokens.len(),
            });
        }
        check_tokens(self.tokens, vocab)
    }
}

fn check_tokens(tokens: &[u32], vocab: usize) -> Result<()> {
    match tokens.iter().position(|&id| id as usize >= vocab) {
        Some(position) => Err(Error::Token {
            id: tokens[position],
            position,
            vocab,
        }),
        None => Ok(()),
    }
}

/// A sequence of tokens on a model. It knows ids only; text lives one floor up.
pub struct Session {
    model: Model,
    pub(crate) cache: Box<dyn Cache>,
    options: SessionOptions,
    /// Why nothing can be appended.
    fault: Option<Fault>,
}

/// Why nothing can be appended to a session.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Frequencies that do not fit the model.
    Frequencies(AttentionError),
    /// A device without kernels for it.
    Device(String),
    /// One that has no memory left.
    Memory(String),
}

impl Fault {
    /// Why there is no cache.
    pub(crate) fn of_cache(error: Error) -> Self {
        match error {
            Error::DeviceMemory(reason) => Self::Memory(reason),
            error => Self::Device(error.to_string()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Frequencies(error) => error.into(),
            Fault::Device(reason) => Self::Device(reason),
            Fault::Memory(reason) => Self::DeviceMemory(reason),
        }
    }
}

impl Session {
    pub(crate) fn new(
        model: Model,
        cache: Box<dyn Cache>,
        options: SessionOptions,
        fault: Option<Fault>,
    ) -> Self {
        Self {
            model,
            cache,
            options,
            fault,
        }
    }

    /// Tokens it holds.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Its settings.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// The model it runs on.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Why nothing can be appended, if so: frequencies that do not fit the model, or a device without
    /// kernels or memory for the session.
    pub fn fault(&self) -> Option<Error> {
        self.fault.clone().map(Error::from)
    }

    /// Takes the memory that so many tokens in all need, on a device, which otherwise takes it by
    /// doubling; those of the context at most. Forks take as much.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] where there is too little; the session can go on as it could before.
    pub fn reserve(&mut self, tokens: usize) -> Result<()> {
        self.cache.reserve(tokens)
    }

    /// Bytes of its KV cache, on the device where the model runs on one.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Appends tokens in chunks and returns the logits of the last one. `progress(done)` is called
    /// before each layer with the tokens appended so far, and stops the work with an error.
    ///
    /// # Errors
    /// As [`Model::forward`]; chunks that were finished before stay appended.
    pub fn append(
        &mut self,
        tokens: &[u32],
        progress: &mut (dyn FnMut(usize) -> Result<()> + Send),
    ) -> Result<Vec<f32>> {
        let mut last = Vec::new();
        self.in_chunks(tokens, LogitRows::Last, progress, &mut |_, row| {
            last.clear();
            last.extend_from_slice(row);
        })?;
        Ok(last)
    }

    /// Appends tokens in chunks; `visit(token, logits)` gets the logits of every one, in order.
    ///
    /// # Errors
    /// As [`Session::append`].
    pub fn append_all(
        &mut self,
        tokens: &[u32],
        progress: &mut (dyn FnMut(usize) -> Result<()> + Send),
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<()> {
        self.in_chunks(tokens, LogitRows::All, progress, visit)
    }

    /// Appends tokens in chunks; `visit(token, score)` hears, in order, how probable each of them
    /// made the one of `targets` that came after it. On a device the logits stay there, which is
    /// much faster than [`Session::append_all`].
    ///
    /// # Errors
    /// As [`Session::append`], and of targets that the vocabulary has not.
    ///
    /// # Panics
    /// When there are not as many targets as tokens.
    pub fn score(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        progress: &mut (dyn FnMut(usize) -> Result<()> + Send),
        visit: &mut (dyn FnMut(usize, TokenScore) + Send),
    ) -> Result<()> {
        assert_eq!(tokens.len(), targets.len(), "a target for each token");
        check_tokens(targets, self.model.config().vocab)?;
        self.check(tokens, LogitRows::All)?;
        let model = self.model.clone();
        let chunk = self.options.chunk.max(1);
        let mut token = 0;
        for (some, targets) in tokens.chunks(chunk).zip(targets.chunks(chunk)) {
            let done = token;
            let input = Input {
                session: self,
                tokens: some,
                logits: LogitRows::All,
            };
            model.score(input, targets, &mut |_| progress(done), &mut |score| {
                visit(token, score);
                token += 1;
            })?;
        }
        Ok(())
    }

    /// Nothing is appended where not everything would fit.
    fn check(&mut self, tokens: &[u32], logits: LogitRows) -> Result<()> {
        let whole = Input {
            session: self,
            tokens,
            logits,
        };
        whole.check(whole.session.model.config().vocab)
    }

    fn in_chunks(
        &mut self,
        tokens: &[u32],
        wanted: LogitRows,
        progress: &mut (dyn FnMut(usize) -> Result<()> + Send),
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<()> {
        self.check(tokens, wanted)?;
        let model = self.model.clone();
        let chunk = self.options.chunk.max(1);
        for (n, some) in tokens.chunks(chunk).enumerate() {
            let done = n * chunk;
            let last = done + some.len() == tokens.len();
            let logits = if wanted == LogitRows::Last && !last {
                LogitRows::None
            } else {
                wanted
            };
            let input = Input {
                session: self,
                tokens: some,
                logits,
            };
            model.forward(
                &mut [input],
                &mut |_| progress(done),
                &mut |_, row, logits| visit(done + row, logits),
            )?;
        }
        Ok(())
    }

    /// Whether blocks and forks share this session's memory, as on the CPU; a device copies them.
    pub fn shares_blocks(&self) -> bool {
        self.cache.shares_blocks()
    }

    /// The KV cache's block `number` (tokens `number * PAGE..`, as far as they are stored), for
    /// others; `None` also where a device has no memory for a copy.
    pub fn block(&self, number: usize) -> Option<Block> {
        self.cache.block(number)
    }

    /// Continues with the first `tokens` tokens of a block of another session that runs under the
    /// same options and holds the same tokens up to there: see
    /// [`selfextend_attention::KvCache::push_block`].
    ///
    /// # Errors
    /// A block of another device, or too little memory for a copy; the session is as it was.
    ///
    /// # Panics
    /// On the CPU, when this session does not end at the start of a block.
    pub fn push_block(&mut self, block: &Block, tokens: usize) -> Result<()> {
        self.cache.push_block(block, tokens)
    }

    /// A block from the bytes of one of a session under the same options: see
    /// [`selfextend_attention::KvCache::read_block`].
    ///
    /// # Errors
    /// A device without memory for it.
    pub fn read_block(&self, bytes: &[u8]) -> Result<Option<Block>> {
        self.cache.read_block(bytes)
    }

    /// Bytes of one block of its KV cache.
    pub fn block_bytes(&self) -> usize {
        self.cache.block_bytes()
    }

    /// Bytes that decoding needs beside the blocks, in a context that is full.
    pub fn ring_bytes(&self) -> usize {
        self.cache.ring_bytes()
    }

    /// Forgets every token from `len` on and returns how many are left; what follows is bit for bit
    /// what a fresh session gives (on a device, up to rounding). Under a method that forgets
    /// (StreamingLLM, LM-Infinite) none are left on the CPU where tokens would be seen again that are
    /// gone; a device keeps them.
    #[must_use = "fewer tokens than asked for may be left"]
    pub fn truncate(&mut self, len: usize) -> usize {
        self.cache.truncate(len)
    }

    /// A second session that continues from the same tokens. Full pages of the cache are shared on
    /// the CPU; a device copies them, and where it has no memory for that, the new session is
    /// empty and its [fault](Session::fault) says so.
    pub fn fork(&self) -> Self {
        match self.cache.fork() {
            Ok(cache) => Self {
                model: self.model.clone(),
                cache,
                options: self.options,
                fault: self.fault.clone(),
            },
            Err(error) => Self {
                fault: Some(Fault::of_cache(error)),
                ..self.model.session(self.options)
            },
        }
    }
}

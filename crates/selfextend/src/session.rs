//! One sequence: its tokens, its KV cache and its settings.

use crate::backend::{Block, Cache, FEW_SEQUENCES, Phase};
use crate::device_model::{LogitRows, PassInput};
use crate::error::{Error, Result};
use crate::extension::Extension;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::sampling::TokenScore;
use selfextend_attention::cache::MOST_STEPS;
use smallvec::SmallVec;

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
    fn part(&mut self) -> PassInput<'_> {
        PassInput {
            cache: &mut *self.session.cache,
            tokens: self.tokens,
            logits: self.logits,
        }
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

fn check_steps(tokens: &[u32]) -> Result<()> {
    match tokens.len() {
        asked if asked > MOST_STEPS => Err(Error::Steps {
            asked,
            most: MOST_STEPS,
        }),
        _ => Ok(()),
    }
}

/// A sequence of tokens on a model. It knows ids only; [`TextModel`](crate::TextModel) knows text.
pub struct Session {
    model: Model,
    cache: Box<dyn Cache>,
    options: SessionOptions,
}

impl Model {
    /// An empty sequence under these options, or under an [`Extension`] and default options.
    ///
    /// # Errors
    /// Frequencies that do not fit the model, or a device without kernels or memory for the session.
    pub fn session(&self, options: impl Into<SessionOptions>) -> Result<Session> {
        let options = options.into();
        Ok(Session {
            model: self.clone(),
            cache: self.cache(&options)?,
            options,
        })
    }

    /// One pass over the new tokens of several sequences, whose linear layers run together.
    /// `visit(input, row, logits)` gets the logits each input asked for, in order; `row` counts its
    /// new tokens. In [`Phase::Prefill`] and [`Phase::Decode`] (at most [`MOST_STEPS`] tokens a
    /// sequence) the logits of a sequence on the CPU are bit for bit the same whatever else is in the
    /// pass, however a prefill is cut and however many decode steps are taken together.
    ///
    /// # Errors
    /// Sessions of another model, tokens outside the vocabulary or beyond a session's context, more
    /// decode steps than [`MOST_STEPS`], logits that are no numbers. The sessions are then as they were before, bit for bit; also after a panic
    /// in `visit`.
    pub fn forward(
        &self,
        phase: Phase,
        inputs: &mut [Input],
        visit: impl FnMut(usize, usize, &[f32]) + Send,
    ) -> Result<()> {
        self.forward_with(phase, inputs, |_| Ok(()), visit)
    }

    /// [`Model::forward`] that can be stopped: `on_layer` is called before each layer with its number
    /// and ends the pass with an error, or a panic.
    ///
    /// Passes of one model may run at the same time, also from tasks of a rayon pool. The callbacks
    /// run on the model's threads; they must not wait for the pool that the call came from.
    ///
    /// # Errors
    /// As [`Model::forward`], and whatever `on_layer` returns.
    pub fn forward_with(
        &self,
        phase: Phase,
        inputs: &mut [Input],
        mut on_layer: impl FnMut(usize) -> Result<()> + Send,
        mut visit: impl FnMut(usize, usize, &[f32]) + Send,
    ) -> Result<()> {
        for input in inputs.iter() {
            if !self.is(&input.session.model) {
                return Err(Error::OtherModel);
            }
            input.session.check(input.tokens)?;
            if phase == Phase::Decode {
                check_steps(input.tokens)?;
            }
        }
        let mut parts: SmallVec<[PassInput; FEW_SEQUENCES]> =
            inputs.iter_mut().map(Input::part).collect();
        self.pass(phase, &mut parts, &mut on_layer, &mut visit)
    }
}

impl Session {
    /// Tokens it holds.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// The most tokens it may hold.
    pub fn context(&self) -> usize {
        self.options.extension.context()
    }

    /// How it attends.
    pub fn extension(&self) -> &Extension {
        &self.options.extension
    }

    /// Its settings.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// The model it runs on.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// On a device, allocates the memory for so many tokens in all, but not beyond the context; without
    /// it, memory grows by doubling. Forks allocate as much.
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

    /// Appends tokens and returns the logits of the last one.
    ///
    /// # Errors
    /// Tokens outside the vocabulary or beyond the context, and then nothing is appended; on a device,
    /// too little memory.
    pub fn append(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.append_with(tokens, |_| Ok(()))
    }

    /// [`Session::append`] that tells how far it is and can be stopped: `progress(done)` is called
    /// before each layer of each chunk with the tokens appended so far, and ends the work with an
    /// error.
    ///
    /// # Errors
    /// As [`Session::append`], and whatever `progress` returns; chunks that were finished before stay
    /// appended.
    pub fn append_with(
        &mut self,
        tokens: &[u32],
        mut progress: impl FnMut(usize) -> Result<()> + Send,
    ) -> Result<Vec<f32>> {
        let mut last = Vec::new();
        let visit = &mut |_, row: &[f32]| {
            last.clear();
            last.extend_from_slice(row);
        };
        self.in_chunks(tokens, LogitRows::Last, &mut progress, visit)?;
        Ok(last)
    }

    /// Appends tokens; `visit(token, logits)` gets the logits of every one, in order.
    ///
    /// # Errors
    /// As [`Session::append`].
    pub fn append_all(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]) + Send,
    ) -> Result<()> {
        self.in_chunks(tokens, LogitRows::All, &mut |_| Ok(()), &mut visit)
    }

    /// Appends at most [`MOST_STEPS`] tokens as so many decode steps in one pass; `visit(token, logits)`
    /// gets the logits of every one, in order. On the CPU they are bit for bit those of appending each
    /// alone, and so is what the session holds.
    ///
    /// # Errors
    /// As [`Session::append`], and more tokens than that.
    pub fn append_steps(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]) + Send,
    ) -> Result<()> {
        self.check(tokens)?;
        check_steps(tokens)?;
        let part = PassInput {
            cache: &mut *self.cache,
            tokens,
            logits: LogitRows::All,
        };
        let visit = &mut |_, row, logits: &[f32]| visit(row, logits);
        let phase = Phase::Decode;
        self.model.pass(phase, &mut [part], &mut |_| Ok(()), visit)
    }

    /// Appends tokens; `visit(token, score)` is told, in order, how probable each of them made the
    /// one of `targets` that came after it. On a device the logits stay there, which is much faster
    /// than [`Session::append_all`].
    ///
    /// # Errors
    /// As [`Session::append`], and targets outside the vocabulary.
    ///
    /// # Panics
    /// When there are not as many targets as tokens.
    pub fn score(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        visit: impl FnMut(usize, TokenScore) + Send,
    ) -> Result<()> {
        self.score_with(tokens, targets, |_| Ok(()), visit)
    }

    /// [`Session::score`] with `progress` as in [`Session::append_with`].
    ///
    /// # Errors
    /// As [`Session::score`], and whatever `progress` returns.
    ///
    /// # Panics
    /// As [`Session::score`].
    pub fn score_with(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        mut progress: impl FnMut(usize) -> Result<()> + Send,
        mut visit: impl FnMut(usize, TokenScore) + Send,
    ) -> Result<()> {
        assert_eq!(tokens.len(), targets.len(), "a target for each token");
        check_tokens(targets, self.model.config().vocab)?;
        self.check(tokens)?;
        let chunk = self.options.chunk.max(1);
        let mut token = 0;
        for (some, targets) in tokens.chunks(chunk).zip(targets.chunks(chunk)) {
            let done = token;
            let part = PassInput {
                cache: &mut *self.cache,
                tokens: some,
                logits: LogitRows::All,
            };
            let on_layer = &mut |_| progress(done);
            self.model.score(part, targets, on_layer, &mut |score| {
                visit(token, score);
                token += 1;
            })?;
        }
        Ok(())
    }

    /// Nothing is appended where not everything would fit.
    fn check(&self, tokens: &[u32]) -> Result<()> {
        let (context, used) = (self.context(), self.len());
        if tokens.len() > context.saturating_sub(used) {
            return Err(Error::ContextFull {
                context,
                used,
                more: tokens.len(),
            });
        }
        check_tokens(tokens, self.model.config().vocab)
    }

    fn in_chunks(
        &mut self,
        tokens: &[u32],
        wanted: LogitRows,
        progress: &mut (dyn FnMut(usize) -> Result<()> + Send),
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<()> {
        self.check(tokens)?;
        let chunk = self.options.chunk.max(1);
        for (n, some) in tokens.chunks(chunk).enumerate() {
            let done = n * chunk;
            let last = done + some.len() == tokens.len();
            let logits = if wanted == LogitRows::Last && !last {
                LogitRows::None
            } else {
                wanted
            };
            let part = PassInput {
                cache: &mut *self.cache,
                tokens: some,
                logits,
            };
            self.model.pass(
                Phase::ByLength,
                &mut [part],
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

    /// Block `number` of the KV cache (tokens `number * PAGE..`, as far as they are stored), to be shared
    /// with other sessions; `None` also where a device has no memory for a copy.
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

    /// Forgets every token from `len` on and returns how many are left; what follows is bit for bit
    /// what a fresh session gives (on a device, up to rounding). Under a method that forgets
    /// (StreamingLLM, LM-Infinite), none are left on the CPU where the next query would see tokens that
    /// have been freed, which those of the last [`PAGE`](crate::PAGE) queries never are; a device keeps
    /// them.
    #[must_use = "fewer tokens than asked for may be left"]
    pub fn truncate(&mut self, len: usize) -> usize {
        self.cache.truncate(len)
    }

    /// A second session that continues from the same tokens. Full pages of the cache are shared on
    /// the CPU; a device copies them.
    ///
    /// # Errors
    /// A device without memory for the copy.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self {
            model: self.model.clone(),
            cache: self.cache.fork()?,
            options: self.options.clone(),
        })
    }
}

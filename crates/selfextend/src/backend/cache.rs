//! Keys and values of one sequence, whichever backend they live on.

use super::block::{Block, Held};
use crate::error::{Error, Result};
use crate::options::SessionOptions;
use selfextend_attention::cache::{LayerKind, PAGE};
use selfextend_attention::{AttentionShape, KvCache};
use std::any::Any;

/// What a cache is made for.
#[derive(Debug, Clone)]
pub struct CacheLayout {
    /// Heads and head size.
    pub shape: AttentionShape,
    /// What layers differ in.
    pub kinds: Vec<LayerKind>,
    /// The kind of each layer.
    pub layers: Vec<usize>,
    /// How the sequence runs.
    pub options: SessionOptions,
}

/// What a session will take of the memory that holds keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionBytes {
    /// Bytes of a block: [`PAGE`] tokens in every layer.
    pub block: usize,
    /// Bytes that decoding needs beside the blocks, at the full context.
    pub rings: usize,
    /// The session's context in tokens.
    pub context: usize,
    /// Whether forks and blocks share a session's memory, as on the CPU; on a device they are copies.
    pub shares_blocks: bool,
}

impl SessionBytes {
    /// Bytes of so many tokens, rings included.
    pub fn of(&self, tokens: usize) -> usize {
        tokens.div_ceil(PAGE) * self.block + self.rings
    }

    /// Bytes of a full context.
    pub fn full(&self) -> usize {
        self.of(self.context)
    }
}

/// Keys and values of one sequence.
pub trait Cache: Any + Send + Sync {
    /// Tokens whose keys and values are stored in every layer.
    fn len(&self) -> usize;

    /// Whether no token is stored.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated.
    fn bytes(&self) -> usize;

    /// Counts the tokens of a pass as stored, after every layer has attended.
    fn commit(&mut self, tokens: usize);

    /// See [`KvCache::truncate`].
    fn truncate(&mut self, len: usize) -> usize;

    /// Allocates memory for so many tokens in all, where it is not allocated page by page; forks
    /// allocate as much.
    ///
    /// # Errors
    /// Too little memory; what is stored stays.
    fn reserve(&mut self, tokens: usize) -> Result<()> {
        let _ = tokens;
        Ok(())
    }

    /// A second sequence that continues from the same tokens.
    ///
    /// # Errors
    /// Too little memory.
    fn fork(&self) -> Result<Box<dyn Cache>>;

    /// Whether blocks and forks share memory with this sequence; elsewhere they are copies.
    fn shares_blocks(&self) -> bool;

    /// See [`KvCache::block`]; `None` also where there is no memory for a copy.
    fn block(&self, number: usize) -> Option<Block>;

    /// See [`KvCache::push_block`].
    ///
    /// # Errors
    /// A block of another backend, or no memory for a copy.
    fn push_block(&mut self, block: &Block, tokens: usize) -> Result<()>;

    /// See [`KvCache::read_block`].
    ///
    /// # Errors
    /// Too little memory.
    fn read_block(&self, bytes: &[u8]) -> Result<Option<Block>>;

    /// Bytes of a block.
    fn block_bytes(&self) -> usize;

    /// Bytes that decoding needs beside the blocks, whatever is stored so far.
    fn ring_bytes(&self) -> usize;
}

pub(super) fn foreign_block() -> Error {
    Error::Device("the block belongs to a cache on another device".into())
}

impl CacheLayout {
    /// A cache of the CPU, which allocates nothing before it is used.
    pub(crate) fn on_cpu(self) -> KvCache {
        let SessionOptions {
            extension, kv_type, ..
        } = self.options;
        KvCache::with_kinds(self.shape, kv_type, self.kinds, self.layers)
            .with_query_scaling(extension.query_scaling())
    }
}

impl Cache for KvCache {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn commit(&mut self, tokens: usize) {
        self.commit(tokens);
    }

    fn truncate(&mut self, len: usize) -> usize {
        self.truncate(len)
    }

    fn fork(&self) -> Result<Box<dyn Cache>> {
        Ok(Box::new(self.clone()))
    }

    fn shares_blocks(&self) -> bool {
        true
    }

    fn block(&self, number: usize) -> Option<Block> {
        self.block(number).map(|block| Block(Held::Pages(block)))
    }

    fn push_block(&mut self, block: &Block, tokens: usize) -> Result<()> {
        let Block(Held::Pages(block)) = block else {
            return Err(foreign_block());
        };
        self.push_block(block, tokens);
        Ok(())
    }

    fn read_block(&self, bytes: &[u8]) -> Result<Option<Block>> {
        let block = self.read_block(bytes);
        Ok(block.map(|block| Block(Held::Pages(block))))
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes()
    }

    fn ring_bytes(&self) -> usize {
        self.ring_bytes()
    }
}

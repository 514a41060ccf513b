//! Keys and values of a page of tokens, for sequences that start alike.

use crate::error::Result;
use selfextend_attention::cache::KvBlock;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Keys and values of up to [`PAGE`](selfextend_attention::cache::PAGE) tokens in every layer, for
/// sessions under the same options that begin with the same tokens. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Block(pub(super) Held);

#[derive(Debug, Clone)]
pub(super) enum Held {
    /// Pages of the CPU's caches, which sequences share.
    Pages(KvBlock),
    /// On a device, whose caches copy it.
    #[cfg_attr(not(any(feature = "cuda", feature = "unstable")), allow(dead_code))]
    Device(Arc<dyn DeviceBlock>),
}

/// A block in a device's memory.
pub trait DeviceBlock: Any + Debug + Send + Sync {
    /// Bytes allocated.
    fn bytes(&self) -> usize;

    /// Its numbers: for [`Cache::read_block`](super::Cache::read_block).
    ///
    /// # Errors
    /// The device's.
    fn to_bytes(&self) -> Result<Vec<u8>>;
}

impl Block {
    /// One in a device's memory.
    #[cfg(any(feature = "cuda", feature = "unstable"))]
    pub fn on_device(block: Arc<dyn DeviceBlock>) -> Self {
        Self(Held::Device(block))
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Held::Pages(block) => block.bytes(),
            Held::Device(block) => block.bytes(),
        }
    }

    /// Its numbers: for [`Session::read_block`](crate::Session::read_block).
    ///
    /// # Errors
    /// The device's.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        match &self.0 {
            Held::Pages(block) => Ok(block.to_bytes()),
            Held::Device(block) => block.to_bytes(),
        }
    }

    /// Whether a sequence, or another block, holds it too.
    pub fn is_shared(&self) -> bool {
        match &self.0 {
            Held::Pages(block) => block.is_shared(),
            Held::Device(block) => Arc::strong_count(block) > 1,
        }
    }
}

//! Keys and values of a page of tokens, for sequences that start alike.

use crate::error::Result;
use selfextend_attention::cache::KvBlock;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Keys and values of up to [`PAGE`](selfextend_attention::cache::PAGE) tokens in every layer.
/// Cloning shares them.
#[derive(Debug, Clone)]
pub enum Block {
    /// Pages of the CPU's caches, which sequences share.
    Pages(KvBlock),
    /// On a device, whose caches copy it.
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
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Pages(block) => block.bytes(),
            Self::Device(block) => block.bytes(),
        }
    }

    /// Its numbers: for [`Session::read_block`](crate::Session::read_block).
    ///
    /// # Errors
    /// The device's.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Pages(block) => Ok(block.to_bytes()),
            Self::Device(block) => block.to_bytes(),
        }
    }

    /// Whether a sequence, or another block, holds it too.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Pages(block) => block.is_shared(),
            Self::Device(block) => Arc::strong_count(block) > 1,
        }
    }
}

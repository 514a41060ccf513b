//! One page of every layer, to be shared between sequences that start alike.

use super::page::with_stored;
use super::{KvCache, KvType, PAGE, Page};
use crate::attention::AttentionShape;
use half::f16;
use std::sync::Arc;

/// Keys and values of up to [`PAGE`] tokens in every layer. Cloning shares them.
#[derive(Debug, Clone)]
pub struct KvBlock {
    pages: Vec<Arc<Page>>,
}

impl KvBlock {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter();
        pages
            .map(|page| with_stored!(&**page, |stored| super::Stored::bytes(stored)))
            .sum()
    }

    /// Whether a sequence, or another block, holds it too.
    pub fn is_shared(&self) -> bool {
        self.pages
            .first()
            .is_some_and(|page| Arc::strong_count(page) > 1)
    }
}

impl KvCache {
    /// The block of tokens `number * PAGE..`, as far as they are stored.
    pub fn block(&self, number: usize) -> Option<KvBlock> {
        if number * PAGE >= self.len {
            return None;
        }
        let pages = self.layers.iter().map(|layer| layer.pages.share(number));
        Some(KvBlock {
            pages: pages.collect::<Option<_>>()?,
        })
    }

    /// Continues with the first `tokens` tokens of a block of another cache with the same map,
    /// shape and storage whose tokens, from the first on, are this one's. The page is shared and
    /// copied only when tokens are appended to it.
    ///
    /// # Panics
    /// When this cache does not end at the start of a page, or the block has other layers.
    pub fn push_block(&mut self, block: &KvBlock, tokens: usize) {
        assert!(self.len.is_multiple_of(PAGE) && tokens <= PAGE);
        assert_eq!(self.layers.len(), block.pages.len());
        for (layer, page) in self.layers.iter_mut().zip(&block.pages) {
            layer.pages.push(page.clone());
        }
        self.len += tokens;
    }

    /// Bytes that a block of this cache has.
    pub fn block_bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.pages.page_bytes())
            .sum()
    }

    /// Bytes of the window rings once a decode step has been made.
    pub fn ring_bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.ring.capacity()).sum()
    }
}

impl KvType {
    /// Bytes of a page of one layer.
    pub(super) fn page_bytes(self, shape: AttentionShape) -> usize {
        let (keys, values) = (shape.head_dim(), shape.padded_dim());
        let blocks = |components: usize| components.div_ceil(crate::simd::linear::BLOCK);
        let token = match self {
            Self::F32 => (keys + values) * size_of::<f32>(),
            Self::F16 => (keys + values) * size_of::<f16>(),
            Self::Q8_0 => keys + values + 2 * blocks(keys) * size_of::<f16>(),
        };
        PAGE * shape.kv_heads() * token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_large_as_they_say() {
        for (heads, dim) in [(1, 8), (3, 64), (2, 80), (1, 33)] {
            let shape = AttentionShape::new(heads, heads, dim).unwrap();
            for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
                let page = Page::new(kv_type, shape);
                let bytes = with_stored!(&page, |stored| super::super::Stored::bytes(stored));
                assert_eq!(bytes, kv_type.page_bytes(shape), "{kv_type:?} {dim}");
            }
        }
    }
}

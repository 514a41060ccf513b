//! One page of every layer, to be shared between sequences that start with the same text.

use super::kv_cache::KvCache;
use super::page::{Page, with_stored};
use super::stored::{PAGE, Stored};
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
            .map(|page| with_stored!(&**page, |stored| stored.bytes()))
            .sum()
    }

    /// Its numbers, little-endian, layer after layer: for [`KvCache::read_block`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        for page in &self.pages {
            with_stored!(&**page, |stored| stored.write(&mut bytes));
        }
        bytes
    }

    /// Whether a sequence, or another block, holds it too, be it in one layer only: a sequence frees
    /// pages of layers with a sliding window and keeps those of the others.
    pub fn is_shared(&self) -> bool {
        self.pages.iter().any(|page| Arc::strong_count(page) > 1)
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

    /// Continues with the first `tokens` tokens of a block of another cache with the same map, shape
    /// and storage, whose text is the same up to there. The page is shared, and copied only when
    /// tokens are appended to it.
    ///
    /// # Panics
    /// When this cache does not end at the end of a page, or the block has another number of layers.
    pub fn push_block(&mut self, block: &KvBlock, tokens: usize) {
        assert!(self.len.is_multiple_of(PAGE) && tokens <= PAGE);
        assert_eq!(self.layers.len(), block.pages.len());
        for (layer, page) in self.layers.iter_mut().zip(&block.pages) {
            // An uncounted pass may have added pages.
            layer.pages.truncate(self.len);
            layer.pages.push(page.clone());
        }
        self.len += tokens;
    }

    /// A block from what [`KvBlock::to_bytes`] gave for one of a cache of this shape and storage;
    /// `None` when the length does not fit.
    pub fn read_block(&self, mut bytes: &[u8]) -> Option<KvBlock> {
        let mut pages = Vec::with_capacity(self.layers.len());
        for _ in &self.layers {
            let mut page = Page::new(self.kv_type, self.shape);
            with_stored!(&mut page, |stored| stored.read(&mut bytes)?);
            pages.push(Arc::new(page));
        }
        bytes.is_empty().then_some(KvBlock { pages })
    }

    /// Bytes that a block of this cache has.
    pub fn block_bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.pages.page_bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionShape, KvType, PositionMap, Rope, RopeSpec};

    #[test]
    fn blocks_survive_being_written() {
        let shape = AttentionShape::new(2, 1, 8).unwrap();
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4] {
            let rope = Rope::new(RopeSpec::new(8, 1e4)).unwrap();
            let mut cache = KvCache::new(shape, 2, kv_type, PositionMap::Plain, rope);
            let plan = cache.plan(3);
            let numbers: Vec<f32> = (0..24).map(|i| (i as f32).sin()).collect();
            for layer in 0..2 {
                cache.append(layer, &plan, &numbers, &numbers);
            }
            cache.commit(3);
            let bytes = cache.block(0).unwrap().to_bytes();
            assert_eq!(bytes.len(), cache.block_bytes());
            assert!(bytes.iter().any(|byte| *byte != 0));
            assert_eq!(cache.read_block(&bytes).unwrap().to_bytes(), bytes);
            assert!(cache.read_block(&bytes[1..]).is_none());
            assert!(cache.read_block(&[&bytes[..], &[0]].concat()).is_none());
        }
    }

    #[test]
    fn pages_are_as_large_as_they_say() {
        for (heads, dim) in [(1, 8), (3, 64), (2, 80), (1, 33)] {
            let shape = AttentionShape::new(heads, heads, dim).unwrap();
            for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4] {
                let page = Page::new(kv_type, shape);
                let bytes = with_stored!(&page, |stored| stored.bytes());
                assert_eq!(bytes, kv_type.page_bytes(shape), "{kv_type:?} {dim}");
            }
        }
    }
}

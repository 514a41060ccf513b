//! A radix tree of prompts over token ids, in blocks of a page.
//!
//! Keys depend on the map they were rotated for, so each rung of the ladder has a tree of its own.
//! A node is a block that a prompt filled, or the rest of a prompt's last one. Blocks are shared
//! with the sequences that use them (a device's are copied). Only those that no sequence uses can be
//! evicted, the least recently used leaf first. Only prompts are kept, never answers: what a prefill
//! computes does not depend on how it was cut, so a request gets bit for bit the same text with its
//! prefix in the cache as without (on a device, up to rounding).

use super::disk::Disk;
use selfextend::{Block, PAGE, Session};
use slab::Slab;
use std::collections::HashSet;

/// A shorter match inside a block is not worth copying its page.
const LEAST_MATCH: usize = 16;

/// Blocks of prompts.
#[derive(Debug)]
pub struct PrefixCache {
    roots: Vec<Vec<usize>>,
    nodes: Slab<Node>,
    bytes: usize,
    clock: u64,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Node {
    /// The ids of its tokens: a page of them, or fewer at the end of a prompt.
    tokens: Vec<u32>,
    block: Block,
    bytes: usize,
    parent: Parent,
    children: Vec<usize>,
    used: u64,
}

/// What a node continues.
#[derive(Debug, Clone, Copy)]
enum Parent {
    /// Nothing: it starts a prompt under the rung of this number.
    Root(usize),
    /// Another node.
    Node(usize),
}

/// A block and how many of its tokens match.
pub type Matched = (Block, usize);

/// The last block of a prompt, to be [forgotten](PrefixCache::forget) where there is no room for it.
#[derive(Debug)]
pub struct Rest(usize);

/// The blocks of a sequence that an insertion added; none where they were copied.
#[derive(Debug, Default)]
pub struct Added {
    /// Bytes of full blocks, which the sequence still shares.
    pub full: usize,
    /// A last block that is not full. The sequence copies it when it appends to it.
    pub rest: Option<Rest>,
}

impl PrefixCache {
    /// Empty trees, one for each of so many rungs.
    pub fn new(rungs: usize) -> Self {
        Self {
            roots: vec![Vec::new(); rungs],
            nodes: Slab::new(),
            bytes: 0,
            clock: 0,
            disk: None,
        }
    }

    /// Loads at most `room` bytes of what an earlier server left on disk; `sessions` are empty ones,
    /// one for each rung.
    pub fn load(&mut self, disk: &Disk, sessions: &[Session], room: usize) {
        for loaded in disk.load(sessions, room) {
            let rung = loaded.rung;
            let last = loaded.tokens.len().saturating_sub(1) / PAGE * PAGE;
            let (known, tokens) = loaded.tokens.split_at(last);
            let path = self.walk(rung, known);
            let whole = path.iter().all(|(_, count)| *count == PAGE) && path.len() * PAGE == last;
            // Without the blocks that it continues, no prompt reaches a block.
            if whole {
                let parent = path
                    .last()
                    .map_or(Parent::Root(rung), |(id, _)| Parent::Node(*id));
                self.add(parent, tokens.to_vec(), loaded.block);
            }
        }
    }

    /// Writes long prompts to disk from now on.
    pub fn keep_on(&mut self, disk: Disk) {
        self.disk = Some(disk);
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many of the first tokens are held under a rung.
    pub fn matching(&self, rung: usize, tokens: &[u32]) -> usize {
        self.walk(rung, tokens).iter().map(|(_, count)| count).sum()
    }

    /// The blocks that hold the start of `tokens` under a rung. They count as used now.
    pub fn take(&mut self, rung: usize, tokens: &[u32]) -> Vec<Matched> {
        let path = self.walk(rung, tokens);
        self.clock += 1;
        path.into_iter()
            .map(|(node, count)| {
                let node = &mut self.nodes[node];
                node.used = self.clock;
                (node.block.clone(), count)
            })
            .collect()
    }

    fn walk(&self, rung: usize, mut tokens: &[u32]) -> Vec<(usize, usize)> {
        let mut path = Vec::new();
        let mut children = &self.roots[rung];
        loop {
            let common = |id: &usize| common_len(&self.nodes[*id].tokens, tokens);
            let best = children
                .iter()
                .map(|id| (*id, common(id)))
                .max_by_key(|c| c.1);
            match best {
                Some((id, count)) if count >= LEAST_MATCH.min(PAGE) => {
                    path.push((id, count));
                    if count < PAGE {
                        return path;
                    }
                    tokens = &tokens[PAGE..];
                    children = &self.nodes[id].children;
                }
                _ => return path,
            }
        }
    }

    /// Adds the blocks of a prompt that was just read in `session`; those held already count as used.
    /// Copies are made, and older blocks evicted for them, only within `room` bytes of all blocks.
    pub fn insert(&mut self, rung: usize, tokens: &[u32], session: &Session, room: usize) -> Added {
        let shared = session.shares_blocks();
        let mut added = Added::default();
        let mut parent = Parent::Root(rung);
        self.clock += 1;
        for (number, some) in tokens.chunks(PAGE).enumerate() {
            let whole = some.len() == PAGE;
            if !whole && some.len() < LEAST_MATCH {
                break;
            }
            let mut siblings = self.children(parent).iter();
            let held = siblings.find(|id| self.nodes[**id].tokens.starts_with(some));
            if let Some(&id) = held {
                self.nodes[id].used = self.clock;
                parent = Parent::Node(id);
                continue;
            }
            if !shared && !self.make_room(session.block_bytes(), room) {
                break;
            }
            let Some(block) = session.block(number) else {
                break;
            };
            // The last block of a shorter prompt that this one continues is no longer needed.
            let outgrown = self.children(parent).iter().copied().find(|id| {
                let node = &self.nodes[*id];
                node.tokens.len() < some.len() && some.starts_with(&node.tokens)
            });
            outgrown.into_iter().for_each(|id| self.remove(id));
            if let Some(disk) = self
                .disk
                .as_ref()
                .filter(|disk| tokens.len() >= disk.least_tokens())
            {
                disk.keep(session, &tokens[..number * PAGE + some.len()], &block);
            }
            let id = self.add(parent, some.to_vec(), block);
            parent = Parent::Node(id);
            if shared && whole {
                added.full += self.nodes[id].bytes;
            } else if shared {
                added.rest = Some(Rest(id));
            }
        }
        added
    }

    /// Evicts blocks that were used before this moment until there is room for so many bytes more.
    fn make_room(&mut self, bytes: usize, room: usize) -> bool {
        while self.bytes + bytes > room {
            if !self.evict_before(self.clock) {
                return false;
            }
        }
        true
    }

    fn add(&mut self, parent: Parent, tokens: Vec<u32>, block: Block) -> usize {
        let bytes = block.bytes();
        let id = self.nodes.insert(Node {
            tokens,
            block,
            bytes,
            parent,
            children: Vec::new(),
            used: self.clock,
        });
        self.children_mut(parent).push(id);
        self.bytes += bytes;
        id
    }

    /// Bytes that evicting would free.
    pub fn evictable(&self) -> usize {
        // A block stays as long as one that continues it. A sequence shares all of its blocks; a
        // block that waits to be written to disk is shared alone.
        let mut kept = HashSet::new();
        for (mut id, _) in self.nodes.iter().filter(|(_, node)| node.block.is_shared()) {
            while kept.insert(id)
                && let Parent::Node(parent) = self.nodes[id].parent
            {
                id = parent;
            }
        }
        self.bytes - kept.iter().map(|id| self.nodes[*id].bytes).sum::<usize>()
    }

    /// Removes the least recently used block that nothing uses or continues; false when there is
    /// none.
    pub fn evict(&mut self) -> bool {
        self.evict_before(u64::MAX)
    }

    fn evict_before(&mut self, clock: u64) -> bool {
        let free = self.nodes.iter().filter(|(_, node)| {
            node.children.is_empty() && !node.block.is_shared() && node.used < clock
        });
        let oldest = free.min_by_key(|(_, node)| node.used).map(|(id, _)| id);
        oldest.is_some_and(|id| {
            self.remove(id);
            metrics::counter!("selfextend_prefix_evictions_total").increment(1);
            true
        })
    }

    /// Removes a block that was just added.
    pub fn forget(&mut self, Rest(id): Rest) {
        self.remove(id);
    }

    fn remove(&mut self, id: usize) {
        let node = self.nodes.remove(id);
        self.bytes -= node.bytes;
        self.children_mut(node.parent).retain(|child| *child != id);
    }

    fn children(&self, parent: Parent) -> &Vec<usize> {
        match parent {
            Parent::Root(rung) => &self.roots[rung],
            Parent::Node(id) => &self.nodes[id].children,
        }
    }

    fn children_mut(&mut self, parent: Parent) -> &mut Vec<usize> {
        match parent {
            Parent::Root(rung) => &mut self.roots[rung],
            Parent::Node(id) => &mut self.nodes[id].children,
        }
    }
}

fn common_len(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfextend::backend::DeviceBlock;
    use std::sync::Arc;

    #[derive(Debug)]
    struct Copied;

    impl DeviceBlock for Copied {
        fn bytes(&self) -> usize {
            10
        }

        fn to_bytes(&self) -> selfextend::Result<Vec<u8>> {
            Ok(vec![0; 10])
        }
    }

    /// While a prompt's next block is copied, nothing else holds its earlier ones.
    #[test]
    fn copies_do_not_evict_their_own_prompt() {
        let mut cache = PrefixCache::new(1);
        let add = |cache: &mut PrefixCache, parent, token| {
            cache.add(
                parent,
                vec![token; PAGE],
                Block::on_device(Arc::new(Copied)),
            )
        };
        let first = add(&mut cache, Parent::Root(0), 0);
        add(&mut cache, Parent::Node(first), 0);
        add(&mut cache, Parent::Root(0), 1);
        let held = cache.take(0, &[0; 2 * PAGE]);
        assert_eq!((held.len(), cache.evictable()), (2, 10));
        drop(held);
        assert_eq!((cache.evictable(), cache.bytes()), (30, 30));
        // A prompt that starts with the first block is read.
        cache.clock += 1;
        cache.nodes[first].used = cache.clock;
        assert!(cache.make_room(10, 40) && cache.len() == 3);
        assert!(cache.make_room(10, 30) && cache.len() == 2);
        assert!(cache.make_room(10, 20) && cache.len() == 1);
        assert!(!cache.make_room(10, 10));
        assert!(cache.nodes.contains(first));
    }

    /// A block that is being written to disk is held without those that it continues.
    #[test]
    fn what_a_block_in_use_continues_is_not_evictable() {
        let mut cache = PrefixCache::new(1);
        let mut parents = vec![Parent::Root(0)];
        for token in 0..3 {
            let block = Block::on_device(Arc::new(Copied));
            let id = cache.add(parents[token as usize], vec![token; PAGE], block);
            parents.push(Parent::Node(id));
        }
        let (_, written) = cache.nodes.iter().nth(1).unwrap();
        let written = written.block.clone();
        assert_eq!(cache.evictable(), 10);
        assert!(cache.evict() && !cache.evict() && cache.evictable() == 0);
        drop(written);
        assert_eq!(cache.evictable(), 20);
        assert!(cache.evict() && cache.evict() && cache.len() == 0);
    }
}

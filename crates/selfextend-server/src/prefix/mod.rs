//! Prompts whose keys and values are kept: a radix tree over token ids in blocks of a page.
//!
//! Keys depend on the map they were rotated for, so each step of the ladder has a tree of its
//! own. A node is a block that a prompt filled, or the rest of a prompt's last one. Blocks are
//! shared with the sequences that use them (a device's are copied), and only those that no sequence
//! uses can be evicted, the least recently used leaf first. Only prompts are kept, never answers:
//! what a prefill computes does not depend on how it was cut, so a request gets bit for bit the
//! same text with its prefix in the cache as without (on a device, up to rounding).

mod disk;

pub use disk::{Disk, DiskCache};

use selfextend::{Block, PAGE, Session};
use slab::Slab;
use std::collections::HashSet;

/// A shorter match inside a block is not worth copying its page.
const LEAST_PART: usize = 16;

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
    place: Place,
    children: Vec<usize>,
    used: u64,
}

/// Where a node hangs.
#[derive(Debug, Clone, Copy)]
enum Place {
    Root(usize),
    Under(usize),
}

/// A block and how many of its tokens are those looked for.
pub type Matched = (Block, usize);

/// A block at the end of a prompt, to be [forgotten](PrefixCache::forget) where it has no room.
#[derive(Debug)]
pub struct Rest(usize);

/// What an insertion added of blocks that the sequence had already; nothing where they were copied.
#[derive(Debug, Default)]
pub struct Added {
    /// Bytes of full blocks, which the sequence goes on sharing.
    pub full: usize,
    /// A last block that is not full, which the sequence copies when it goes on.
    pub rest: Option<Rest>,
}

impl PrefixCache {
    /// Empty trees for so many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            roots: vec![Vec::new(); steps],
            nodes: Slab::new(),
            bytes: 0,
            clock: 0,
            disk: None,
        }
    }

    /// Takes what an earlier server left on disk, into at most `room` bytes; `sessions` are empty
    /// ones, one for each step.
    pub fn load(&mut self, disk: &Disk, sessions: &[Session], room: usize) {
        for kept in disk.load(sessions, room) {
            let step = kept.step;
            let last = (kept.tokens.len() - 1) / PAGE * PAGE;
            let (known, tokens) = kept.tokens.split_at(last);
            let path = self.walk(step, known);
            let whole = path.iter().all(|(_, count)| *count == PAGE) && path.len() * PAGE == last;
            // Without what comes before, a block can be reached by no prompt.
            if whole {
                let place = path
                    .last()
                    .map_or(Place::Root(step), |(id, _)| Place::Under(*id));
                self.add(place, tokens.to_vec(), kept.block);
            }
        }
    }

    /// Keeps long prompts on disk from now on.
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

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many of the tokens, from the first on, are held under a step.
    pub fn matching(&self, step: usize, tokens: &[u32]) -> usize {
        self.walk(step, tokens).iter().map(|(_, count)| count).sum()
    }

    /// The blocks that hold the start of `tokens` under a step, which thereby count as used.
    pub fn take(&mut self, step: usize, tokens: &[u32]) -> Vec<Matched> {
        let path = self.walk(step, tokens);
        self.clock += 1;
        path.into_iter()
            .map(|(node, count)| {
                let node = &mut self.nodes[node];
                node.used = self.clock;
                (node.block.clone(), count)
            })
            .collect()
    }

    fn walk(&self, step: usize, mut tokens: &[u32]) -> Vec<(usize, usize)> {
        let mut path = Vec::new();
        let mut children = &self.roots[step];
        loop {
            let common = |id: &usize| common_len(&self.nodes[*id].tokens, tokens);
            let best = children
                .iter()
                .map(|id| (*id, common(id)))
                .max_by_key(|c| c.1);
            match best {
                Some((id, count)) if count >= LEAST_PART.min(PAGE) => {
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

    /// Keeps the blocks of a prompt that was just prefilled in `session`, as far as they are new;
    /// those held already count as used. Copies are made, and older blocks evicted for them, only
    /// within `room` bytes of all blocks.
    pub fn insert(&mut self, step: usize, tokens: &[u32], session: &Session, room: usize) -> Added {
        let shared = session.shares_blocks();
        let mut added = Added::default();
        let mut place = Place::Root(step);
        self.clock += 1;
        for (number, some) in tokens.chunks(PAGE).enumerate() {
            let whole = some.len() == PAGE;
            if !whole && some.len() < LEAST_PART {
                break;
            }
            let mut siblings = self.children(place).iter();
            let held = siblings.find(|id| self.nodes[**id].tokens.starts_with(some));
            if let Some(&id) = held {
                self.nodes[id].used = self.clock;
                place = Place::Under(id);
                continue;
            }
            if !shared && !self.make_room(session.block_bytes(), room) {
                break;
            }
            let Some(block) = session.block(number) else {
                break;
            };
            // The rest of a shorter prompt that this one continues has served its time.
            let outgrown = self.children(place).iter().copied().find(|id| {
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
            let id = self.add(place, some.to_vec(), block);
            place = Place::Under(id);
            if shared && whole {
                added.full += self.nodes[id].bytes;
            } else if shared {
                added.rest = Some(Rest(id));
            }
        }
        added
    }

    /// Evicts blocks that were used before this moment until so many bytes more are within `room`.
    fn make_room(&mut self, bytes: usize, room: usize) -> bool {
        while self.bytes + bytes > room {
            if !self.evict_before(self.clock) {
                return false;
            }
        }
        true
    }

    fn add(&mut self, place: Place, tokens: Vec<u32>, block: Block) -> usize {
        let bytes = block.bytes();
        let id = self.nodes.insert(Node {
            tokens,
            block,
            bytes,
            place,
            children: Vec::new(),
            used: self.clock,
        });
        self.children_mut(place).push(id);
        self.bytes += bytes;
        id
    }

    /// Bytes that evicting would free.
    pub fn evictable(&self) -> usize {
        // A block stays as long as one that continues it. A sequence shares all of its blocks; what
        // waits to be written to disk is shared by itself.
        let mut kept = HashSet::new();
        for (mut id, _) in self.nodes.iter().filter(|(_, node)| node.block.is_shared()) {
            while kept.insert(id)
                && let Place::Under(parent) = self.nodes[id].place
            {
                id = parent;
            }
        }
        self.bytes - kept.iter().map(|id| self.nodes[*id].bytes).sum::<usize>()
    }

    /// Frees the least recently used block that nobody needs; false when there is none.
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

    /// Lets go of a block that was just added.
    pub fn forget(&mut self, Rest(id): Rest) {
        self.remove(id);
    }

    fn remove(&mut self, id: usize) {
        let node = self.nodes.remove(id);
        self.bytes -= node.bytes;
        self.children_mut(node.place).retain(|child| *child != id);
    }

    fn children(&self, place: Place) -> &Vec<usize> {
        match place {
            Place::Root(step) => &self.roots[step],
            Place::Under(id) => &self.nodes[id].children,
        }
    }

    fn children_mut(&mut self, place: Place) -> &mut Vec<usize> {
        match place {
            Place::Root(step) => &mut self.roots[step],
            Place::Under(id) => &mut self.nodes[id].children,
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

    /// Nothing else holds the blocks of a prompt whose next one is to be copied.
    #[test]
    fn copies_do_not_evict_their_own_prompt() {
        let mut cache = PrefixCache::new(1);
        let add = |cache: &mut PrefixCache, place, token| {
            cache.add(place, vec![token; PAGE], Block::on_device(Arc::new(Copied)))
        };
        let first = add(&mut cache, Place::Root(0), 0);
        add(&mut cache, Place::Under(first), 0);
        add(&mut cache, Place::Root(0), 1);
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

    /// What is written to disk is held without what it continues.
    #[test]
    fn what_a_block_in_use_continues_is_not_evictable() {
        let mut cache = PrefixCache::new(1);
        let mut places = vec![Place::Root(0)];
        for token in 0..3 {
            let block = Block::on_device(Arc::new(Copied));
            let id = cache.add(places[token as usize], vec![token; PAGE], block);
            places.push(Place::Under(id));
        }
        let (_, written) = cache.nodes.iter().nth(1).unwrap();
        let written = written.block.clone();
        assert_eq!(cache.evictable(), 10);
        assert!(cache.evict() && !cache.evict() && cache.evictable() == 0);
        drop(written);
        assert_eq!(cache.evictable(), 20);
        assert!(cache.evict() && cache.evict() && cache.is_empty());
    }
}

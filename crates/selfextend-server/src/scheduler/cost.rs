//! How many bytes of KV memory a request is charged.

use super::request::Request;
use crate::ladder::Rung;
use selfextend::{PAGE, TextModel};

/// Bytes of KV memory under one rung of the ladder.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Bytes of a block.
    pub block: usize,
    /// Bytes of the rings of derived keys of one sequence.
    pub ring: usize,
    /// Whether sequences share blocks with each other and with the prefix cache. If not, each has
    /// its own copies.
    pub shares: bool,
}

impl Cost {
    pub fn new(text: &TextModel, rung: &Rung) -> selfextend::Result<Self> {
        let bytes = text.model.session_bytes(&rung.options)?;
        Ok(Self {
            block: bytes.block,
            ring: bytes.rings,
            shares: bytes.shares_blocks,
        })
    }

    /// The most bytes a request can use: the blocks of its prompt that its answers share, and for
    /// each answer the blocks from there on and the rings.
    pub fn of(&self, prompt: usize, max_tokens: usize, choices: usize) -> usize {
        let shared = if self.shares { prompt / PAGE } else { 0 };
        let own = (prompt + max_tokens).div_ceil(PAGE) - shared;
        (shared + choices * own) * self.block + choices * self.ring
    }

    /// The same for a request.
    pub fn of_request(&self, request: &Request) -> usize {
        let max_tokens = request.options.max_tokens;
        self.of(request.prompt.len(), max_tokens, request.choices)
    }

    /// The charge for a request that costs `all` bytes when `cached` full blocks of it are in the
    /// prefix cache.
    pub fn beside(&self, all: usize, cached: usize) -> usize {
        let shared = if self.shares { cached } else { 0 };
        all - shared * self.block
    }

    /// How many of `cached` blocks a request can use when it lacks `over` bytes while all of them
    /// stay. A copy needs room beside its original. Where there is none, the tokens are read again
    /// instead of waiting for room.
    pub fn kept(&self, cached: usize, over: usize) -> usize {
        if self.shares {
            return cached;
        }
        cached.saturating_sub(over.div_ceil(self.block.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Cost = Cost {
        block: 100,
        ring: 7,
        shares: true,
    };
    const COPIED: Cost = Cost {
        shares: false,
        ..SHARED
    };

    #[test]
    fn answers_share_their_prompt_or_copy_it() {
        // Two pages and a part; an answer ends in the fourth.
        let (prompt, answer) = (2 * PAGE + 10, PAGE);
        assert_eq!(SHARED.of(prompt, answer, 1), 4 * 100 + 7);
        assert_eq!(COPIED.of(prompt, answer, 1), 4 * 100 + 7);
        assert_eq!(SHARED.of(prompt, answer, 3), (2 + 3 * 2) * 100 + 3 * 7);
        assert_eq!(COPIED.of(prompt, answer, 3), 3 * (4 * 100 + 7));
    }

    #[test]
    fn copies_of_cached_blocks_are_charged() {
        let all = SHARED.of(10 * PAGE, 1, 1);
        assert_eq!(SHARED.beside(all, 9), all - 900);
        assert_eq!(COPIED.beside(all, 9), all);
    }

    /// A request that fits the memory alone is never kept out by the blocks it could use.
    #[test]
    fn a_copy_makes_room_for_itself() {
        assert_eq!(SHARED.kept(9, 1), 9);
        assert_eq!(COPIED.kept(9, 0), 9);
        assert_eq!(COPIED.kept(9, 1), 8);
        assert_eq!(COPIED.kept(9, 100), 8);
        assert_eq!(COPIED.kept(9, 101), 7);
        for (cached, all) in [(9, 1000), (4, 650), (0, 1000_usize)] {
            let over = (cached * 100 + all).saturating_sub(1000);
            let kept = COPIED.kept(cached, over);
            assert!(kept * 100 + all <= 1000, "{cached} {all}: {kept}");
        }
    }
}

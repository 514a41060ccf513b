//! How many bytes of KV memory a request is charged.

use super::request::Request;
use crate::ladder::Rung;
use crate::prefix::most_read;
use selfextend::speculate::DraftModel;
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
    /// The most tokens of a prompt that a pass may read: with more, a layer that forgets pages could
    /// drop one before its block is in the prefix cache.
    pub most_read: usize,
    /// What a draft model takes beside each answer.
    pub draft: DraftCost,
}

/// Bytes of a draft model's keys and values; none without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct DraftCost {
    block: usize,
    ring: usize,
}

impl DraftCost {
    /// For texts of up to so many tokens.
    fn new(draft: &DraftModel, longest: usize) -> selfextend::Result<Self> {
        // Short texts are read plain, others under an extension.
        let (short, long) = (draft.session_bytes(1)?, draft.session_bytes(longest)?);
        Ok(Self {
            block: long.block,
            ring: short.rings.max(long.rings),
        })
    }

    /// Of so many answers that end with their `tokens`-th token. What they share counts for each.
    fn of(&self, tokens: usize, choices: usize) -> usize {
        choices * (tokens.div_ceil(PAGE) * self.block + self.ring)
    }
}

impl Cost {
    pub fn new(
        text: &TextModel,
        draft: Option<&DraftModel>,
        rung: &Rung,
    ) -> selfextend::Result<Self> {
        let bytes = text.model.session_bytes(&rung.options)?;
        let draft = draft.map(|draft| DraftCost::new(draft, rung.context()));
        Ok(Self {
            block: bytes.block,
            ring: bytes.rings,
            shares: bytes.shares_blocks,
            most_read: most_read(text.model.config(), &rung.options),
            draft: draft.transpose()?.unwrap_or_default(),
        })
    }

    /// The most bytes a request can use: the blocks of its prompt that its answers share, and for
    /// each answer the blocks from there on, the rings, and all that a draft model holds beside it.
    pub fn of(&self, prompt: usize, max_tokens: usize, choices: usize) -> usize {
        let shared = if self.shares { prompt / PAGE } else { 0 };
        let own = (prompt + max_tokens).div_ceil(PAGE) - shared;
        let target = (shared + choices * own) * self.block + choices * self.ring;
        target + self.draft.of(prompt + max_tokens, choices)
    }

    /// Those of a request's bytes that are no blocks of its own model.
    pub fn besides_blocks(&self, request: &Request) -> usize {
        let tokens = request.prompt.len() + request.options.max_tokens;
        request.choices * self.ring + self.draft.of(tokens, request.choices)
    }

    /// Bytes of one answer that fills a context.
    pub fn full(&self, context: usize) -> usize {
        self.of(context, 0, 1)
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
        most_read: usize::MAX,
        draft: DraftCost { block: 0, ring: 0 },
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
    fn a_draft_is_charged_for_every_answer() {
        let draft = DraftCost { block: 10, ring: 3 };
        for plain in [SHARED, COPIED] {
            let drafted = Cost { draft, ..plain };
            let (prompt, answer) = (2 * PAGE + 10, PAGE);
            for choices in [1, 3] {
                let more = drafted.of(prompt, answer, choices) - plain.of(prompt, answer, choices);
                assert_eq!(more, choices * (4 * 10 + 3));
            }
            assert_eq!(drafted.full(PAGE), plain.full(PAGE) + 13);
        }
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

//! Tokens ahead of time: guessed from the text itself, and verified in one pass.
//!
//! An answer about a document often repeats it. A [`Speculation`] looks where the last tokens occurred
//! before, in the prompt or the answer, and proposes what followed there. The model reads the
//! proposals in one pass with the token before them, as so many decode steps
//! ([`Session::append_steps`](crate::Session::append_steps)): the logits after each are bit for bit those
//! that it would have got alone. So tokens are drawn as always, and a proposal is only right or wrong
//! about which logits are known already: the text cannot differ, however tokens are chosen. Rows that
//! turn out wrong are taken back.
//!
//! [`Answer`](crate::Answer) does all of this
//! ([`GenerateOptions::speculate`](crate::GenerateOptions::speculate)); callers of
//! [`Model::forward`](crate::Model::forward) use these parts.

mod lookup;
mod odds;
mod pace;

use lookup::{LONGEST, Lookup};
use odds::Odds;
pub use pace::{PassCost, allot};
use selfextend_attention::cache::MOST_STEPS;

/// The most tokens that are proposed at a time.
pub const MOST_PROPOSALS: usize = MOST_STEPS - 1;

/// Proposals for one sequence.
#[derive(Debug, Clone, Default)]
pub struct Speculation {
    lookup: Lookup,
    odds: Odds,
    /// What became of the proposals so far.
    pub counts: Speculated,
}

/// What became of proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speculated {
    /// Tokens that were proposed and verified.
    pub proposed: usize,
    /// Those among them that were drawn.
    pub accepted: usize,
}

impl Speculation {
    /// For an answer to a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let mut this = Self::default();
        prompt.iter().for_each(|&token| this.lookup.push(token));
        this
    }

    /// Takes the next token of the answer.
    pub fn saw(&mut self, token: u32) {
        if let Some(found) = self.lookup.found() {
            let guess = self.lookup.following().next();
            self.odds.note(found.length, guess == Some(token));
        }
        self.lookup.push(token);
    }

    /// The probabilities that the first of at most `most` proposals, the first two, ... are all right:
    /// see [`allot`].
    pub fn chances(&self, most: usize) -> Vec<f64> {
        let most = most.min(MOST_PROPOSALS);
        let Some(found) = self.lookup.found() else {
            return Vec::new();
        };
        let lengths = (found.length..found.length + most).map(|length| length.min(LONGEST));
        let each = lengths.map(|length| self.odds.of(length));
        each.scan(1.0, |all, chance| {
            *all *= chance;
            Some(*all)
        })
        .collect()
    }

    /// The next tokens, as far as there is a guess.
    pub fn propose(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        self.lookup.following().take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_text_is_proposed_the_more_the_longer_it_repeats() {
        let text: Vec<u32> = (0..100).collect();
        let mut speculation = Speculation::new(&text);
        assert_eq!(speculation.chances(15), [0.0; 0]);
        speculation.saw(40);
        speculation.saw(41);
        let before = speculation.chances(15);
        assert!(before.len() == 15 && before.is_sorted_by(|a, b| a > b));
        (42..60).for_each(|token| speculation.saw(token));
        let after = speculation.chances(4);
        assert!(after.len() == 4 && after[3] > before[3]);
        let proposed: Vec<u32> = speculation.propose(4).collect();
        assert_eq!(proposed, [60, 61, 62, 63]);
        speculation.saw(7);
        assert_eq!(speculation.propose(4).next(), None);
    }
}

//! What is guessed of one sequence, and what became of it.

use super::draft::Draft;
use super::lookup::{LONGEST, Lookup};
use super::odds::Odds;
use super::pace::MOST_PROPOSALS;
use crate::error::Error;

/// Proposals for one sequence: what followed the same words before, what a draft model guesses, or
/// whichever of both is the likelier.
#[derive(Debug)]
pub struct Speculation {
    repeats: Option<Repeats>,
    pub(super) draft: Option<Draft>,
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

/// The text looked up in itself.
#[derive(Debug)]
struct Repeats {
    lookup: Lookup,
    odds: Odds,
}

impl Speculation {
    /// For an answer to a prompt: from repetitions, from a draft, or from both.
    pub fn new(prompt: &[u32], from_repeats: bool, draft: Option<Draft>) -> Self {
        let repeats = from_repeats.then(|| {
            let mut lookup = Lookup::default();
            prompt.iter().for_each(|&token| lookup.push(token));
            let odds = Odds::of_matches();
            Repeats { lookup, odds }
        });
        let draft = draft.map(|mut draft| {
            draft.begin(prompt);
            draft
        });
        Self {
            repeats,
            draft,
            counts: Speculated::default(),
        }
    }

    /// Takes the next token of the answer.
    pub fn saw(&mut self, token: u32) {
        if let Some(Repeats { lookup, odds }) = &mut self.repeats {
            if let Some(found) = lookup.found() {
                let guess = lookup.following().next();
                odds.note(found.length as f64, guess == Some(token));
            }
            lookup.push(token);
        }
        if let Some(draft) = &mut self.draft {
            draft.saw(token);
        }
    }

    /// Why the draft model guesses no more, where it failed.
    pub fn fault(&self) -> Option<&Error> {
        self.draft.as_ref()?.fault()
    }

    /// The draft, for the next text.
    pub fn into_draft(self) -> Option<Draft> {
        self.draft
    }

    /// The probabilities that the first of at most `most` tokens that followed the same words, the first
    /// two, ... come again.
    pub(super) fn repeat_chances(&self, most: usize) -> Vec<f64> {
        let most = most.min(MOST_PROPOSALS);
        let repeats = self.repeats.as_ref();
        let found = repeats.and_then(|it| Some((it.lookup.found()?, &it.odds)));
        let Some((found, odds)) = found else {
            return Vec::new();
        };
        let lengths = (found.length..found.length + most).map(|length| length.min(LONGEST));
        let each = lengths.map(|length| odds.of(length as f64));
        each.scan(1.0, |all, chance| {
            *all *= chance;
            Some(*all)
        })
        .collect()
    }

    /// The next tokens after the same words, as far as there are any.
    pub(super) fn repeats(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        let repeats = self.repeats.iter();
        repeats.flat_map(move |it| it.lookup.following().take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_text_is_proposed_the_more_the_longer_it_repeats() {
        let text: Vec<u32> = (0..100).collect();
        let mut speculation = Speculation::new(&text, true, None);
        assert_eq!(speculation.repeat_chances(15), [0.0; 0]);
        speculation.saw(40);
        speculation.saw(41);
        let before = speculation.repeat_chances(15);
        assert!(before.len() == 15 && before.is_sorted_by(|a, b| a > b));
        (42..60).for_each(|token| speculation.saw(token));
        let after = speculation.repeat_chances(4);
        assert!(after.len() == 4 && after[3] > before[3]);
        let proposed: Vec<u32> = speculation.repeats(4).collect();
        assert_eq!(proposed, [60, 61, 62, 63]);
        speculation.saw(7);
        assert_eq!(speculation.repeats(4).next(), None);
    }
}

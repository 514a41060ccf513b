//! What came after the same words before: the longest suffix of a text that occurs earlier in it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Lengths of the n-grams whose last places are kept. A match of another length is found by the
/// longest of these within it, and measured.
const NGRAMS: [usize; 4] = [8, 4, 3, 2];
/// Matches are measured up to this length: beyond it, the most recent one is as good as a longer one.
pub(super) const LONGEST: usize = 32;

/// A text and the places of its n-grams. A token costs four look-ups and at most four comparisons of
/// [`LONGEST`] tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    tokens: Vec<u32>,
    /// The place after the last occurrence of an n-gram, by its hash.
    places: HashMap<u64, u32>,
    hasher: RandomState,
    found: Option<Match>,
}

/// An earlier occurrence of the text's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// The place after it.
    pub next: usize,
    /// Its length, up to [`LONGEST`].
    pub length: usize,
}

impl Lookup {
    /// Continues the text.
    pub fn push(&mut self, token: u32) {
        let before = self.found.take();
        let goes_on = before.filter(|before| self.tokens[before.next] == token);
        self.found = goes_on.map(|before| Match {
            next: before.next + 1,
            length: (before.length + 1).min(LONGEST),
        });
        self.tokens.push(token);
        let end = self.tokens.len();
        for n in NGRAMS.into_iter().filter(|&n| n <= end) {
            let ngram = self.hasher.hash_one(&self.tokens[end - n..]);
            let Some(place) = self.places.insert(ngram, end as u32) else {
                continue;
            };
            let next = place as usize;
            let length = self.common_end(next);
            let best = self.found.map(|found| (found.length, found.next));
            // Shorter ones than asked for are those of an n-gram with the same hash.
            if length >= n && Some((length, next)) > best {
                self.found = Some(Match { next, length });
            }
        }
    }

    /// How many tokens before place `at` equal those at the end, up to [`LONGEST`].
    fn common_end(&self, at: usize) -> usize {
        let ends = self.tokens[..at].iter().rev().zip(self.tokens.iter().rev());
        let same = ends.take(LONGEST).take_while(|(there, here)| there == here);
        same.count()
    }

    /// The best match of the text's end.
    pub fn found(&self) -> Option<Match> {
        self.found
    }

    /// The tokens that follow the match, without end: where they reach the end of the text they go on
    /// with themselves.
    pub fn following(&self) -> impl Iterator<Item = u32> + '_ {
        let found = self.found.into_iter();
        found.flat_map(|found| self.tokens[found.next..].iter().copied().cycle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &[u32]) -> Lookup {
        let mut lookup = Lookup::default();
        text.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    #[test]
    fn what_followed_the_same_words_is_found() {
        let lookup = of(&[1, 2, 3, 4, 5, 9, 2, 3]);
        assert_eq!(lookup.found(), Some(Match { next: 3, length: 2 }));
        let some: Vec<u32> = lookup.following().take(7).collect();
        assert_eq!(some, [4, 5, 9, 2, 3, 4, 5]);
        assert_eq!(of(&[1, 2, 3]).found(), None);
        assert_eq!(of(&[1, 2, 3]).following().next(), None);
    }

    #[test]
    fn the_longest_wins_and_among_equals_the_most_recent() {
        // Three tokens before the 7, two before the 8.
        let longest = of(&[1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3]);
        assert_eq!(longest.following().next(), Some(7));
        let recent = of(&[5, 2, 3, 7, 6, 2, 3, 8, 1, 2, 3]);
        assert_eq!(recent.following().next(), Some(8));
        // A match that goes on is longer than what its last n-gram finds.
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 4, 5, 6, 11];
        let going_on = of(&[&text[..], &text[1..6]].concat());
        assert_eq!(going_on.found(), Some(Match { next: 6, length: 5 }));
    }

    #[test]
    fn a_loop_is_continued() {
        let lookup = of(&[7, 1, 2, 1, 2, 1, 2]);
        let some: Vec<u32> = lookup.following().take(5).collect();
        assert_eq!(some, [1, 2, 1, 2, 1]);
    }

    proptest! {
        /// Against all places, compared one by one.
        #[test]
        fn a_match_is_one_and_nearly_the_best(text in prop::collection::vec(0u32..4, 1..200)) {
            let found = of(&text).found();
            let length = |next: usize| {
                let ends = text[..next].iter().rev().zip(text.iter().rev());
                ends.take(LONGEST).take_while(|(a, b)| a == b).count()
            };
            let best = (1..text.len()).map(length).max().unwrap_or(0);
            match found {
                None => prop_assert!(best < 2),
                Some(found) => {
                    prop_assert_eq!(length(found.next), found.length);
                    // At least the longest n-gram that occurs again.
                    let sure = NGRAMS.into_iter().find(|&n| n <= best).unwrap_or(0);
                    prop_assert!(found.length >= sure && found.length <= best);
                }
            }
        }
    }
}

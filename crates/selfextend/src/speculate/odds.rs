//! How often what followed a match came again, by the match's length.

use super::lookup::LONGEST;

/// The shortest match of each class, and how often its next token is expected to be right before
/// anything was seen.
const CLASSES: [(usize, f64); 7] = [
    (2, 0.25),
    (3, 0.35),
    (4, 0.5),
    (6, 0.65),
    (9, 0.8),
    (16, 0.9),
    (LONGEST, 0.95),
];
/// How many observations the expectation counts for.
const WEIGHT: f64 = 4.0;
/// What becomes of the weight of older observations with each new one.
const FADING: f64 = 0.96;

/// Counts of guesses that were right. They are kept for every token that is drawn, whether it was
/// proposed or not: so they say when proposing begins to pay, and when it no longer does.
#[derive(Debug, Clone, Default)]
pub(super) struct Odds {
    /// Right ones and all, of each class.
    counts: [(f64, f64); CLASSES.len()],
}

fn class(length: usize) -> usize {
    let shorter = CLASSES.iter().take_while(|(least, _)| *least <= length);
    shorter.count().saturating_sub(1)
}

impl Odds {
    /// Notes whether the token after a match of some length was that after the earlier occurrence.
    pub fn note(&mut self, length: usize, right: bool) {
        let (rights, all) = &mut self.counts[class(length)];
        *rights = *rights * FADING + f64::from(u8::from(right));
        *all = *all * FADING + 1.0;
    }

    /// The probability that it is.
    pub fn of(&self, length: usize) -> f64 {
        let class = class(length);
        let (rights, all) = self.counts[class];
        (rights + WEIGHT * CLASSES[class].1) / (all + WEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_follow_what_was_seen_of_their_length() {
        let mut odds = Odds::default();
        assert!(odds.of(2) < odds.of(5) && odds.of(5) < odds.of(100));
        let before = odds.of(8);
        (0..40).for_each(|_| odds.note(3, false));
        assert!(odds.of(3) < 0.1 && odds.of(8) == before);
        (0..40).for_each(|_| odds.note(3, true));
        assert!(odds.of(3) > 0.7, "{}", odds.of(3));
    }
}

//! How often guesses of a kind were right.

use super::lookup::LONGEST;

/// The least of a measure in each class of guesses, and how often one is expected to be right before
/// anything was seen.
type Classes = [(f64, f64)];

/// By the length of the match that is continued.
const LENGTHS: [(f64, f64); MOST] = [
    (2.0, 0.25),
    (3.0, 0.35),
    (4.0, 0.5),
    (6.0, 0.65),
    (9.0, 0.8),
    (16.0, 0.9),
    (LONGEST as f64, 0.95),
];
/// By the probability that a draft model gives its guess.
const CONFIDENCES: [(f64, f64); MOST] = [
    (0.0, 0.15),
    (0.2, 0.3),
    (0.4, 0.45),
    (0.6, 0.6),
    (0.75, 0.75),
    (0.9, 0.85),
    (0.97, 0.95),
];
/// A draft model's guesses before they are made.
const UNSEEN: [(f64, f64); 1] = [(0.0, 0.6)];
/// The most classes.
const MOST: usize = 7;
/// How many observations the expectation counts for.
const WEIGHT: f64 = 4.0;
/// What becomes of the weight of older observations with each new one.
const FADING: f64 = 0.96;

/// Counts of guesses that were right, for each class. Those of matches are kept for every token that is
/// drawn, whether it was proposed or not: so they say when proposing begins to pay, and when it no
/// longer does.
#[derive(Debug, Clone)]
pub(super) struct Odds {
    classes: &'static Classes,
    /// Right ones and all, of each class.
    counts: [(f64, f64); MOST],
}

impl Odds {
    fn new(classes: &'static Classes) -> Self {
        Self {
            classes,
            counts: Default::default(),
        }
    }

    /// Of what followed matches, by their length.
    pub fn of_matches() -> Self {
        Self::new(&LENGTHS)
    }

    /// Of a draft model's guesses, by the probability that it gives them.
    pub fn of_confidences() -> Self {
        Self::new(&CONFIDENCES)
    }

    /// Of a draft model's guesses that are not made yet.
    pub fn of_drafts() -> Self {
        Self::new(&UNSEEN)
    }

    fn class(&self, measure: f64) -> usize {
        let lower = self.classes.iter();
        let lower = lower.take_while(|(least, _)| *least <= measure);
        lower.count().saturating_sub(1)
    }

    /// Notes whether a guess was right.
    pub fn note(&mut self, measure: f64, right: bool) {
        let (rights, all) = &mut self.counts[self.class(measure)];
        *rights = *rights * FADING + f64::from(u8::from(right));
        *all = *all * FADING + 1.0;
    }

    /// The probability that one is.
    pub fn of(&self, measure: f64) -> f64 {
        let class = self.class(measure);
        let (rights, all) = self.counts[class];
        (rights + WEIGHT * self.classes[class].1) / (all + WEIGHT)
    }

    /// Halves the weight of what was seen.
    pub fn forget_half(&mut self) {
        for (rights, all) in &mut self.counts {
            *rights *= 0.5;
            *all *= 0.5;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_follow_what_was_seen_of_their_length() {
        let mut odds = Odds::of_matches();
        assert!(odds.of(2.0) < odds.of(5.0) && odds.of(5.0) < odds.of(100.0));
        let before = odds.of(8.0);
        (0..40).for_each(|_| odds.note(3.0, false));
        assert!(odds.of(3.0) < 0.1 && odds.of(8.0) == before);
        (0..40).for_each(|_| odds.note(3.0, true));
        assert!(odds.of(3.0) > 0.7, "{}", odds.of(3.0));
    }

    #[test]
    fn what_was_seen_is_forgotten_by_halves() {
        let mut odds = Odds::of_drafts();
        let expected = odds.of(0.5);
        (0..40).for_each(|_| odds.note(0.9, false));
        let seen = odds.of(0.5);
        odds.forget_half();
        assert!(seen < odds.of(0.5) && odds.of(0.5) < 0.5 * expected);
        (0..6).for_each(|_| odds.forget_half());
        assert!((odds.of(0.5) - expected).abs() < 0.1);
    }
}

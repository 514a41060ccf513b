//! Parts of an evaluation that run in different processes.

use crate::error::{EvalError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Part `index` (from 1) of `count`; written `2/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Shard {
    /// Everything in one part.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// The items of this part: neighbours stay together, because they share prefixes, and parts
    /// cost about the same.
    pub(crate) fn range(self, costs: &[f64]) -> Range<usize> {
        let total: f64 = costs.iter().sum();
        let cut = |part: usize| {
            if part == 0 || part == self.count {
                return costs.len() * (part / self.count);
            }
            let limit = total * part as f64 / self.count as f64;
            let mut sum = 0.0;
            // The middle of a sample decides to which part it belongs.
            let before = costs.iter().take_while(|cost| {
                sum += **cost;
                sum - **cost / 2.0 <= limit
            });
            before.count()
        };
        cut(self.index - 1)..cut(self.index)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl FromStr for Shard {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || EvalError::settings(format!("{text:?} is not of the form 2/4"));
        let (index, count) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let (index, count) = (number(index)?, number(count)?);
        if index == 0 || index > count {
            let reason = format!("the part of {text:?} must lie between 1 and {count}");
            return Err(EvalError::settings(reason));
        }
        Ok(Self { index, count })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shards_cover_every_sample_once(
            costs in prop::collection::vec(0.0f64..100.0, 0..60),
            count in 1usize..9,
        ) {
            let mut next = 0;
            for index in 1..=count {
                let range = Shard { index, count }.range(&costs);
                prop_assert_eq!(range.start, next);
                next = range.end;
            }
            prop_assert_eq!(next, costs.len());
        }
    }

    #[test]
    fn shards_are_read_and_even() {
        assert_eq!(
            "2/4".parse::<Shard>().unwrap(),
            Shard { index: 2, count: 4 }
        );
        for bad in ["", "0/2", "3/2", "1", "a/b"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        // One sample costs as much as the other four together.
        let costs = [1.0, 1.0, 1.0, 1.0, 4.0];
        assert_eq!(Shard { index: 1, count: 2 }.range(&costs), 0..4);
    }
}

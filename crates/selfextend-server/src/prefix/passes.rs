//! In which passes a text is read, so that every token gets the bits of a fresh run.
//!
//! A pass of few tokens takes other kernels than one of many ([`Phase::ByLength`](selfextend::Phase)),
//! which round differently. A fresh run reads chunk by chunk, and so at most its last pass is short: its
//! tokens are always read as that pass again, and never kept for other texts.

use std::ops::Range;

/// Passes of at least so many tokens give each token the same bits.
const SHORTEST: usize = 16;

/// The passes of a fresh run over so many tokens.
#[derive(Debug, Clone, Copy)]
pub struct Passes {
    len: usize,
    /// The end of the tokens that are read in long passes.
    long: usize,
}

impl Passes {
    /// A text of `len` tokens in chunks; `None` where all passes could be short.
    pub fn new(len: usize, chunk: usize) -> Option<Self> {
        if chunk < 2 * SHORTEST {
            return None;
        }
        let last = len % chunk;
        let long = if last < SHORTEST { len - last } else { len };
        Some(Self { len, long })
    }

    /// The end of the tokens whose keys and values serve other texts.
    pub fn long(&self) -> usize {
        self.long
    }

    /// The most tokens that need not be read.
    pub fn most_held(&self) -> usize {
        if self.long < self.len {
            self.long
        } else {
            self.len.saturating_sub(SHORTEST)
        }
    }

    /// Where to go on reading instead of `held`, if what is left up to there were a short pass.
    pub fn start(&self, held: usize) -> usize {
        if held < self.long && self.long - held < SHORTEST {
            self.long.saturating_sub(SHORTEST)
        } else {
            held
        }
    }

    /// The passes from a [start](Self::start) on, of at most about so many tokens.
    pub fn rest(&self, from: usize, at_once: usize) -> Vec<Range<usize>> {
        let at_once = at_once.max(2 * SHORTEST);
        let (mut passes, mut at) = (Vec::new(), from);
        while at < self.long {
            let left = self.long - at;
            let pass = match left {
                all if all <= at_once => all,
                most if most < at_once + SHORTEST => most - SHORTEST,
                _ => at_once,
            };
            passes.push(at..at + pass);
            at += pass;
        }
        if at < self.len {
            passes.push(at..self.len);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every token is in a short pass exactly where it is in a fresh run.
        #[test]
        fn tokens_are_read_as_in_a_fresh_run(
            len in 1usize..3000, chunk in 32usize..600, held in 0usize..3000, at_once in 1usize..600,
        ) {
            let passes = Passes::new(len, chunk).unwrap();
            let last = len / chunk * chunk;
            let is_short = |token: usize| token >= last && len - last < SHORTEST;
            let held = held.min(passes.most_held());
            let from = passes.start(held);
            prop_assert!(from <= held && held < len);
            let mut at = from;
            for pass in passes.rest(from, at_once) {
                prop_assert_eq!(pass.start, at);
                for token in pass.clone() {
                    prop_assert_eq!(pass.len() < SHORTEST, is_short(token), "{} of {}", token, len);
                }
                at = pass.end;
            }
            prop_assert_eq!(at, len);
            prop_assert!((0..passes.long()).all(|token| !is_short(token)));
        }
    }
}

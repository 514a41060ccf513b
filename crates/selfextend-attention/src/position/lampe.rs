//! LaMPE: Zhang et al., "Length-aware Multi-grained Positional Encoding for Adaptive Long-context
//! Scaling Without Training", arXiv 2508.02308; code <https://github.com/scar-on/LaMPE>.
//!
//! The context `N` is mapped to the mapping length `U` by `m(p) = floor(p U / (N - 1))`:
//!
//! ```text
//! head,   i - j < h:          i - j
//! tail,   i - j >= N - t:     i - j - b
//! middle, all others:         m(i) - m(j) + h - m(h) - 1
//! ```
//!
//! where `b` makes the tail continue the middle: `b = N - 1 - t - (m(N - 1 - t) + h - m(h) - 1)`.
//! The authors fit `U = c / (1 + exp(-(a N + b)))` to each model. The default here is their fit for
//! Llama 3 (trained on 8192 tokens) in units of the trained window: `a = 0.860 / L`, `b = -2.467`,
//! `c = 0.757 L`, which is a guess for other models; `map=` sets `U`. Head and tail are theirs for
//! Llama 3 too, L/16 and L/41. Their code multiplies queries and keys by `0.1 ln 2 + 1` by default
//! (its example does not); `scale=yarn` is near that. Keys at distance `h` are in the head *and*
//! the middle of their prefill; here they are in the middle. Within `2 h` tokens, as in their code,
//! attention is plain.

use super::regions::{Keys, Positions, Ready, Regions, refuse};
use crate::error::AttentionError;
use std::ops::Range;

/// Three regions: exact head, compressed middle, exact tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lampe {
    head: usize,
    tail: usize,
    mapped: usize,
    context: usize,
}

impl Lampe {
    /// Head `h`, tail `t`, mapping length `U` and context `N`, in tokens.
    ///
    /// # Errors
    /// [`AttentionError::Position`] unless `0 < h`, `h + t < N` and `0 < U < N`, or when `N` is 2^32
    /// or more.
    pub fn new(
        head: usize,
        tail: usize,
        mapped: usize,
        context: usize,
    ) -> Result<Self, AttentionError> {
        // Below 2^32, no product of two positions overflows.
        let fits = context <= u32::MAX as usize && head.saturating_add(tail) < context;
        if !fits || mapped == 0 || mapped >= context || head <= head * mapped / (context - 1) {
            return refuse(format!(
                "LaMPE's head {head} and tail {tail} must fit a context of {context}, and its mapping length {mapped} must be below it"
            ));
        }
        Ok(Self {
            head,
            tail,
            mapped,
            context,
        })
    }

    /// The authors' head and tail for a trained window.
    pub fn default_ends(trained: usize) -> (usize, usize) {
        ((trained / 16).max(1), trained / 41)
    }

    /// The mapping length of a context: the scaled sigmoid, within what the trained window holds
    /// beside the head.
    pub fn default_mapped(head: usize, trained: usize, context: usize) -> usize {
        let (n, l) = (context as f64, trained as f64);
        let mapped = 0.757 * l / (1.0 + (-(0.860 * n / l - 2.467)).exp());
        let room = trained.saturating_sub(head);
        (mapped as usize).min(room).min(context - 1).max(1)
    }

    /// `m(p)`.
    fn middle(&self, position: usize) -> usize {
        position * self.mapped / (self.context - 1)
    }

    /// What is added to `m(i) - m(j)`.
    fn offset(&self) -> usize {
        self.head - self.middle(self.head) - 1
    }

    /// Distances from here on belong to the tail.
    fn tail_from(&self) -> usize {
        self.context - self.tail
    }

    /// `b`.
    fn tail_shift(&self) -> usize {
        let before = self.tail_from() - 1;
        before - (self.middle(before) + self.offset()).min(before)
    }
}

impl Ready for Lampe {}

impl Positions for Lampe {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let d = i - j;
        let position = if d < self.head {
            d
        } else if d >= self.tail_from() && j < self.tail {
            d - self.tail_shift()
        } else {
            self.middle(i) - self.middle(j) + self.offset()
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        // A query's farthest key is the first one, and farther for later queries; the map is made
        // for its context and reaches no further.
        let fits = |i: usize| self.relative(i, 0) <= Some((trained - 1) as f64);
        let (mut reach, mut beyond) = (0, self.context);
        while reach < beyond {
            let middle = reach.midpoint(beyond);
            if fits(middle) {
                reach = middle + 1;
            } else {
                beyond = middle;
            }
        }
        Some(reach)
    }

    fn regions(&self) -> Regions {
        [
            Keys::first(self.tail),
            Keys::Stored,
            Keys::newest(self.head),
        ]
        .into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        let tail = (i + 1).saturating_sub(self.tail_from()).min(self.tail);
        let head = (i + 1).saturating_sub(self.head);
        match region {
            0 => 0..tail,
            1 => tail..head,
            _ => head..i + 1,
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        match region {
            0 => i as f64 - self.tail_shift() as f64,
            1 => (self.middle(i) + self.offset()) as f64,
            _ => i as f64,
        }
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 1 { self.middle(j) } else { j }) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(1, j)
    }
}

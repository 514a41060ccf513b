//! Which derived keys rings hold. One state for all layers of a kind: it advances when a pass is
//! counted, so a pass that ends between two layers cannot leave them apart.

use crate::simd::WIDTH;
use std::ops::Range;

/// The keys that the rings of one region hold, by position, in every layer of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    from: usize,
    until: usize,
}

impl Held {
    /// The first key that must be derived before the rings serve a query that sees keys from
    /// `needed` on.
    pub fn until(self, needed: usize) -> usize {
        if self.from <= needed && self.until >= needed {
            self.until
        } else {
            needed
        }
    }

    pub fn truncate(&mut self, len: usize) {
        self.until = self.until.min(len);
        self.from = self.from.min(self.until);
    }

    /// What is left while panels up to `end` are written into rings of `slots` panels, some of them
    /// over older ones: held in every layer, those before the pass and those after it.
    pub fn overwrite(&mut self, slots: usize, end: usize) {
        self.from = self.from.max(end.saturating_sub(slots) * WIDTH);
    }

    /// What is held once `panels` are written, the last of them up to key `end`: they continue what
    /// is left, or replace it.
    pub fn with(self, panels: Range<usize>, end: usize) -> Self {
        let first = panels.start * WIDTH;
        let from = if self.until >= first {
            self.from.min(first)
        } else {
            first
        };
        Self { from, until: end }
    }
}

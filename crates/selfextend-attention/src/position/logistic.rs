//! SELF: Dang et al., "Self-Extend the Context Length With Logistic Growth Function", arXiv
//! 2505.17296; code <https://github.com/alexeipc/SELF-LLM>.
//!
//! Group number `x` (from 0) holds `floor(f(x))` tokens, where `f` grows from 1 to the capacity `C`
//! at rate `r`; with `g(n)` the number of the group that token `n` falls into:
//!
//! ```text
//! f(x) = C e^(r x) / (C + e^(r x) - 1)
//! i - j < W: i - j        otherwise: W + g(i - W) - g(j)
//! ```
//!
//! The paper speaks of groups that grow with distance; a score that depends on the distance alone
//! through `g` would not be separable. This is what the authors' prefill computes, which their
//! results are based on: groups are counted from the start of the text. Their kernel rounds up within a
//! class of sizes, which puts the first token of each class into the group before; here every group
//! has the size of the formula. Their decode kernel numbers groups in another way than their
//! prefill; here both are the same. Defaults are the code's `C = 33` (doubled until the context
//! fits), its `r = 0.02` for trained windows from 4096 on (more for shorter ones, where groups would
//! never grow), and `W = L/4`.

use super::regions::{Keys, Positions, Regions, refuse, split};
use crate::error::AttentionError;
use std::ops::Range;
use std::sync::Arc;

/// Exact distances below the window `W`; groups of growing size beyond.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logistic {
    capacity: usize,
    rate: f64,
    window: usize,
}

impl Logistic {
    /// The capacity `C` (2 to 65536), the growth rate `r` (0.0001 to 10) and the window `W`, at
    /// least 1.
    ///
    /// # Errors
    /// [`AttentionError::Position`] when one is outside its bounds.
    pub fn new(capacity: usize, rate: f64, window: usize) -> Result<Self, AttentionError> {
        // The bounds keep the table below a few million entries.
        if !(2..=1 << 16).contains(&capacity) || !(1e-4..=10.0).contains(&rate) || window == 0 {
            return refuse(format!(
                "SELF's capacity {capacity} must be from 2 to 65536, its rate {rate} from 0.0001 to 10, and its window {window} at least 1"
            ));
        }
        Ok(Self {
            capacity,
            rate,
            window,
        })
    }

    /// The authors' rate, in proportion for trained windows shorter than theirs.
    pub fn default_rate(trained: usize) -> f64 {
        0.02 * (4096.0 / trained.max(64) as f64).max(1.0)
    }

    /// `floor(f(x))`.
    fn size(&self, group: usize) -> usize {
        let (c, grown) = (self.capacity as f64, (self.rate * group as f64).exp());
        // Divided by e^(rx), so that it cannot overflow.
        ((c / (1.0 + (c - 1.0) / grown)) as usize).clamp(1, self.capacity - 1)
    }

    pub(super) fn ready(self) -> Arc<dyn Positions> {
        let (mut starts, mut next) = (Vec::new(), 0);
        for group in 0.. {
            starts.push(next);
            let size = self.size(group);
            next += size;
            if size == self.capacity - 1 {
                break;
            }
        }
        Arc::new(Table { map: self, starts })
    }
}

/// With the first token of each group, up to the first one of the largest size.
#[derive(Debug)]
struct Table {
    map: Logistic,
    starts: Vec<usize>,
}

impl Table {
    /// `g(n)`.
    fn group(&self, n: usize) -> usize {
        let last = self.starts.len() - 1;
        match n.checked_sub(self.starts[last]) {
            Some(beyond) => last + beyond / (self.map.capacity - 1),
            None => self.starts.partition_point(|&start| start <= n) - 1,
        }
    }
}

impl Positions for Table {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let w = self.map.window;
        // `g` by counting, as the definition has it, not through the table.
        let group = |n: usize| {
            let (mut group, mut next) = (0, self.map.size(0));
            while next <= n {
                group += 1;
                next += self.map.size(group);
            }
            group
        };
        let position = if i - j < w {
            i - j
        } else {
            w + group(i - w) - group(j)
        };
        Some(position as f64)
    }

    fn reach(&self, trained: usize) -> Option<usize> {
        let Some(groups) = trained.checked_sub(self.map.window) else {
            return Some(trained);
        };
        // The first token whose group is too far, seen from the window's end.
        let last = self.starts.len() - 1;
        let tokens = match self.starts.get(groups) {
            Some(&start) => start,
            None => (groups - last)
                .saturating_mul(self.map.capacity - 1)
                .saturating_add(self.starts[last]),
        };
        Some(tokens.saturating_add(self.map.window))
    }

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::newest(self.map.window)].into()
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        split(region, i, (i + 1).saturating_sub(self.map.window))
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        let w = self.map.window;
        let position = if region == 0 {
            w + self.group(i.saturating_sub(w))
        } else {
            i
        };
        position as f64
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        (if region == 0 { self.group(j) } else { j }) as f64
    }

    fn stored(&self, j: usize) -> f64 {
        self.key(0, j)
    }
}

//! Exact multi-region attention.
//!
//! For query `i` of a head, over the keys `j <= i`:
//!
//! ```text
//! score(i, j) = scale * (R(p_q(i)) q_i) · (R(p_k(j)) k_j)     p_q(i) - p_k(j) = relative(i, j)
//! out(i)      = sum_j softmax_j(score(i, j)) v_j
//! ```
//!
//! where `relative` is the position map's and `R` the rotary embedding; keys that the map hides are
//! left out. Heads may have a sink: one more score, whose value is 0. [`oracle`] is that formula in f64, pair by pair. [`attend`] is the same in tiles, with
//! memory linear in the length. It knows regions only (see [`crate::position`]): ranges of keys, and
//! positions of queries and keys, computed once in a [`SegmentPlan`](crate::cache::SegmentPlan):
//!
//! * **prefill** (`prefill`): blocks of queries against tiles of keys with an online softmax.
//!   Panels of 16 keys are classified before they are multiplied, so the work is that of plain
//!   attention plus one extra panel per row of queries where two regions meet, and panels in no
//!   region cost nothing;
//! * **decode** (`decode`): one query against all keys, split over pages and merged in order.
//!
//! No result depends on the number of threads, and a prefill's do not depend on its chunks.

mod decode;
pub mod oracle;
mod pass;
mod prefill;
mod segment;

pub use pass::{AttentionScratch, attend, attend_with};
pub use segment::{HeadWeights, Segment};

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

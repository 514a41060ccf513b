//! The inner loops of attention, on slices, generic over the instructions.
//!
//! Keys are read in *panels*: 16 keys side by side, `[component][16]`, so that a row of a query
//! against a panel needs no transposition and no horizontal sum. The arithmetic of one output
//! element never depends on how many rows are computed together.

mod few;
mod hadamard;
mod nibbles;
mod offset;
mod pairs;
mod rows;
mod softmax;
mod stored;

pub use few::{MAX_FEW, accumulate_few, scores_few};
pub use hadamard::{hadamard, hadamard_panel, hadamard_row};
pub use nibbles::{EIGHT, accumulate_q4, round_head_q4, scores_q4, widen_panel_q4, widen_rows_q4};
pub use offset::{add_lanes, add_to_lanes, dot};
pub use pairs::{Rounded, accumulate_q8, multiply_rows, scores_q8};
pub use rows::{accumulate, scores};
pub use softmax::{Running, soft_cap, softmax_row};
pub use stored::{rotate_panel, round_to, widen, widen_panel_q8, widen_rows, widen_rows_q8};

//! From which size on element-wise work is split over threads.

/// Rows of activations in a task.
pub(super) const PARALLEL_ROWS: usize = 16;

/// The width that a row is taken to have where an operation is element by element.
pub(super) const SHARED_WIDTH: usize = 1024;

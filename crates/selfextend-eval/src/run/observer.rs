//! Who follows a run.

use super::estimate::Estimate;

/// Follows a run, and may stop it.
pub trait Observer: Send {
    /// The run is about to start; `estimate.operations` is what the whole of it takes.
    fn begin(&mut self, estimate: &Estimate) {
        let _ = estimate;
    }

    /// A sample starts under a method.
    fn sample(&mut self, id: &str, method: &str) {
        let _ = (id, method);
    }

    /// So many operations of the estimate are done.
    fn progress(&mut self, operations: f64) {
        let _ = operations;
    }

    /// Whether to stop as soon as possible.
    fn stop(&self) -> bool {
        false
    }
}

/// Follows nothing.
impl Observer for () {}

//! Panics that do not end the thread.

use super::event::Failure;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs work whose panic is the failure of the requests in it. The caller must leave nothing behind
/// that the work may have left half changed.
///
/// # Errors
/// [`Failure::Panicked`].
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        metrics::counter!("selfextend_panics_total").increment(1);
        tracing::error!(panic = message(&*panic), "a panic in the scheduler");
        Failure::Panicked
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// Panics where a test asks for it by the request's name.
#[cfg(test)]
pub fn trip(id: &str, place: &str) {
    assert!(
        id.strip_prefix("panic in ") != Some(place),
        "a test asked for it"
    );
}

#[cfg(not(test))]
#[inline(always)]
pub fn trip(_id: &str, _place: &str) {}

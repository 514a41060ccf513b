//! What the scheduler's handle and its thread share.

use super::request::Request;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What the thread is told.
pub enum Command {
    /// Run a request.
    Submit(Box<Request>),
    /// Fail what runs and waits, and end.
    Abort,
}

/// What both sides see.
#[derive(Debug, Default)]
pub struct Shared {
    pub queued: AtomicUsize,
    pub running: AtomicUsize,
    pub kv_bytes: AtomicUsize,
    /// Running mean of how long requests run, in milliseconds.
    pub mean_ms: AtomicU64,
    /// Whether no new requests are taken.
    pub stopping: AtomicBool,
}

impl Shared {
    /// When as many requests one after the other will have been served, judged by how long they
    /// took lately.
    pub fn retry_after(&self, turns: u32) -> Duration {
        let mean = Duration::from_millis(self.mean_ms.load(Ordering::Relaxed));
        (mean * turns).clamp(Duration::from_secs(1), Duration::from_secs(120))
    }

    /// Adds a request's duration to the mean.
    pub fn note_duration(&self, took: Duration) {
        let took = took.as_millis() as u64;
        let mean = self.mean_ms.load(Ordering::Relaxed);
        let mean = if mean == 0 {
            took
        } else {
            (mean * 7 + took) / 8
        };
        self.mean_ms.store(mean, Ordering::Relaxed);
    }
}

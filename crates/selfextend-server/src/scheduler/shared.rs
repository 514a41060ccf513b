//! What the scheduler's handle and its thread share.

use super::request::Request;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the thread is told.
pub enum Command {
    /// Run a request.
    Submit(Box<Request>),
    /// Fail what runs and waits, and end.
    Abort,
    /// Panic in the next turn.
    #[cfg(test)]
    Panic,
}

/// What both sides see.
#[derive(Debug)]
pub struct Shared {
    pub queued: AtomicUsize,
    pub running: AtomicUsize,
    pub kv_bytes: AtomicUsize,
    /// Running mean of how long requests run, in milliseconds.
    pub mean_ms: AtomicU64,
    /// Whether no new requests are taken.
    pub stopping: AtomicBool,
    started: Instant,
    /// When the thread last advanced, in milliseconds after `started`; 0 while it has nothing to do.
    advanced_ms: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            queued: AtomicUsize::default(),
            running: AtomicUsize::default(),
            kv_bytes: AtomicUsize::default(),
            mean_ms: AtomicU64::default(),
            stopping: AtomicBool::default(),
            started: Instant::now(),
            advanced_ms: AtomicU64::default(),
        }
    }
}

impl Shared {
    /// Notes that the thread advances: at the start of a turn and at every layer of a pass.
    pub fn advance(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.advanced_ms.store(now.max(1), Ordering::Relaxed);
    }

    /// Notes that the thread has nothing to do.
    pub fn rest(&self) {
        self.advanced_ms.store(0, Ordering::Relaxed);
    }

    /// How long the thread has not advanced although it has work.
    pub fn stalled_for(&self) -> Duration {
        match self.advanced_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => self
                .started
                .elapsed()
                .saturating_sub(Duration::from_millis(at)),
        }
    }

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

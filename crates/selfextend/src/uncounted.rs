//! A pass whose tokens do not count yet.

use crate::backend::{Backend, Cache};

/// The caches of a pass under way. Unless the pass is counted, they go back to where they were
/// before it, whether it ends with an error or in a panic.
pub struct Uncounted<'a, 'c, B: Backend> {
    backend: &'a B,
    /// The caches, to be written.
    pub caches: &'a mut [&'c mut B::Cache],
    counted: bool,
}

impl<'a, 'c, B: Backend> Uncounted<'a, 'c, B> {
    /// Before anything is stored.
    pub fn new(backend: &'a B, caches: &'a mut [&'c mut B::Cache]) -> Self {
        Self {
            backend,
            caches,
            counted: false,
        }
    }

    /// Counts the new tokens of each cache.
    pub fn count(mut self, tokens: &[&[u32]]) {
        for (cache, tokens) in self.caches.iter_mut().zip(tokens) {
            cache.commit(tokens.len());
        }
        self.counted = true;
    }
}

impl<B: Backend> Drop for Uncounted<'_, '_, B> {
    fn drop(&mut self) {
        if self.counted {
            return;
        }
        // A backend that has queued work must learn that the pass has ended. Its error is told
        // already, or hidden by a panic.
        let _ = self.backend.finish();
        for cache in self.caches.iter_mut() {
            let _ = cache.truncate(cache.len());
        }
    }
}

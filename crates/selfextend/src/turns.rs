//! Passes of one model that are asked for at the same time.
//!
//! A thread of a rayon pool that waits takes other tasks of the pool, such as one that wants what the
//! waiting one holds. So no lock is held while a pass runs on threads: buffers are taken out for a
//! pass and put back after it.

use crate::backend::Backend;
use crate::decoder::Activations;
use crate::error::{Error, Result};
use rayon::ThreadPool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Buffers that no pass uses, as many as there ever were passes at the same time.
pub(crate) struct Spare<B: Backend>(Mutex<Vec<Activations<B>>>);

impl<B: Backend> Default for Spare<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B: Backend> Spare<B> {
    pub fn take(&self) -> Activations<B> {
        self.all().pop().unwrap_or_default()
    }

    /// After a panic they are lost, and the next pass makes new ones.
    pub fn put_back(&self, activations: Activations<B>) {
        self.all().push(activations);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Activations<B>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose pass it is, on a backend that runs one at a time on the caller's thread.
#[derive(Default)]
pub(crate) struct Turn {
    owner: Mutex<Option<ThreadId>>,
    over: Condvar,
}

/// A pass under way; dropped at its end.
pub(crate) struct OnTurn<'a>(&'a Turn);

impl Turn {
    /// Waits until no other pass runs.
    ///
    /// # Errors
    /// A pass from within a pass, which would wait for itself.
    pub fn take(&self) -> Result<OnTurn<'_>> {
        let this = thread::current().id();
        let mut owner = self.owner();
        while let Some(other) = *owner {
            if other == this {
                return Err(Error::Device(
                    "a pass of a model within a pass of the same model: begin it after the first has \
                     ended"
                        .into(),
                ));
            }
            owner = self
                .over
                .wait(owner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *owner = Some(this);
        Ok(OnTurn(self))
    }

    fn owner(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnTurn<'_> {
    fn drop(&mut self) {
        *self.0.owner() = None;
        self.0.over.notify_one();
    }
}

/// Runs work on a pool. A thread of another pool waits for it without taking tasks of its own pool:
/// each could begin a pass, and their buffers and stack would grow with the tasks that wait.
pub(crate) fn on_pool<R: Send>(pool: &ThreadPool, work: impl FnOnce() -> R + Send) -> R {
    let is_foreign =
        rayon::current_thread_index().is_some() && pool.current_thread_index().is_none();
    if !is_foreign {
        return pool.install(work);
    }
    let mut result = None;
    pool.in_place_scope(|scope| scope.spawn(|_| result = Some(work())));
    result.expect("a scope ends after its work, or panics with it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_turn_at_a_time_and_none_within_another() {
        let (turn, within) = (Turn::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _turn = turn.take().unwrap();
                        assert_eq!(within.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(turn.take().is_err());
                        within.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(turn.take().is_ok());
    }
}

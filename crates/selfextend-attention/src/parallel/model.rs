//! The queue and its end under every interleaving of two or three threads and every order of memory
//! that the language allows: `tools/check-memory.sh`.
//!
//! Threads are loom's here. In the crate they are rayon's, which cannot run under loom: what `busy`
//! prevents between passes has a test with real threads in `parallel.rs`.
//!
//! Tried on purpose, and found: `Relaxed` for the `Release` of `SetOnDrop` or the `Acquire` of `look`
//! (a race on what the work wrote), an end that is never stored (the model does not end), and a queue that
//! skips tasks.

use super::{SetOnDrop, drain, look};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

const TASKS: usize = 3;

/// Makes tasks, and must not be asked by two threads at once.
struct Tasks {
    made: UnsafeCell<usize>,
    next: usize,
}

impl Iterator for Tasks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        // Loom ends the model if another thread is inside, or has not made its end known.
        self.made.with_mut(|_| ());
        let task = self.next;
        self.next += 1;
        (task < TASKS).then_some(task)
    }
}

/// A slot for each task: how often it ran, and a cell that only one thread may write.
#[derive(Default)]
struct Slot {
    runs: AtomicUsize,
    result: UnsafeCell<()>,
}

#[test]
fn every_task_is_handed_out_once_and_in_order() {
    for threads in [2, 3] {
        loom::model(move || {
            let (made, next) = (UnsafeCell::new(0), 0);
            let queue = Arc::new(Mutex::new(Tasks { made, next }));
            let slots: Arc<[Slot; TASKS]> = Arc::default();
            let take = {
                let (queue, slots) = (queue.clone(), slots.clone());
                move || {
                    let last = std::cell::Cell::new(None);
                    drain(&queue, &|task| {
                        assert!(last.replace(Some(task)) < Some(task), "{task} comes late");
                        slots[task].runs.fetch_add(1, Ordering::Relaxed);
                        slots[task].result.with_mut(|_| ());
                    });
                }
            };
            let others: Vec<_> = (1..threads).map(|_| thread::spawn(take.clone())).collect();
            take();
            others.into_iter().for_each(|other| other.join().unwrap());
            for slot in &*slots {
                assert_eq!(slot.runs.load(Ordering::Relaxed), 1);
                slot.result.with(|_| ());
            }
        });
    }
}

/// Who stays awake ends, and sees all that was done before. (Two who wait for each other's turn are
/// more than the model can follow.)
#[test]
fn the_end_is_seen_after_the_work() {
    loom::model(|| {
        let shared = Arc::new((AtomicBool::new(false), UnsafeCell::new(0)));
        let awake = {
            let shared = shared.clone();
            thread::spawn(move || {
                look(&shared.0);
                shared.1.with(|_| ());
            })
        };
        {
            let _done = SetOnDrop(&shared.0);
            shared.1.with_mut(|_| ());
        }
        awake.join().unwrap();
    });
}

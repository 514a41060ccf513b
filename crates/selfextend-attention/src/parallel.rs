//! Ordered work queues on the current rayon pool.
//!
//! Attention's tasks differ in length by orders of magnitude, so they are handed out one by one
//! in the caller's order (longest first), which rayon's recursive splitting does not promise.
//! What a task computes never depends on which thread runs it. Nothing here allocates: a decode
//! step hands out work more than a hundred times.

#[cfg(all(test, loom))]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, loom)))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Runs `work` on each task, handing them out in order to the threads of the current pool. Tasks
/// are made as they are taken, by one thread at a time.
pub fn for_each<I>(tasks: I, work: impl Fn(I::Item) + Sync)
where
    I: IntoIterator,
    I::IntoIter: Send,
{
    let tasks = tasks.into_iter();
    let threads = rayon::current_num_threads();
    if threads == 1 || tasks.size_hint().1.is_some_and(|most| most <= 1) {
        tasks.for_each(work);
        return;
    }
    let queue = Queue(Mutex::new(tasks));
    on_threads(threads, &|| queue.drain(&work));
}

/// Tasks that several threads take one by one.
struct Queue<I>(Mutex<I>);

impl<I: Iterator> Queue<I> {
    /// Runs `work` on task after task until none is left.
    fn drain(&self, work: &impl Fn(I::Item)) {
        while let Some(task) = self.next() {
            work(task);
        }
    }

    fn next(&self) -> Option<I::Item> {
        // A poisoned lock means that making a task panicked: that panic is being propagated.
        self.0.lock().ok()?.next()
    }
}

/// Offers `drain` to `threads` threads; those that come late find nothing left.
fn on_threads(threads: usize, drain: &(impl Fn() + Sync)) {
    if threads == 1 {
        drain();
    } else {
        let half = threads / 2;
        rayon::join(
            || on_threads(threads - half, drain),
            || on_threads(half, drain),
        );
    }
}

/// Runs `work` while the other threads of the current pool look for tasks without going to sleep.
///
/// A decode step hands out a few microseconds of work hundreds of times; a thread that has gone to
/// sleep in between takes longer to wake up than its share takes to run.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let Some(owner) = rayon::current_thread_index() else {
        return work();
    };
    let done = Done(AtomicBool::new(false));
    let others = rayon::current_num_threads() - 1;
    let run = || {
        let _done = SetOnDrop(&done);
        work()
    };
    rayon::join(run, || look_for_tasks(others, owner, &done)).0
}

/// Keeps up to `threads` threads busy until `done`; never the owner of the work, which would wait
/// for itself.
fn look_for_tasks(threads: usize, owner: usize, done: &Done) {
    if threads == 0 || rayon::current_thread_index() == Some(owner) {
        return;
    }
    let look = || {
        done.wait(|| {
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::hint::spin_loop();
            }
        });
    };
    rayon::join(look, || look_for_tasks(threads - 1, owner, done));
}

/// Whether some work has ended.
struct Done(AtomicBool);

impl Done {
    /// Calls `meanwhile` again and again until the work has ended.
    fn wait(&self, meanwhile: impl Fn()) {
        while !self.0.load(Ordering::Acquire) {
            meanwhile();
        }
    }
}

/// Marks the end of the work, also when it panics.
struct SetOnDrop<'a>(&'a Done);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod model;

#[cfg(all(test, not(loom)))]
mod tests {
    /// With more threads than this machine has, from inside and outside the pool, and again after
    /// a panic.
    #[test]
    fn work_ends_while_the_others_are_awake() {
        for threads in 1..6 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let sum = || {
                let mut tasks = vec![1u32; 300];
                for _ in 0..50 {
                    super::for_each(&mut tasks, |task| *task += 1);
                }
                tasks.iter().sum::<u32>()
            };
            for _ in 0..20 {
                assert_eq!(pool.install(|| super::awake(sum)), 300 * 51);
            }
            let panics = || pool.install(|| super::awake(|| panic!("on purpose")));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
            assert_eq!(pool.install(|| super::awake(sum)), 300 * 51);
            assert_eq!(super::awake(sum), 300 * 51);
        }
    }

    #[test]
    fn every_task_runs_once() {
        let mut tasks = vec![0u32; 1000];
        super::for_each(&mut tasks, |task| *task += 1);
        assert!(tasks.iter().all(|&task| task == 1));
    }
}

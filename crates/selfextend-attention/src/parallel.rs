//! Ordered work queues on the current rayon pool.
//!
//! Attention's tasks differ in length by orders of magnitude, so they are handed out one by one
//! in the caller's order (longest first), which rayon's recursive splitting does not promise.
//! What a task computes never depends on which thread runs it. Nothing here allocates: a decode
//! step hands out work more than a hundred times.

#[cfg(all(test, loom))]
use loom::{
    hint::spin_loop,
    sync::Mutex,
    sync::atomic::{AtomicBool, Ordering},
};
use std::cell::Cell;
use std::time::{Duration, Instant};
#[cfg(not(all(test, loom)))]
use std::{
    hint::spin_loop,
    sync::Mutex,
    sync::atomic::{AtomicBool, Ordering},
};

/// After so long without a task, a thread that looks for one goes to sleep like any other.
const PATIENCE: Duration = Duration::from_millis(10);
/// Looks between two glances at the clock.
const LOOKS: usize = 1 << 10;

thread_local! {
    /// How many calls of [`busy`] this thread is within.
    static BUSY: Cell<usize> = const { Cell::new(0) };
}

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
    let queue = Mutex::new(tasks);
    on_threads(threads, &|| drain(&queue, &work));
}

/// Runs `work` on task after task until none is left.
fn drain<I: Iterator>(queue: &Mutex<I>, work: &impl Fn(I::Item)) {
    // A poisoned lock means that making a task panicked: that panic is being propagated.
    let next = || queue.lock().ok()?.next();
    while let Some(task) = next() {
        work(task);
    }
}

/// Offers `drain` to `threads` threads; those that come late find nothing left.
fn on_threads(threads: usize, drain: &(impl Fn() + Sync)) {
    if threads == 1 {
        drain();
    } else {
        let half = threads / 2;
        busy(|| {
            rayon::join(
                || on_threads(threads - half, drain),
                || on_threads(half, drain),
            )
        });
    }
}

/// Runs work that may wait for other threads. While it waits, its thread takes other tasks, but never
/// one that looks for tasks: that ends with its pass, and the pass may wait for this very work.
fn busy<R>(work: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            BUSY.set(BUSY.get() - 1);
        }
    }
    BUSY.set(BUSY.get() + 1);
    let _leave = Leave;
    work()
}

/// Runs `work` while the other threads of the current pool look for tasks without going to sleep.
///
/// A decode step hands out a few microseconds of work hundreds of times; a thread that has gone to
/// sleep in between takes longer to wake up than its share takes to run.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_none() {
        return work();
    }
    let done = AtomicBool::new(false);
    let others = rayon::current_num_threads() - 1;
    let run = || {
        let _done = SetOnDrop(&done);
        busy(work)
    };
    rayon::join(run, || look_for_tasks(others, &done)).0
}

/// Keeps up to `threads` threads busy until `done`; none that waits for something beneath.
fn look_for_tasks(threads: usize, done: &AtomicBool) {
    if threads == 0 || BUSY.get() > 0 {
        return;
    }
    rayon::join(|| look(done), || look_for_tasks(threads - 1, done));
}

/// Runs tasks until `done`, or until there have been none for long: a caller's own parallel work may
/// have left something on this thread that the pass waits for.
fn look(done: &AtomicBool) {
    let (mut last, mut looks) = (Instant::now(), 0);
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            (last, looks) = (Instant::now(), 0);
            continue;
        }
        spin_loop();
        looks += 1;
        if looks % LOOKS == 0 && last.elapsed() > PATIENCE {
            return;
        }
    }
}

/// Marks the end of the work, also when it panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod model;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

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

    /// A thread that waits for a task of its pass takes other tasks, but none that lasts as long as
    /// another pass: that could wait for this one in turn.
    #[test]
    fn a_pass_that_waits_does_not_wait_for_another_pass() {
        const NONE: usize = usize::MAX;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
        let pool = pool.build().unwrap();
        let here = || rayon::current_thread_index().unwrap();
        let until = |done: &dyn Fn() -> bool| {
            let begin = Instant::now();
            while !done() && begin.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
        };
        for _ in 0..5 {
            // The owner of the first pass waits for the thread that has taken its other task.
            let (owner, other) = (AtomicUsize::new(NONE), AtomicUsize::new(NONE));
            let ended = AtomicBool::new(false);
            let is_taken = || other.load(Ordering::SeqCst) != NONE;
            let first = || {
                owner.store(here(), Ordering::SeqCst);
                super::for_each(0..2, |_| {
                    if here() == owner.load(Ordering::SeqCst) {
                        until(&is_taken);
                    } else {
                        other.store(here(), Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                ended.store(true, Ordering::SeqCst);
            };
            let second = || {
                until(&|| ended.load(Ordering::SeqCst));
                assert!(
                    ended.load(Ordering::SeqCst),
                    "the first waits for the second"
                );
            };
            std::thread::scope(|scope| {
                scope.spawn(|| pool.install(|| super::awake(first)));
                until(&is_taken);
                pool.broadcast(|_| {
                    if [&owner, &other]
                        .iter()
                        .all(|it| it.load(Ordering::SeqCst) != here())
                    {
                        super::awake(second);
                    }
                });
            });
        }
    }

    #[test]
    fn every_task_runs_once() {
        let mut tasks = vec![0u32; 1000];
        super::for_each(&mut tasks, |task| *task += 1);
        assert!(tasks.iter().all(|&task| task == 1));
    }
}

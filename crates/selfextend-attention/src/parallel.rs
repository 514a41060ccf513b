//! Ordered work queues on the current rayon pool.
//!
//! Attention's tasks differ in length by orders of magnitude, so they are handed out one by one
//! in the caller's order (longest first), which rayon's recursive splitting does not promise.
//! What a task computes never depends on which thread runs it. Nothing here allocates: a decode
//! step hands out work more than a hundred times.

use std::sync::Mutex;

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
    // A poisoned lock means another task panicked: that panic is already on its way up.
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    on_threads(threads, &|| {
        while let Some(task) = next() {
            work(task);
        }
    });
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

#[cfg(test)]
mod tests {
    #[test]
    fn every_task_runs_once() {
        let mut tasks = vec![0u32; 1000];
        super::for_each(&mut tasks, |task| *task += 1);
        assert!(tasks.iter().all(|&task| task == 1));
    }
}

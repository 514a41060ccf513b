//! Ordered work queues on the current rayon pool.
//!
//! Attention's tasks differ in length by orders of magnitude, so they are handed out one by one
//! in the caller's order (longest first), which rayon's recursive splitting does not promise.
//! What a task computes never depends on which thread runs it.

use std::sync::Mutex;

/// Runs `work` on each task, handing them out in order to the threads of the current pool.
pub fn for_each<T: Send>(tasks: &mut [T], work: impl Fn(&mut T) + Sync) {
    if tasks.len() <= 1 || rayon::current_num_threads() == 1 {
        tasks.iter_mut().for_each(work);
        return;
    }
    let queue = Mutex::new(tasks.iter_mut());
    // A poisoned lock means another task panicked: that panic is already on its way up.
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    rayon::broadcast(|_| {
        while let Some(task) = next() {
            work(task);
        }
    });
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

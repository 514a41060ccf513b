//! Who goes next: the queue, and how a chunk of prefill is divided. Pure rules: no clock, no model.
//!
//! Three rules keep short requests moving beside long ones without starving the long ones:
//!
//! 1. **Passing.** Requests are admitted first come, first served. When the first one has no room, a
//!    later one that has may pass it, until the requests that passed it were charged, together, as
//!    much as it needs itself. After that nobody passes. So what is admitted before a request is at
//!    most twice what waited before it, plus as much as itself.
//! 2. **A reserve of one eighth** ([`leaves_room`]): long requests may not use the last eighth of
//!    the memory or of the places. Otherwise a few documents fill the budget and nothing can pass.
//! 3. **Shortest first, but half for the oldest** ([`shares`]): a short prompt is read in a few
//!    chunks whatever is read beside it, and the oldest prompt advances in every chunk.

use std::collections::VecDeque;

/// Waiting requests in the order they arrived.
#[derive(Debug)]
pub struct Queue<T>(VecDeque<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    request: T,
    /// The most bytes it can be charged.
    cost: usize,
    /// Bytes charged to those that passed it while it was the first.
    passed: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Queue<T> {
    /// Adds a request that can be charged up to `cost` bytes.
    pub fn push(&mut self, request: T, cost: usize) {
        let passed = 0;
        self.0.push_back(Waiting {
            request,
            cost,
            passed,
        });
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the requests that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|waiting| keep(&waiting.request));
    }

    /// Removes all requests, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.0.drain(..).map(|waiting| waiting.request)
    }

    /// Removes and returns the request that is admitted next, if there is one. `room(request, most)`
    /// gives what it is admitted with and the bytes it is charged, or nothing when it has no room
    /// now or would be charged more than `most` bytes.
    pub fn admit<R>(
        &mut self,
        mut room: impl FnMut(&T, usize) -> Option<(R, usize)>,
    ) -> Option<(T, R)> {
        let first = self.0.front()?;
        let allowance = first.cost.saturating_sub(first.passed);
        let (at, found, charged) = self.0.iter().enumerate().find_map(|(at, waiting)| {
            let most = if at == 0 { usize::MAX } else { allowance };
            let (found, charged) = (most > 0).then(|| room(&waiting.request, most))??;
            Some((at, found, charged))
        })?;
        if at > 0 {
            self.0[0].passed += charged;
        }
        let admitted = self.0.remove(at)?;
        Some((admitted.request, found))
    }
}

/// Whether one more long request leaves an eighth of `total` to short ones. A single long request
/// may always have all of it.
pub fn leaves_room(total: usize, held_by_long: usize, wanted: usize) -> bool {
    held_by_long == 0 || held_by_long + wanted <= total - total.div_ceil(8)
}

/// Divides a chunk of tokens among prompts with so many unread tokens each, the oldest prompt first:
/// half of it goes to the oldest, the rest to those with the fewest unread tokens.
pub fn shares(chunk: usize, unread: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; unread.len()];
    let mut left = chunk;
    let mut give = |n: usize, most: usize| {
        let more = most.min(left).min(unread[n] - shares[n]);
        shares[n] += more;
        left -= more;
    };
    if let Some(oldest) = unread.iter().position(|unread| *unread > 0) {
        give(oldest, chunk.div_ceil(2));
    }
    let mut order: Vec<usize> = (0..unread.len()).collect();
    order.sort_by_key(|n| unread[*n]);
    order.into_iter().for_each(|n| give(n, chunk));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_prompt_does_not_wait_for_a_long_one() {
        assert_eq!(shares(512, &[12_000]), [512]);
        assert_eq!(shares(512, &[12_000, 30]), [482, 30]);
        assert_eq!(shares(512, &[12_000, 9000, 40, 30]), [256, 186, 40, 30]);
        assert_eq!(shares(512, &[12_000, 300, 200]), [256, 56, 200]);
        assert_eq!(shares(512, &[5, 6]), [5, 6]);
        assert_eq!(shares(1, &[9, 3]), [1, 0]);
        assert_eq!(shares(8, &[]), [0; 0]);
    }

    #[test]
    fn the_first_is_passed_by_as_much_as_it_needs_itself() {
        let mut queue = Queue::default();
        queue.push("document", 10);
        (0..9).for_each(|_| queue.push("chat", 4));
        let full = |request: &&str, most| (*request == "chat" && most >= 4).then_some(((), 4));
        assert!(queue.admit(full).is_some() && queue.admit(full).is_some());
        // Eight of ten are used up: a third would be one too many.
        assert!(queue.admit(full).is_none());
        let empty = |_: &&str, _| Some(((), 4));
        assert_eq!(queue.admit(empty).unwrap().0, "document");
        assert_eq!(queue.admit(empty).unwrap().0, "chat");
    }

    #[test]
    fn long_requests_leave_an_eighth() {
        assert!(leaves_room(16, 0, 16) && leaves_room(16, 7, 7));
        assert!(!leaves_room(16, 8, 7));
        assert!(leaves_room(1, 0, 1) && !leaves_room(2, 1, 1));
    }

    /// A request in the simulation below: its bytes, and the turns it runs once it is read.
    #[derive(Debug, Clone)]
    struct Job {
        bytes: usize,
        unread: usize,
        turns: usize,
        arrives: usize,
    }

    const BUDGET: usize = 100;
    const PLACES: usize = 6;
    const CHUNK: usize = 8;
    const LONG: usize = 20;

    fn jobs() -> impl Strategy<Value = Vec<Job>> {
        let bytes = prop_oneof![4 => 1..LONG, 1 => LONG..=BUDGET];
        let job = (bytes, 1..60usize, 0..9usize, 0..60usize);
        let job = job.prop_map(|(bytes, unread, turns, arrives)| Job {
            bytes,
            unread,
            turns,
            arrives,
        });
        prop::collection::vec(job, 1..50).prop_map(|mut jobs| {
            jobs.sort_by_key(|job| job.arrives);
            jobs
        })
    }

    proptest! {
        /// The worker's rules on jobs without a model: all are served within the budget, none is
        /// passed beyond its bound, and none is read slower than its turn as the oldest allows.
        #[test]
        fn everyone_is_served_within_bounds(jobs in jobs()) {
            let mut queue = Queue::default();
            let mut running: Vec<(usize, Job)> = Vec::new();
            let mut admitted: Vec<usize> = Vec::new();
            // For each: bytes that waited when it came, and tokens before it when it was admitted.
            let mut ahead = vec![0; jobs.len()];
            let mut to_read = vec![(0, 0); jobs.len()];
            let mut come = 0;
            for turn in 0.. {
                while jobs.get(come).is_some_and(|job| job.arrives <= turn) {
                    let waiting = (0..come).filter(|n| !admitted.contains(n));
                    ahead[come] = waiting.map(|n| jobs[n].bytes).sum();
                    queue.push(come, jobs[come].bytes);
                    come += 1;
                }
                let held = |running: &[(usize, Job)], least| -> (usize, usize) {
                    let some = running.iter().filter(|(_, job)| job.bytes >= least);
                    some.fold((0, 0), |sum, (_, job)| (sum.0 + job.bytes, sum.1 + 1))
                };
                while let Some((n, ())) = queue.admit(|n, most| {
                    let bytes = jobs[*n].bytes;
                    let (all, long) = (held(&running, 0), held(&running, LONG));
                    let short = bytes < LONG
                        || leaves_room(BUDGET, long.0, bytes) && leaves_room(PLACES, long.1, 1);
                    let fits = all.0 + bytes <= BUDGET && all.1 < PLACES;
                    (short && fits && bytes <= most).then_some(((), bytes))
                }) {
                    let before: usize = running.iter().map(|(_, job)| job.unread).sum();
                    to_read[n] = (turn, before + jobs[n].unread);
                    running.push((n, jobs[n].clone()));
                    admitted.push(n);
                }
                prop_assert!(held(&running, 0).0 <= BUDGET && running.len() <= PLACES);
                prop_assert!(!running.is_empty() || queue.is_empty());
                if running.is_empty() && come == jobs.len() {
                    break;
                }
                running.retain_mut(|(_, job)| {
                    let runs = job.unread > 0 || job.turns > 0;
                    job.turns -= usize::from(job.unread == 0 && job.turns > 0);
                    runs
                });
                let unread: Vec<usize> = running.iter().map(|(_, job)| job.unread).collect();
                let shares = shares(CHUNK, &unread);
                prop_assert_eq!(shares.iter().sum::<usize>(), CHUNK.min(unread.iter().sum()));
                for ((n, job), share) in running.iter_mut().zip(shares) {
                    job.unread -= share;
                    let (since, tokens) = to_read[*n];
                    // Half a chunk for the oldest, in the worst case a part of one for each.
                    let most = tokens.div_ceil(CHUNK / 2) + PLACES;
                    prop_assert!(job.unread == 0 || turn - since <= most);
                }
            }
            prop_assert_eq!(admitted.len(), jobs.len());
            for (at, n) in admitted.iter().enumerate() {
                let passed = admitted[..at].iter().filter(|other| *other > n);
                let passed: usize = passed.map(|n| jobs[*n].bytes).sum();
                prop_assert!(passed <= ahead[*n] + jobs[*n].bytes);
            }
        }
    }
}

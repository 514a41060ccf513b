//! The thread that runs the model: its turns, and the end of requests.

use super::active::ActiveRequest;
use super::cost::Cost;
use super::event::{Event, Failure};
use super::fairness::Queue;
use super::request::Request;
use super::shared::{Command, Shared};
use super::supervise::{guarded, trip};
use crate::config::SchedulerLimits;
use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use selfextend::speculate::{Costs, DraftModel};
use selfextend::{Error, TextModel};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// The longest sleep while requests wait that cannot run: their clients may go away.
const NAP: Duration = Duration::from_millis(20);

/// The state of the thread. Admission is in `admission`, the model's passes are in `passes`.
pub struct Worker<'m> {
    pub text: &'m TextModel,
    /// Guesses tokens for it.
    pub draft: Option<&'m DraftModel>,
    pub ladder: &'m Ladder,
    pub limits: SchedulerLimits,
    /// The costs of a request, one for each rung.
    pub costs: &'m [Cost],
    pub shared: &'m Shared,
    pub queue: Queue<Box<Request>>,
    /// Admitted requests, the oldest first.
    pub running: Vec<ActiveRequest<'m>>,
    pub prefixes: PrefixCache,
    /// Bytes of the budget that running requests hold.
    pub reserved: usize,
    /// What decode steps take, and guesses for them.
    pub step_costs: Costs,
}

impl<'m> Worker<'m> {
    pub fn new(
        (text, draft): (&'m TextModel, Option<&'m DraftModel>),
        ladder: &'m Ladder,
        limits: SchedulerLimits,
        costs: &'m [Cost],
        prefixes: PrefixCache,
        shared: &'m Shared,
    ) -> Self {
        Self {
            text,
            draft,
            ladder,
            limits,
            costs,
            shared,
            queue: Queue::default(),
            running: Vec::new(),
            prefixes,
            reserved: 0,
            step_costs: match limits.prices {
                Some((row, draft)) => Costs::known(row, draft, limits.busy_chunk),
                None => Costs::new(limits.busy_chunk),
            },
        }
    }

    /// Serves until it is told to stop, or nobody is left who could ask, or a panic occurs that no
    /// request can be blamed for.
    pub fn run(&mut self, inbox: &Receiver<Command>) {
        let phases = [
            Self::clear_away,
            Self::admit,
            Self::decode,
            Self::prefill,
            Self::report,
        ];
        let failure = loop {
            match guarded(|| self.listen(inbox)) {
                Ok(true) => {}
                Ok(false) => break Failure::ShuttingDown,
                Err(panicked) => break panicked,
            }
            let turn = phases.iter().try_for_each(|phase| {
                guarded(|| phase(self)).or_else(|panicked| {
                    let recovered = self.recover();
                    recovered.then_some(()).ok_or(panicked)
                })
            });
            if let Err(panicked) = turn {
                break panicked;
            }
        };
        if failure != Failure::ShuttingDown {
            tracing::error!("the scheduler cannot go on");
        }
        self.end(&failure);
    }

    /// Fails all that wait and run.
    fn end(&mut self, failure: &Failure) {
        for request in self.queue.drain() {
            request.events.send(Event::Failed(failure.clone()));
        }
        for active in self.running.drain(..) {
            active.fail(failure.clone());
        }
    }

    /// After a panic: fails the requests that were in the pass, and brings back a state that is
    /// consistent. False where there were none.
    fn recover(&mut self) -> bool {
        let in_pass = |n: &usize| self.running[*n].in_pass;
        let blamed: Vec<usize> = (0..self.running.len()).filter(in_pass).collect();
        let found = !blamed.is_empty();
        self.fail(blamed, &Failure::Panicked);
        self.forget_prefixes();
        found
    }

    /// Empties the prefix cache, which a panic may have left half changed, and charges every running
    /// request for all of its blocks again: those that the cache had taken over are theirs alone now.
    pub fn forget_prefixes(&mut self) {
        self.prefixes.clear();
        for active in &mut self.running {
            active.reserved = self.costs[active.request.rung].of_request(&active.request);
        }
        self.reserved = self.running.iter().map(|active| active.reserved).sum();
    }

    /// Takes in new requests, and sleeps while there is nothing to do. False when it is time to end.
    fn listen(&mut self, inbox: &Receiver<Command>) -> bool {
        loop {
            let idle = self.running.is_empty();
            let command = if !idle {
                inbox.try_recv()
            } else if self.queue.is_empty() {
                self.shared.rest();
                inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                inbox.recv_timeout(NAP).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            };
            self.shared.advance();
            match command {
                Ok(Command::Submit(request)) => {
                    let cost = self.costs[request.rung].of_request(&request);
                    self.queue.push(request, cost);
                }
                Ok(Command::Abort) => return false,
                #[cfg(test)]
                Ok(Command::Panic) => panic!("a test asked for it"),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !idle,
            }
            if idle {
                return true;
            }
        }
    }

    /// Removes requests that are finished, cancelled or past their deadline.
    fn clear_away(&mut self) {
        let now = Instant::now();
        let shared = self.shared;
        self.queue.retain(|request| {
            let late = now > request.deadline;
            if late {
                let failure = request.timed_out();
                request.events.send(Event::Failed(failure));
            }
            let keep = !late && !request.events.is_closed();
            if !keep {
                shared.queued.fetch_sub(1, Ordering::SeqCst);
                metrics::counter!("selfextend_cancelled_total").increment(1);
            }
            keep
        });
        for n in (0..self.running.len()).rev() {
            let active = &self.running[n];
            trip(&active.request.id, "turn");
            if active.is_cancelled() {
                metrics::counter!("selfextend_cancelled_total").increment(1);
                tracing::info!(request = active.request.id, "cancelled by its client");
            } else if now > active.request.deadline {
                active.fail(active.request.timed_out());
            } else if active.too_slow {
                tracing::warn!(request = active.request.id, "its client reads too slowly");
                active.fail(Failure::SlowReader);
            } else if active.is_done() {
                active.warn_of_drafts();
                active.finish();
                self.shared.note_duration(active.admitted.elapsed());
            } else {
                continue;
            }
            self.drop_active(n);
        }
    }

    fn drop_active(&mut self, n: usize) {
        let active = self.running.remove(n);
        self.reserved -= active.reserved;
    }

    /// Ends running requests with a failure. `numbers` ascends.
    pub fn fail(&mut self, numbers: Vec<usize>, failure: &Failure) {
        for n in numbers.into_iter().rev() {
            let active = &self.running[n];
            tracing::error!(request = active.request.id, error = %failure, "failed");
            active.fail(failure.clone());
            self.drop_active(n);
        }
    }

    /// The failure that an engine's error means for a request.
    pub fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::DeviceMemory(reason) => Failure::NoMemory {
                reason: reason.clone(),
                retry_after: self.shared.retry_after(1),
            },
            error => Failure::Engine(error.to_string()),
        }
    }

    /// Publishes the state of the turn.
    fn report(&mut self) {
        let bytes = self.reserved + self.prefixes.bytes();
        let running = self.running.len();
        self.shared.running.store(running, Ordering::SeqCst);
        self.shared.kv_bytes.store(bytes, Ordering::SeqCst);
        metrics::gauge!("selfextend_running_requests").set(running as f64);
        metrics::gauge!("selfextend_queued_requests").set(self.queue.len() as f64);
        metrics::gauge!("selfextend_kv_reserved_bytes").set(self.reserved as f64);
        metrics::gauge!("selfextend_prefix_cache_bytes").set(self.prefixes.bytes() as f64);
    }
}

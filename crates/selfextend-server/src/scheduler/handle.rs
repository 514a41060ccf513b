//! The handlers' side of the scheduler.

use super::cost::Cost;
use super::event::Failure;
use super::request::Request;
use super::shared::{Command, Shared};
use super::worker::Worker;
use crate::config::SchedulerLimits;
use crate::error::ServerError;
use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use selfextend::TextModel;
use selfextend::speculate::DraftModel;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Submits requests to the thread that runs the model.
pub struct Scheduler {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    limits: SchedulerLimits,
    costs: Vec<Cost>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the thread ends.
    alive: watch::Receiver<()>,
}

/// A thread that has not finished a layer of a pass for so long is taken to hang.
const STALLED: Duration = Duration::from_secs(300);

/// What the thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves, or waits for requests.
    Ok,
    /// It has work and does not advance.
    Stalled,
    /// It has ended.
    Ended,
}

/// Bytes of keys and values that one sequence of the ladder's largest context needs, those of a draft
/// model included: the least a server's [`kv_memory`](SchedulerLimits::kv_memory) may be.
///
/// # Errors
/// Sessions that the model's device has no kernels for.
pub fn full_context_bytes(
    text: &TextModel,
    draft: Option<&DraftModel>,
    ladder: &Ladder,
) -> Result<usize, ServerError> {
    match ladder.rungs().last() {
        Some(rung) => Ok(Cost::new(text, draft, rung)?.full(rung.context())),
        None => Ok(0),
    }
}

impl Scheduler {
    /// Starts the thread.
    ///
    /// # Errors
    /// Sessions that the model's device has no kernels for, or no thread left.
    pub fn start(
        text: Arc<TextModel>,
        draft: Option<DraftModel>,
        ladder: Arc<Ladder>,
        limits: SchedulerLimits,
        prefixes: PrefixCache,
    ) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared::default());
        let cost = |rung| Cost::new(&text, draft.as_ref(), rung);
        let costs = ladder.rungs().iter().map(cost);
        let costs: Vec<Cost> = costs.collect::<selfextend::Result<_>>()?;
        let (commands, inbox) = mpsc::channel();
        let (ending, alive) = watch::channel(());
        let theirs = (shared.clone(), costs.clone(), ending);
        let work = move || {
            let (shared, costs, _ending) = theirs;
            let models = (&*text, draft.as_ref());
            let mut worker = Worker::new(models, &ladder, limits, &costs, prefixes, &shared);
            worker.run(&inbox);
        };
        let thread = std::thread::Builder::new()
            .name("scheduler".into())
            .spawn(work)
            .map_err(|error| ServerError::Start(error.to_string()))?;
        Ok(Self {
            commands,
            shared,
            limits,
            costs,
            thread: Mutex::new(Some(thread)),
            alive,
        })
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// [`Failure`] when it can never run or too many wait.
    pub fn submit(&self, request: Request) -> Result<(), Failure> {
        if self.is_draining() {
            return Err(Failure::ShuttingDown);
        }
        if request.prompt.is_empty() {
            return Err(Failure::Empty);
        }
        let needed = self.costs[request.rung].of_request(&request);
        let budget = self.limits.kv_memory;
        if needed > budget {
            return Err(Failure::TooLarge { needed, budget });
        }
        let one_more = |queued| (queued < self.limits.queue).then_some(queued + 1);
        let queued = self
            .shared
            .queued
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        if let Err(queued) = queued {
            let turns = queued.div_ceil(self.limits.parallel) as u32;
            let retry_after = self.shared.retry_after(turns);
            return Err(Failure::QueueFull {
                queued,
                retry_after,
            });
        }
        let sent = self.commands.send(Command::Submit(Box::new(request)));
        sent.map_err(|_| Failure::ended())
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::SeqCst)
    }

    /// Requests that run.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Whether requests wait or run.
    pub fn is_busy(&self) -> bool {
        self.health() != Health::Ended && self.queued() + self.running() > 0
    }

    /// Bytes of KV memory that are reserved or hold prefixes.
    pub fn kv_bytes(&self) -> usize {
        self.shared.kv_bytes.load(Ordering::SeqCst)
    }

    /// Whether its thread serves.
    pub fn health(&self) -> Health {
        if self.alive.has_changed().is_err() {
            Health::Ended
        } else if self.shared.stalled_for() > STALLED {
            Health::Stalled
        } else {
            Health::Ok
        }
    }

    /// Waits until its thread has ended.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Whether it takes no new requests.
    pub fn is_draining(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Takes no new requests from now on.
    pub fn drain(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
    }

    /// Fails what still runs with [`Failure::ShuttingDown`] and waits for the thread.
    pub fn stop(&self) {
        self.drain();
        // An error means that the thread is gone already.
        let _ = self.commands.send(Command::Abort);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the scheduler had ended by a panic");
        }
    }
}

#[cfg(test)]
impl Scheduler {
    /// Makes the thread panic between passes.
    pub fn fail_for_test(&self) {
        self.commands.send(Command::Panic).unwrap();
    }
}

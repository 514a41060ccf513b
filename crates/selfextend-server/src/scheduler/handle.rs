//! The handlers' side of the scheduler.

use super::cost::Cost;
use super::request::{Failure, Request};
use super::shared::{Command, Shared};
use super::worker::Worker;
use crate::config::SchedulerLimits;
use crate::error::ServerError;
use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use selfextend::TextModel;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Submits requests to the thread that runs the model.
pub struct Scheduler {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    limits: SchedulerLimits,
    costs: Vec<Cost>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Bytes of keys and values that one sequence of the ladder's largest context needs: the least a
/// server's [`kv_memory`](SchedulerLimits::kv_memory) may be.
///
/// # Errors
/// Sessions that the model's device has no kernels for.
pub fn full_context_bytes(text: &TextModel, ladder: &Ladder) -> Result<usize, ServerError> {
    match ladder.rungs().last() {
        Some(rung) => Ok(text.model.session_bytes(&rung.options)?.full()),
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
        ladder: Arc<Ladder>,
        limits: SchedulerLimits,
        prefixes: PrefixCache,
    ) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared::default());
        let cost = |rung| Cost::new(&text, rung);
        let costs = ladder.rungs().iter().map(cost);
        let costs: Vec<Cost> = costs.collect::<selfextend::Result<_>>()?;
        let (commands, inbox) = mpsc::channel();
        let theirs = (shared.clone(), costs.clone());
        let work = move || {
            let (shared, costs) = theirs;
            let mut worker = Worker::new(&text, &ladder, limits, &costs, prefixes, &shared);
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

    /// Bytes of KV memory that are reserved or hold prefixes.
    pub fn kv_bytes(&self) -> usize {
        self.shared.kv_bytes.load(Ordering::SeqCst)
    }

    /// Whether its thread is there to serve.
    pub fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
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
            tracing::error!("the scheduler had panicked");
        }
    }
}

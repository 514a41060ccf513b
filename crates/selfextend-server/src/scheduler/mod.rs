//! Which sequences run, and when: continuous batching on one thread.
//!
//! Handlers submit requests through a channel and are told what happens through another; the
//! engine itself stays synchronous. A turn of the thread is: take in what came, admit what the
//! memory budget and the queue's order allow, one decode step for all sequences that generate, one
//! chunk of prefill for those whose prompt is not read yet. So no stream waits longer for its next
//! token than one chunk takes. Who goes next, and why nobody starves: `fairness`.

mod cost;
mod fairness;
mod group;
mod request;
mod worker;

pub use request::{Admitted, Event, Failure, Piece, Request, TokenLogprob};

use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use cost::Cost;
use selfextend::TextModel;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use worker::Worker;

/// What the scheduler may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of keys and values, those of the prefix cache included.
    pub kv_memory: usize,
    /// Sequences that run at once.
    pub parallel: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Prompt tokens that pass through the model together while nothing generates.
    pub chunk: usize,
    /// The same while something does: how long a stream may have to wait for its next token.
    pub busy_chunk: usize,
}

/// The handlers' end.
pub struct Scheduler {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    limits: Limits,
    costs: Vec<Cost>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Command {
    Submit(Box<Request>),
    /// End what runs with an error, and then the thread.
    Abort,
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    running: AtomicUsize,
    kv_bytes: AtomicUsize,
    /// Running mean of how long requests run, in milliseconds.
    mean_ms: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    /// When as many requests one after the other will have been served, by how long they took lately.
    fn retry_after(&self, turns: u32) -> Duration {
        let mean = Duration::from_millis(self.mean_ms.load(Ordering::Relaxed));
        (mean * turns).clamp(Duration::from_secs(1), Duration::from_secs(120))
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
        limits: Limits,
        prefixes: PrefixCache,
    ) -> selfextend::Result<Self> {
        let shared = Arc::new(Shared::default());
        let cost = |rung| Cost::new(&text, rung);
        let costs: Vec<Cost> = ladder
            .rungs()
            .iter()
            .map(cost)
            .collect::<selfextend::Result<_>>()?;
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
            .map_err(|error| selfextend::Error::Threads {
                threads: 1,
                reason: error.to_string(),
            })?;
        Ok(Self {
            commands,
            shared,
            limits,
            costs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Bytes that one sequence of the largest context needs.
    ///
    /// # Errors
    /// Sessions that the model's device has no kernels for.
    pub fn full_context(text: &TextModel, ladder: &Ladder) -> selfextend::Result<usize> {
        match ladder.rungs().last() {
            Some(rung) => Ok(text.model.session_bytes(&rung.options)?.full()),
            None => Ok(0),
        }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// [`Failure`] when it can never run or too many wait.
    pub fn submit(&self, request: Request) -> Result<(), Failure> {
        if self.shared.stopping.load(Ordering::SeqCst) {
            return Err(Failure::ShuttingDown);
        }
        let needed = self.costs[request.step].of_request(&request);
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
        sent.map_err(|_| Failure::Engine("the scheduler has ended; see the log".into()))
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

    /// Takes no new requests.
    pub fn drain(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
    }

    /// Ends what still runs with [`Failure::ShuttingDown`] and waits for the thread.
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

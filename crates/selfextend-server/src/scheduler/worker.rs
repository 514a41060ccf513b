//! The thread that runs the model.

use super::fairness::{Queue, leaves_room, shares};
use super::group::{Choice, Drawn, Group, Place};
use super::{Admitted, Command, Cost, Event, Failure, Limits, Request, Shared};
use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use selfextend::{Error, Input, LogitRows, PAGE, Phase, Session, TextModel};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// How long the thread sleeps at most while requests wait that cannot run: their clients may go.
const NAP: Duration = Duration::from_millis(20);

/// A request is long when it needs more blocks of its own than so many chunks fill.
const LONG_CHUNKS: usize = 4;

pub(super) struct Worker<'m> {
    text: &'m TextModel,
    ladder: &'m Ladder,
    limits: Limits,
    costs: &'m [Cost],
    shared: &'m Shared,
    queue: Queue<Box<Request>>,
    running: Vec<Group<'m>>,
    prefixes: PrefixCache,
    /// Bytes of the budget that running requests hold.
    reserved: usize,
}

impl<'m> Worker<'m> {
    pub fn new(
        text: &'m TextModel,
        ladder: &'m Ladder,
        limits: Limits,
        costs: &'m [Cost],
        prefixes: PrefixCache,
        shared: &'m Shared,
    ) -> Self {
        Self {
            text,
            ladder,
            limits,
            costs,
            shared,
            queue: Queue::default(),
            running: Vec::new(),
            prefixes,
            reserved: 0,
        }
    }

    /// Serves until it is told to stop, or nobody is left who could ask.
    pub fn run(&mut self, inbox: &Receiver<Command>) {
        while self.listen(inbox) {
            self.clear_away();
            self.admit();
            self.decode();
            self.prefill();
            self.report();
        }
        for request in self.queue.drain() {
            let _ = request.events.send(Event::Failed(Failure::ShuttingDown));
        }
        for group in self.running.drain(..) {
            group.fail(Failure::ShuttingDown);
        }
    }

    /// Takes in what came, and sleeps while there is nothing to do. False when it is time to end.
    fn listen(&mut self, inbox: &Receiver<Command>) -> bool {
        loop {
            let idle = self.running.is_empty();
            let command = if !idle {
                inbox.try_recv()
            } else if self.queue.is_empty() {
                inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                inbox.recv_timeout(NAP).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            };
            match command {
                Ok(Command::Submit(request)) => {
                    let cost = self.costs[request.step].of_request(&request);
                    self.queue.push(request, cost);
                }
                Ok(Command::Abort) => return false,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !idle,
            }
            if idle {
                return true;
            }
        }
    }

    /// Lets go of what is finished, cancelled or too late.
    fn clear_away(&mut self) {
        let now = Instant::now();
        let shared = self.shared;
        self.queue.retain(|request| {
            let late = now > request.deadline;
            if late {
                let failure = timeout(request);
                let _ = request.events.send(Event::Failed(failure));
            }
            let keep = !late && !request.events.is_closed();
            if !keep {
                shared.queued.fetch_sub(1, Ordering::SeqCst);
                metrics::counter!("selfextend_cancelled_total").increment(1);
            }
            keep
        });
        for n in (0..self.running.len()).rev() {
            let group = &self.running[n];
            if group.is_cancelled() {
                metrics::counter!("selfextend_cancelled_total").increment(1);
                tracing::info!(request = group.request.id, "cancelled by its client");
            } else if now > group.request.deadline {
                group.fail(timeout(&group.request));
            } else if group.is_done() {
                group.finish();
                self.note_duration(n);
            } else {
                continue;
            }
            self.drop_group(n);
        }
    }

    fn note_duration(&self, n: usize) {
        let took = self.running[n].admitted.elapsed().as_millis() as u64;
        let mean = self.shared.mean_ms.load(Ordering::Relaxed);
        let mean = if mean == 0 {
            took
        } else {
            (mean * 7 + took) / 8
        };
        self.shared.mean_ms.store(mean, Ordering::Relaxed);
    }

    fn drop_group(&mut self, n: usize) {
        let group = self.running.remove(n);
        self.reserved -= group.reserved;
    }

    /// Admits what has room (see [`super::fairness`]).
    fn admit(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        while let Some((request, place)) = queue.admit(|request, most| {
            let place = self.make_room(request, most)?;
            let charged = place.as_ref().map_or(0, |place| place.charged);
            Some((place, charged))
        }) {
            self.shared.queued.fetch_sub(1, Ordering::SeqCst);
            let place = match place {
                Ok(place) => place,
                Err(error) => {
                    tracing::warn!(request = request.id, %error, "refused");
                    let failure = self.failure(&error);
                    let _ = request.events.send(Event::Failed(failure));
                    continue;
                }
            };
            self.reserved += place.charged;
            let admitted = place.admitted;
            admitted.log(&request, self.ladder.rung(request.step));
            let group = Group::new(request, place);
            group.tell(Event::Admitted(admitted));
            self.running.push(group);
        }
        self.queue = queue;
    }

    /// Whether so many more sequences may run.
    fn has_places(&self, choices: usize, long: bool) -> bool {
        let count = |group: &Group| group.request.choices;
        let sequences: usize = self.running.iter().map(count).sum();
        let of_long = self.running.iter().filter(|group| group.long);
        let parallel = self.limits.parallel;
        let fits = sequences == 0 || sequences + choices <= parallel;
        fits && (!long || leaves_room(parallel, of_long.map(count).sum(), choices))
    }

    /// What a request is admitted with; none while there is no room for it, or when it would be
    /// charged more than `most` bytes; an error where a device has less room than the budget.
    fn make_room(&mut self, request: &Request, most: usize) -> Option<selfextend::Result<Place>> {
        if !self.has_places(request.choices, false) {
            return None;
        }
        let (step, prompt) = (request.step, &request.prompt);
        let cost = self.costs[step];
        // The last token is always computed: its logits begin the answer.
        let known = &prompt[..prompt.len() - 1];
        let mut held = self.prefixes.take(step, known);
        let whole = held.iter().filter(|(_, count)| *count == PAGE).count();
        let charged = cost.beside(cost.of_request(request), whole);
        let own = charged - request.choices * cost.ring;
        let long = own > self.limits.chunk.div_ceil(PAGE) * LONG_CHUNKS * cost.block;
        if charged > most || long && !self.has_places(request.choices, true) {
            return None;
        }
        let memory = self.limits.kv_memory;
        let of_long = self.running.iter().filter(|group| group.long);
        let of_long = of_long.map(|group| group.charged).sum();
        // While `held` lives, its blocks are shared and stay. Nothing is evicted in vain.
        let over = (self.fixed() + charged).saturating_sub(memory);
        if over > 0 {
            held.truncate(cost.kept(held.len(), over));
            if self.fixed() + charged > memory {
                return None;
            }
        }
        if long && !leaves_room(memory, of_long, charged) {
            return None;
        }
        let elsewhere = self.held_elsewhere(step, known);
        while self.reserved + self.prefixes.bytes() + charged > memory {
            if !self.prefixes.evict() {
                return None;
            }
        }
        let mut session = match self.open(request) {
            Ok(session) => session,
            Err(error) => return Some(Err(error)),
        };
        for (block, count) in &held {
            if let Err(error) = session.push_block(block, *count) {
                tracing::warn!(request = request.id, %error, "the rest of a prefix is read again");
                break;
            }
        }
        let admitted = Admitted::new(prompt.len(), session.len(), elsewhere);
        Some(Ok(Place {
            session,
            charged,
            long,
            admitted,
        }))
    }

    /// A session with room for a request's longest outcome. Where a device has less memory than the
    /// budget says, cached prompts go first.
    fn open(&mut self, request: &Request) -> selfextend::Result<Session> {
        let options = &self.ladder.rung(request.step).options;
        let tokens = request.prompt.len() + request.options.max_tokens;
        loop {
            let opened = self.text.model.session(options.clone());
            let opened = opened.and_then(|mut session| {
                session.reserve(tokens)?;
                Ok(session)
            });
            match opened {
                Ok(session) => return Ok(session),
                Err(Error::DeviceMemory(_)) if self.prefixes.evict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of the budget that evicting does not free.
    fn fixed(&self) -> usize {
        self.reserved + self.prefixes.bytes() - self.prefixes.evictable()
    }

    /// Tokens of a prompt that are held under another step.
    fn held_elsewhere(&self, step: usize, known: &[u32]) -> usize {
        let others = (0..self.ladder.rungs().len()).filter(|other| *other != step);
        let elsewhere = others.map(|other| self.prefixes.matching(other, known));
        elsewhere.max().unwrap_or(0)
    }

    /// One step of every answer.
    fn decode(&mut self) {
        let mut places = Vec::new();
        let mut choices: Vec<&mut Choice> = Vec::new();
        for (n, group) in self.running.iter_mut().enumerate() {
            for (c, choice) in group.choices.iter_mut().enumerate() {
                if !choice.finished {
                    places.push((n, c));
                    choices.push(choice);
                }
            }
        }
        if choices.is_empty() {
            return;
        }
        metrics::histogram!("selfextend_decode_batch").record(choices.len() as f64);
        let mut inputs: Vec<Input> = choices
            .iter_mut()
            .map(|choice| Input {
                session: &mut choice.session,
                tokens: &choice.next,
                logits: LogitRows::Last,
            })
            .collect();
        let mut rows: Vec<Vec<f32>> = vec![Vec::new(); inputs.len()];
        let visit = &mut |input: usize, _, logits: &[f32]| rows[input] = logits.to_vec();
        let model = &self.text.model;
        let done = model.forward(Phase::Decode, &mut inputs, visit);
        if let Err(error) = done {
            let mut groups: Vec<usize> = places.into_iter().map(|(n, _)| n).collect();
            groups.dedup();
            self.fail(groups, &error);
            return;
        }
        drop(inputs);
        // A draw looks at the whole vocabulary: a good part of a small model's step.
        let mut drawn: Vec<Option<selfextend::Result<Drawn>>> = Vec::new();
        drawn.resize_with(rows.len(), || None);
        let draws = choices.into_iter().zip(&rows).zip(&mut drawn);
        model.for_each(draws.collect(), |((choice, logits), drawn)| {
            *drawn = Some(choice.draw(logits));
        });
        let mut failed = Vec::new();
        for ((n, c), drawn) in places.iter().zip(drawn.into_iter().flatten()) {
            match drawn {
                Ok(drawn) => self.running[*n].advance(*c, drawn),
                Err(error) => failed.push((*n, error)),
            }
        }
        failed.dedup_by_key(|(n, _)| *n);
        places.dedup_by_key(|(n, _)| *n);
        for (n, _) in places {
            self.running[n].stepped();
        }
        for (n, error) in failed.into_iter().rev() {
            self.fail(vec![n], &error);
        }
    }

    /// One chunk of the prompts that are not read yet.
    fn prefill(&mut self) {
        let reading: Vec<usize> = (0..self.running.len())
            .filter(|n| self.running[*n].session.is_some())
            .collect();
        if reading.is_empty() {
            return;
        }
        let decoding = reading.len() < self.running.len();
        let chunk = if decoding {
            self.limits.busy_chunk
        } else {
            self.limits.chunk
        };
        let unread: Vec<usize> = reading.iter().map(|n| self.running[*n].unread()).collect();
        let shares = shares(chunk, &unread);
        let (finished, result) = self.read_some(&reading, &shares);
        match result {
            Ok(()) => {}
            // Nobody waits for this chunk any more; `clear_away` does the rest.
            Err(Error::Stopped) => return,
            Err(error) => return self.fail(reading, &error),
        }
        for (n, count) in reading.iter().zip(&shares) {
            self.running[*n].read += count;
        }
        let mut failed = Vec::new();
        for (n, logits) in finished {
            self.keep_prefix(n);
            if let Err(error) = self.running[n].begin(self.text, &logits) {
                failed.push((n, error));
            }
        }
        for (n, error) in failed.into_iter().rev() {
            self.fail(vec![n], &error);
        }
    }

    /// Reads so many tokens of some prompts in one pass. Returns the last logits of those that are
    /// read to the end.
    #[allow(clippy::type_complexity)]
    fn read_some(
        &mut self,
        reading: &[usize],
        shares: &[usize],
    ) -> (Vec<(usize, Vec<f32>)>, selfextend::Result<()>) {
        let mut inputs = Vec::new();
        let (mut owners, mut clients) = (Vec::new(), Vec::new());
        let groups = self.running.iter_mut().enumerate();
        let mut parts = reading.iter().zip(shares).peekable();
        for (n, group) in groups {
            let Some((_, &count)) = parts.next_if(|(at, _)| **at == n) else {
                continue;
            };
            let last = count == group.request.prompt.len() - group.read;
            let Some(session) = group.session.as_mut().filter(|_| count > 0) else {
                continue;
            };
            owners.push(n);
            clients.push(&group.request.events);
            inputs.push(Input {
                session,
                tokens: &group.request.prompt[group.read..group.read + count],
                logits: if last {
                    LogitRows::Last
                } else {
                    LogitRows::None
                },
            });
        }
        let total: usize = shares.iter().sum();
        metrics::counter!("selfextend_prefilled_tokens_total").increment(total as u64);
        let mut finished = Vec::new();
        let visit = &mut |input: usize, _, logits: &[f32]| {
            finished.push((owners[input], logits.to_vec()));
        };
        let gone = &mut |_| {
            if clients.iter().all(|client| client.is_closed()) {
                return Err(Error::Stopped);
            }
            Ok(())
        };
        let model = &self.text.model;
        let result = model.forward_with(Phase::Prefill, &mut inputs, gone, visit);
        (finished, result)
    }

    /// Keeps the blocks of a prompt that was just read.
    fn keep_prefix(&mut self, n: usize) {
        let group = &mut self.running[n];
        let Some(session) = &group.session else {
            return;
        };
        let request = &group.request;
        let room = self.limits.kv_memory.saturating_sub(self.reserved);
        let (step, prompt) = (request.step, &request.prompt);
        let added = self.prefixes.insert(step, prompt, session, room);
        // Shared blocks were in this request's reservation; now the cache accounts for them.
        group.reserved -= added.full;
        self.reserved -= added.full;
        while self.reserved + self.prefixes.bytes() > self.limits.kv_memory {
            if !self.prefixes.evict() {
                added
                    .rest
                    .into_iter()
                    .for_each(|rest| self.prefixes.forget(rest));
                break;
            }
        }
    }

    /// Ends requests with an error. `groups` ascends.
    fn fail(&mut self, groups: Vec<usize>, error: &Error) {
        for n in groups.into_iter().rev() {
            let group = &self.running[n];
            tracing::error!(request = group.request.id, %error, "failed");
            group.fail(self.failure(error));
            self.drop_group(n);
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::DeviceMemory(reason) => Failure::NoMemory {
                reason: reason.clone(),
                retry_after: self.shared.retry_after(1),
            },
            error => Failure::Engine(error.to_string()),
        }
    }

    fn report(&self) {
        let bytes = self.reserved + self.prefixes.bytes();
        self.shared
            .running
            .store(self.running.len(), Ordering::SeqCst);
        self.shared.kv_bytes.store(bytes, Ordering::SeqCst);
        metrics::gauge!("selfextend_running_requests").set(self.running.len() as f64);
        metrics::gauge!("selfextend_queued_requests").set(self.queue.len() as f64);
        metrics::gauge!("selfextend_kv_reserved_bytes").set(self.reserved as f64);
        metrics::gauge!("selfextend_prefix_cache_bytes").set(self.prefixes.bytes() as f64);
    }
}

fn timeout(request: &Request) -> Failure {
    Failure::Timeout(request.deadline.duration_since(request.arrived).as_secs())
}

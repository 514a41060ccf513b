//! The thread that runs the model.

use super::group::{Choice, Group};
use super::{Admitted, Command, Cost, Event, Failure, Limits, Request, Shared};
use crate::ladder::Ladder;
use crate::prefix::PrefixCache;
use selfextend::{Error, Input, LogitRows, PAGE, Phase, TextModel};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// How long the thread sleeps at most while requests wait that cannot run: their clients may go.
const NAP: Duration = Duration::from_millis(20);

/// Fewer tokens read again are not worth a word.
const LEAST_REREAD: usize = 32;

pub(super) struct Worker<'m> {
    text: &'m TextModel,
    ladder: &'m Ladder,
    limits: Limits,
    costs: &'m [Cost],
    shared: &'m Shared,
    queue: VecDeque<Box<Request>>,
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
            queue: VecDeque::new(),
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
        let left = self.queue.drain(..);
        for request in left {
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
                Ok(Command::Submit(request)) => self.queue.push_back(request),
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

    /// Admits from the head of the queue as long as there is room; nobody overtakes.
    fn admit(&mut self) {
        while let Some(request) = self.queue.front() {
            let sequences: usize = self.running.iter().map(|group| group.request.choices).sum();
            if sequences > 0 && sequences + request.choices > self.limits.parallel {
                return;
            }
            let Some((session, reserved, admitted)) = self.make_room() else {
                return;
            };
            let Some(request) = self.queue.pop_front() else {
                return;
            };
            self.shared.queued.fetch_sub(1, Ordering::SeqCst);
            self.reserved += reserved;
            log_admission(&request, self.ladder, admitted);
            let group = Group::new(request, session, reserved);
            group.tell(Event::Admitted(admitted));
            self.running.push(group);
        }
    }

    /// A session for the request at the head of the queue, with what is held of its prompt, and
    /// the bytes it may come to use beyond that; none while the budget has no room for them.
    fn make_room(&mut self) -> Option<(selfextend::Session, usize, Admitted)> {
        let request = self.queue.front()?;
        let (step, prompt) = (request.step, &request.prompt);
        let cost = self.costs[step];
        // The last token is always computed: its logits begin the answer.
        let known = &prompt[..prompt.len() - 1];
        let held = self.prefixes.take(step, known);
        let whole = held.iter().filter(|(_, count)| *count == PAGE).count();
        let cached_tokens: usize = held.iter().map(|(_, count)| count).sum();
        let needed =
            cost.of(prompt.len(), request.options.max_tokens, request.choices) - whole * cost.block;
        let others = (0..self.ladder.rungs().len()).filter(|other| *other != step);
        let elsewhere = others
            .map(|other| self.prefixes.matching(other, known))
            .max();
        let reread_tokens = elsewhere.unwrap_or(0).saturating_sub(cached_tokens);
        // Less than that is a system prompt that conversations have in common.
        let outgrown = reread_tokens >= LEAST_REREAD.max(prompt.len() / 8);
        let reread_tokens = if outgrown { reread_tokens } else { 0 };
        // While `held` lives, its blocks are shared and stay. Nothing is evicted in vain.
        let fixed = self.reserved + self.prefixes.bytes() - self.prefixes.evictable();
        if fixed + needed > self.limits.kv_memory {
            return None;
        }
        while self.reserved + self.prefixes.bytes() + needed > self.limits.kv_memory {
            if !self.prefixes.evict() {
                return None;
            }
            metrics::counter!("selfextend_prefix_evictions_total").increment(1);
        }
        let mut session = self.text.model.session(self.ladder.rung(step).options);
        for (block, count) in &held {
            session.push_block(block, *count);
        }
        let admitted = Admitted {
            cached_tokens,
            reread_tokens,
        };
        Some((session, needed, admitted))
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
        let done = model.forward_in(Phase::Decode, &mut inputs, &mut |_| Ok(()), visit);
        if let Err(error) = done {
            let mut groups: Vec<usize> = places.into_iter().map(|(n, _)| n).collect();
            groups.dedup();
            self.fail(groups, &error);
            return;
        }
        let mut failed = Vec::new();
        for ((n, c), logits) in places.iter().zip(&rows) {
            if let Err(error) = self.running[*n].advance(*c, logits) {
                failed.push((*n, error));
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
        let shares = fair_shares(chunk, &unread);
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
        let result = model.forward_in(Phase::Prefill, &mut inputs, gone, visit);
        (finished, result)
    }

    /// Keeps the blocks of a prompt that was just read.
    fn keep_prefix(&mut self, n: usize) {
        let group = &mut self.running[n];
        let Some(session) = &group.session else {
            return;
        };
        let request = &group.request;
        let added = self.prefixes.insert(request.step, &request.prompt, session);
        // Full blocks were in this request's reservation; now the cache accounts for them.
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
            group.fail(Failure::Engine(error.to_string()));
            self.drop_group(n);
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

fn log_admission(request: &Request, ladder: &Ladder, admitted: Admitted) {
    let rung = ladder.rung(request.step);
    let Admitted {
        cached_tokens,
        reread_tokens,
    } = admitted;
    metrics::counter!("selfextend_prompt_tokens_total").increment(request.prompt.len() as u64);
    metrics::counter!("selfextend_cached_tokens_total").increment(cached_tokens as u64);
    if rung.extends() {
        metrics::counter!("selfextend_extended_requests_total").increment(1);
    }
    tracing::info!(
        request = request.id,
        prompt_tokens = request.prompt.len(),
        cached_tokens,
        group_size = rung.group_size,
        neighbor_window = rung.neighbor_window,
        waited_ms = request.arrived.elapsed().as_millis() as u64,
        "admitted"
    );
    if reread_tokens > 0 {
        tracing::info!(
            request = request.id,
            reread_tokens,
            group_size = rung.group_size,
            "the conversation grew past a step: its prefix is read again under the next map"
        );
    }
}

/// Divides a chunk among prompts so that none gets more than it wants, and what short ones leave
/// goes to the others in equal parts: a short prompt need not wait for a long one that came first.
fn fair_shares(chunk: usize, wanted: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut left = chunk;
    loop {
        let hungry: Vec<usize> = (0..wanted.len())
            .filter(|n| shares[*n] < wanted[*n])
            .collect();
        if left == 0 || hungry.is_empty() {
            return shares;
        }
        // Fewer tokens than prompts: the first come first.
        let each = (left / hungry.len()).max(1);
        for n in hungry {
            let more = each.min(wanted[n] - shares[n]).min(left);
            shares[n] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_shared_fairly() {
        assert_eq!(fair_shares(512, &[12_000]), [512]);
        assert_eq!(fair_shares(512, &[12_000, 30]), [482, 30]);
        assert_eq!(
            fair_shares(512, &[30, 12_000, 40, 9000]),
            [30, 221, 40, 221]
        );
        assert_eq!(fair_shares(3, &[9, 9, 9, 9]), [1, 1, 1, 0]);
        assert_eq!(fair_shares(512, &[5, 6]), [5, 6]);
        assert_eq!(fair_shares(8, &[]), [0; 0]);
    }
}

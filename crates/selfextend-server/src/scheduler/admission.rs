//! Admission: which waiting requests start to run, and with how much memory.

use super::active::{ActiveRequest, Admission};
use super::event::{Admitted, Event};
use super::fairness::leaves_room;
use super::request::Request;
use super::supervise::{guarded, trip};
use super::worker::Worker;
use selfextend::{Error, PAGE, Session};
use std::sync::atomic::Ordering;

/// A request is long when it needs more blocks of its own than this many chunks fill.
const LONG_CHUNKS: usize = 4;

impl Worker<'_> {
    /// Admits the requests that have room, in the order of [`super::fairness`].
    pub fn admit(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        while let Some((request, admission)) = queue.admit(|request, most| {
            let admission = match guarded(|| self.make_room(request, most)) {
                Ok(admission) => admission?.map_err(|error| self.failure(&error)),
                Err(panicked) => {
                    self.forget_prefixes();
                    Err(panicked)
                }
            };
            let charged = admission.as_ref().map_or(0, |it| it.charged);
            Some((admission, charged))
        }) {
            // Who asks sees it running before it has left the queue, never in neither.
            self.shared.running.fetch_add(1, Ordering::SeqCst);
            self.shared.queued.fetch_sub(1, Ordering::SeqCst);
            let admission = match admission {
                Ok(admission) => admission,
                Err(failure) => {
                    self.shared.running.fetch_sub(1, Ordering::SeqCst);
                    tracing::warn!(request = request.id, error = %failure, "refused");
                    request.events.send(Event::Failed(failure));
                    continue;
                }
            };
            self.reserved += admission.charged;
            let admitted = admission.admitted;
            request.log_admission(admitted, self.ladder.rung(request.rung));
            let active = ActiveRequest::new(request, admission);
            active.tell(Event::Admitted(admitted));
            self.running.push(active);
        }
        self.queue = queue;
    }

    /// Whether so many more sequences may run.
    fn has_places(&self, choices: usize, long: bool) -> bool {
        let count = |active: &ActiveRequest| active.request.choices;
        let sequences: usize = self.running.iter().map(count).sum();
        let of_long = self.running.iter().filter(|active| active.long);
        let parallel = self.limits.parallel;
        let fits = sequences == 0 || sequences + choices <= parallel;
        fits && (!long || leaves_room(parallel, of_long.map(count).sum(), choices))
    }

    /// What a request is admitted with: nothing while there is no room for it, or when it would be
    /// charged more than `most` bytes; an error where a device has less room than the budget.
    fn make_room(
        &mut self,
        request: &Request,
        most: usize,
    ) -> Option<selfextend::Result<Admission>> {
        if !self.has_places(request.choices, false) {
            return None;
        }
        trip(&request.id, "admission");
        let (rung, prompt) = (request.rung, &request.prompt);
        let cost = self.costs[rung];
        // The last token is always computed: the answer starts from its logits.
        // What is cached has no probabilities.
        let known = match request.prompt_logprobs {
            None => &prompt[..prompt.len().saturating_sub(1)],
            Some(_) => &[],
        };
        let mut held = self.prefixes.take(rung, known);
        let whole = held.iter().filter(|(_, count)| *count == PAGE).count();
        let charged = cost.beside(cost.of_request(request), whole);
        let own = charged - cost.besides_blocks(request);
        let long = own > self.limits.chunk.div_ceil(PAGE) * LONG_CHUNKS * cost.block;
        if charged > most || long && !self.has_places(request.choices, true) {
            return None;
        }
        let memory = self.limits.kv_memory;
        let of_long = self.running.iter().filter(|active| active.long);
        let of_long = of_long.map(|active| active.charged).sum();
        // While `held` lives, its blocks are shared and cannot be evicted. Nothing is evicted in
        // vain.
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
        let elsewhere = self.held_elsewhere(rung, known);
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
        Some(Ok(Admission {
            session,
            charged,
            long,
            admitted,
        }))
    }

    /// A session with room for a request's longest outcome. Where a device has less memory than the
    /// budget, cached prompts are evicted first.
    fn open(&mut self, request: &Request) -> selfextend::Result<Session> {
        let options = &self.ladder.rung(request.rung).options;
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

    /// Tokens of a prompt that are held under another rung.
    fn held_elsewhere(&self, rung: usize, known: &[u32]) -> usize {
        let others = (0..self.ladder.rungs().len()).filter(|other| *other != rung);
        let elsewhere = others.map(|other| self.prefixes.matching(other, known));
        elsewhere.max().unwrap_or(0)
    }
}

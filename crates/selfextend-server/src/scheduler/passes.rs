//! The model's passes: one decode step of every answer, one chunk of the unread prompts.

use super::active::{Choice, Drawn};
use super::event::Failure;
use super::fairness::shares;
use super::supervise::{guarded, trip};
use super::worker::Worker;
use selfextend::{Error, Input, LogitRows, Phase};

/// The logits of the last token of prompts that a pass has read to the end, with the numbers of
/// their requests.
type Finished = Vec<(usize, Vec<f32>)>;

impl Worker<'_> {
    /// One decode step of every answer.
    pub fn decode(&mut self) {
        let mut owners = Vec::new();
        let mut choices: Vec<&mut Choice> = Vec::new();
        for (n, active) in self.running.iter_mut().enumerate() {
            for (c, choice) in active.choices.iter_mut().enumerate() {
                if !choice.finished {
                    active.in_pass = true;
                    trip(&active.request.id, "decode");
                    owners.push((n, c));
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
        let on_layer = |_| {
            self.shared.advance();
            Ok(())
        };
        let done = model.forward_with(Phase::Decode, &mut inputs, on_layer, visit);
        if let Err(error) = done {
            let mut numbers: Vec<usize> = owners.into_iter().map(|(n, _)| n).collect();
            numbers.dedup();
            let failure = self.failure(&error);
            self.fail(numbers, &failure);
            return;
        }
        drop(inputs);
        // A draw looks at the whole vocabulary, which is a good part of a small model's step.
        let mut drawn: Vec<Option<Result<Drawn, Failure>>> = Vec::new();
        drawn.resize_with(rows.len(), || None);
        let draws = choices.into_iter().zip(&rows).zip(&mut drawn);
        model.for_each(draws.collect(), |((choice, logits), drawn)| {
            *drawn = Some(draw(choice, logits));
        });
        let mut failed = Vec::new();
        for ((n, c), drawn) in owners.iter().zip(drawn.into_iter().flatten()) {
            match drawn {
                Ok(drawn) => self.running[*n].advance(*c, drawn),
                Err(failure) => failed.push((*n, failure)),
            }
        }
        failed.dedup_by_key(|(n, _)| *n);
        owners.dedup_by_key(|(n, _)| *n);
        for (n, _) in owners {
            self.running[n].stepped();
            self.running[n].in_pass = false;
        }
        for (n, failure) in failed.into_iter().rev() {
            self.fail(vec![n], &failure);
        }
    }

    /// One chunk of the prompts that are not read yet.
    pub fn prefill(&mut self) {
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
        let readable = |n: &usize| {
            let active = &self.running[*n];
            active
                .unread()
                .min(self.costs[active.request.rung].most_read)
        };
        let readable: Vec<usize> = reading.iter().map(readable).collect();
        let shares = shares(chunk, &readable);
        let finished = match self.read_some(&reading, &shares) {
            Ok(finished) => finished,
            // Nobody waits for this chunk any more; `clear_away` removes its requests.
            Err(Error::Stopped) => return self.leave_pass(&reading),
            Err(error) => {
                let failure = self.failure(&error);
                return self.fail(reading, &failure);
            }
        };
        for (n, count) in reading.iter().zip(&shares) {
            self.running[*n].read += count;
            self.keep_prefix(*n);
        }
        let mut failed = Vec::new();
        for (n, logits) in finished {
            let active = &mut self.running[n];
            let begun = guarded(|| active.begin(self.text, &logits));
            let begun = begun.and_then(|begun| begun.map_err(|error| self.failure(&error)));
            if let Err(failure) = begun {
                failed.push((n, failure));
            }
        }
        self.leave_pass(&reading);
        for (n, failure) in failed.into_iter().rev() {
            self.fail(vec![n], &failure);
        }
    }

    fn leave_pass(&mut self, reading: &[usize]) {
        for n in reading {
            self.running[*n].in_pass = false;
        }
    }

    /// Reads so many tokens of each of some prompts in one pass.
    fn read_some(&mut self, reading: &[usize], shares: &[usize]) -> selfextend::Result<Finished> {
        let mut inputs = Vec::new();
        let (mut owners, mut clients) = (Vec::new(), Vec::new());
        let mut wanted = reading.iter().zip(shares).peekable();
        for (n, active) in self.running.iter_mut().enumerate() {
            let Some((_, &count)) = wanted.next_if(|(at, _)| **at == n) else {
                continue;
            };
            let last = count == active.request.prompt.len() - active.read;
            let Some(session) = active.session.as_mut().filter(|_| count > 0) else {
                continue;
            };
            active.in_pass = true;
            trip(&active.request.id, "prefill");
            owners.push(n);
            clients.push(&active.request.events);
            inputs.push(Input {
                session,
                tokens: &active.request.prompt[active.read..active.read + count],
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
        let on_layer = |_| {
            self.shared.advance();
            if clients.iter().all(|client| client.is_closed()) {
                return Err(Error::Stopped);
            }
            Ok(())
        };
        let model = &self.text.model;
        model.forward_with(Phase::Prefill, &mut inputs, on_layer, visit)?;
        Ok(finished)
    }

    /// Keeps the blocks that were read of a prompt. Where a layer forgets pages, as under a sliding
    /// window, a block is whole only until the next pass, so blocks are kept as soon as they are full.
    /// Copies (of a device, which forgets nothing) are made once, at the end.
    fn keep_prefix(&mut self, n: usize) {
        let active = &mut self.running[n];
        let Some(session) = &active.session else {
            return;
        };
        let request = &active.request;
        trip(&request.id, "cache");
        if active.unread() > 0 && !session.shares_blocks() {
            return;
        }
        let room = self.limits.kv_memory.saturating_sub(self.reserved);
        let (rung, prompt) = (request.rung, &request.prompt);
        let read = active.read;
        let added = self.prefixes.insert(rung, prompt, read, session, room);
        // Shared blocks were in this request's reservation; now the cache accounts for them.
        active.reserved -= added.full;
        self.reserved -= added.full;
        while self.reserved + self.prefixes.bytes() > self.limits.kv_memory {
            if !self.prefixes.evict() {
                let rest = added.rest.into_iter();
                rest.for_each(|rest| self.prefixes.forget(rest));
                break;
            }
        }
    }
}

/// Draws an answer's next token. A panic, as of a grammar, is the failure of that answer alone.
fn draw(choice: &mut Choice, logits: &[f32]) -> Result<Drawn, Failure> {
    let drawn = guarded(|| choice.draw(logits))?;
    drawn.map_err(|error| Failure::Engine(error.to_string()))
}

//! The model's passes: one decode step of every answer, one chunk of the unread prompts.

use super::active::{Choice, Drawn};
use super::fairness::shares;
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
        let done = model.forward(Phase::Decode, &mut inputs, visit);
        if let Err(error) = done {
            let mut numbers: Vec<usize> = owners.into_iter().map(|(n, _)| n).collect();
            numbers.dedup();
            self.fail(numbers, &error);
            return;
        }
        drop(inputs);
        // A draw looks at the whole vocabulary, which is a good part of a small model's step.
        let mut drawn: Vec<Option<selfextend::Result<Drawn>>> = Vec::new();
        drawn.resize_with(rows.len(), || None);
        let draws = choices.into_iter().zip(&rows).zip(&mut drawn);
        model.for_each(draws.collect(), |((choice, logits), drawn)| {
            *drawn = Some(choice.draw(logits));
        });
        let mut failed = Vec::new();
        for ((n, c), drawn) in owners.iter().zip(drawn.into_iter().flatten()) {
            match drawn {
                Ok(drawn) => self.running[*n].advance(*c, drawn),
                Err(error) => failed.push((*n, error)),
            }
        }
        failed.dedup_by_key(|(n, _)| *n);
        owners.dedup_by_key(|(n, _)| *n);
        for (n, _) in owners {
            self.running[n].stepped();
        }
        for (n, error) in failed.into_iter().rev() {
            self.fail(vec![n], &error);
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
        let unread: Vec<usize> = reading.iter().map(|n| self.running[*n].unread()).collect();
        let shares = shares(chunk, &unread);
        let finished = match self.read_some(&reading, &shares) {
            Ok(finished) => finished,
            // Nobody waits for this chunk any more; `clear_away` removes its requests.
            Err(Error::Stopped) => return,
            Err(error) => return self.fail(reading, &error),
        };
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
        let on_layer = &mut |_| {
            if clients.iter().all(|client| client.is_closed()) {
                return Err(Error::Stopped);
            }
            Ok(())
        };
        let model = &self.text.model;
        model.forward_with(Phase::Prefill, &mut inputs, on_layer, visit)?;
        Ok(finished)
    }

    /// Keeps the blocks of a prompt that was just read.
    fn keep_prefix(&mut self, n: usize) {
        let active = &mut self.running[n];
        let Some(session) = &active.session else {
            return;
        };
        let request = &active.request;
        let room = self.limits.kv_memory.saturating_sub(self.reserved);
        let (rung, prompt) = (request.rung, &request.prompt);
        let added = self.prefixes.insert(rung, prompt, session, room);
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

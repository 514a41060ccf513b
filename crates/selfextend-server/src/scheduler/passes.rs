//! The model's passes: one decode step of every answer, one chunk of the unread prompts.

use super::active::{Choice, Drawn};
use super::event::Failure;
use super::fairness::shares;
use super::logprobs::PromptLogprobs;
use super::shared::Shared;
use super::supervise::{guarded, trip};
use super::worker::Worker;
use selfextend::speculate::{Costs, Guessing, guess};
use selfextend::{Error, Input, LogitRows, Model, Phase};
use std::time::Instant;

/// The logits of the last token of prompts that a pass has read to the end, with the numbers of
/// their requests.
type Finished = Vec<(usize, Vec<f32>)>;

/// Where the probabilities of a prompt's tokens go, and the tokens after the first that a pass reads.
type Told<'a> = Option<(&'a mut PromptLogprobs, &'a [u32])>;

/// The tokens that a step drew for an answer, and why there were no more if that is an error.
type Draws = (Vec<Drawn>, Result<(), Failure>);

impl Worker<'_> {
    /// One decode step of every answer, or several of those whose next tokens can be guessed.
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
        let (model, shared) = (&self.text.model, self.shared);
        add_guesses(&mut choices, &mut self.step_costs, shared);
        let mut stepped = step(model, shared, &mut choices, &mut self.step_costs);
        let guessed = |choice: &&mut Choice| choice.next.len() > 1;
        // A wrong guess must not fail what is right without it.
        if let Err(Error::NotFinite { .. } | Error::NotFiniteIn { .. }) = stepped
            && choices.iter().any(guessed)
        {
            choices
                .iter_mut()
                .for_each(|choice| choice.next.truncate(1));
            stepped = step(model, shared, &mut choices, &mut self.step_costs);
        }
        let rows = match stepped {
            Ok(rows) => rows,
            Err(error) => {
                let mut numbers: Vec<usize> = owners.into_iter().map(|(n, _)| n).collect();
                numbers.dedup();
                let failure = self.failure(&error);
                self.fail(numbers, &failure);
                return;
            }
        };
        // A draw looks at the whole vocabulary, which is a good part of a small model's step.
        let mut drawn: Vec<Draws> = Vec::new();
        drawn.resize_with(rows.len(), || (Vec::new(), Ok(())));
        let draws = choices.into_iter().zip(&rows).zip(&mut drawn);
        model.for_each(draws.collect(), |((choice, rows), (drawn, ended))| {
            *ended = draw(choice, rows, drawn);
        });
        self.hand_out(&owners, drawn);
    }

    /// Sends what was drawn in a step for answers (of a request, by their numbers).
    fn hand_out(&mut self, owners: &[(usize, usize)], drawn: Vec<Draws>) {
        let mut failed = Vec::new();
        // The most tokens of an answer of each request in the step.
        let mut stepped: Vec<(usize, usize)> = Vec::new();
        for ((n, c), (drawn, ended)) in owners.iter().zip(drawn) {
            match stepped.last_mut() {
                Some((last, most)) if last == n => *most = drawn.len().max(*most),
                _ => stepped.push((*n, drawn.len())),
            }
            for drawn in drawn {
                self.running[*n].advance(*c, drawn);
            }
            if let Err(failure) = ended {
                failed.push((*n, failure));
            }
        }
        failed.dedup_by_key(|(n, _)| *n);
        for (n, most) in stepped {
            self.running[n].stepped(most);
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
            let begun = guarded(|| active.begin(self.text, self.draft, &logits));
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
        let mut told: Vec<Told> = Vec::new();
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
            let rest = &active.request.prompt[active.read + 1..];
            let all = active.prompt_logprobs.is_some();
            told.push(active.prompt_logprobs.as_mut().map(|it| (it, rest)));
            inputs.push(Input {
                session,
                tokens: &active.request.prompt[active.read..active.read + count],
                logits: if all {
                    LogitRows::All
                } else if last {
                    LogitRows::Last
                } else {
                    LogitRows::None
                },
            });
        }
        let total: usize = shares.iter().sum();
        metrics::counter!("selfextend_prefilled_tokens_total").increment(total as u64);
        let mut finished = Vec::new();
        let visit = &mut |input: usize, row: usize, logits: &[f32]| {
            if let Some((logprobs, rest)) = &mut told[input]
                && let Some(next) = rest.get(row)
            {
                return logprobs.read(logits, *next);
            }
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

/// Adds guesses to what answers read next, as many as pay.
fn add_guesses(choices: &mut [&mut Choice], costs: &mut Costs, shared: &Shared) {
    let mut sequences: Vec<Guessing> = choices.iter_mut().map(|it| it.guessing()).collect();
    let guesses = guess(&mut sequences, costs, &|| shared.advance());
    for (choice, mut guesses) in choices.iter_mut().zip(guesses) {
        choice.next.append(&mut guesses);
    }
}

/// A pass over what answers read next: for each, the logits after each of these tokens.
fn step(
    model: &Model,
    shared: &Shared,
    choices: &mut [&mut Choice],
    costs: &mut Costs,
) -> selfextend::Result<Vec<Vec<Vec<f32>>>> {
    let inputs = choices.iter_mut().map(|choice| Input {
        session: &mut choice.session,
        tokens: &choice.next,
        logits: LogitRows::All,
    });
    let mut inputs: Vec<Input> = inputs.collect();
    let tokens = inputs.iter().map(|input| input.tokens.len()).sum();
    let mut rows = vec![Vec::new(); inputs.len()];
    let visit = &mut |input: usize, _, logits: &[f32]| rows[input].push(logits.to_vec());
    let on_layer = |_| {
        shared.advance();
        Ok(())
    };
    let start = Instant::now();
    model.forward_with(Phase::Decode, &mut inputs, on_layer, visit)?;
    costs.pass.note(tokens, start.elapsed().as_secs_f64());
    Ok(rows)
}

/// Draws an answer's next tokens. A panic, as of a grammar, is the failure of that answer alone.
fn draw(choice: &mut Choice, rows: &[Vec<f32>], drawn: &mut Vec<Drawn>) -> Result<(), Failure> {
    let ended = guarded(|| choice.draw_all(rows, drawn))?;
    ended.map_err(|error| Failure::Engine(error.to_string()))
}

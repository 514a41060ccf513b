//! A request that runs: one prompt, one or more answers.

use super::event::{Admitted, Event, Failure, Piece, TokenLogprob};
use super::logprobs::{PromptLogprobs, token_logprob};
use super::request::Request;
use crate::constrain::Constraint;
use selfextend::speculate::{Draft, DraftModel, Guessing, Speculation};
use selfextend::{Finish, Result, Session, TextModel, Writer, Written};
use std::time::Instant;

/// What a request is admitted with.
pub struct Admission {
    /// Holds the cached part of its prompt, and has room for the rest.
    pub session: Session,
    /// Bytes it may come to use, without those that it shares.
    pub charged: usize,
    /// Whether it counts as long: see `fairness`.
    pub long: bool,
    pub admitted: Admitted,
}

/// A request that was admitted.
pub struct ActiveRequest<'m> {
    pub request: Box<Request>,
    /// Bytes of the budget that it was admitted with.
    pub charged: usize,
    /// The part of them that the prefix cache has not taken over.
    pub reserved: usize,
    pub long: bool,
    /// Reads the prompt; the answers continue it.
    pub session: Option<Session>,
    /// Prompt tokens that are read.
    pub read: usize,
    /// The probabilities of what is read of the prompt, where they are asked for.
    pub prompt_logprobs: Option<PromptLogprobs>,
    pub choices: Vec<Choice<'m>>,
    pub admitted: Instant,
    /// Whether the pass that runs reads from it.
    pub in_pass: bool,
    /// Whether its client has missed a piece of text.
    pub too_slow: bool,
    completion_tokens: usize,
    last_token: Option<Instant>,
}

/// One answer, in OpenAI's word.
pub struct Choice<'m> {
    pub session: Session,
    writer: Writer<'m>,
    constraint: Option<Constraint>,
    logprobs: Option<usize>,
    /// Whether an end token's probability is told too: harnesses that ask for a prompt's expect one for
    /// every token that was generated.
    tells_end: bool,
    /// Tokens that have a text. Models may have more rows than their tokenizer has tokens.
    known: usize,
    index: usize,
    /// Tokens that no piece has counted.
    uncounted: usize,
    speculation: Option<Speculation>,
    /// What the next decode step reads: the last token that was drawn, and guesses of those after it.
    pub next: Vec<u32>,
    pub finished: bool,
}

/// An answer's next token.
pub struct Drawn {
    written: Written,
    logprob: Option<TokenLogprob>,
}

impl Choice<'_> {
    /// Draws the next token.
    pub fn draw(&mut self, logits: &[f32]) -> Result<Drawn> {
        let known = &logits[..logits.len().min(self.known)];
        let written = match &mut self.constraint {
            None => self.writer.write(known, None)?,
            Some(constraint) => {
                let mask = constraint.mask()?;
                let written = self.writer.write(known, Some(mask.as_slice()))?;
                if written.finish != Some(Finish::EndToken) {
                    constraint.consume(written.token)?;
                }
                written
            }
        };
        if let Some(speculation) = &mut self.speculation {
            speculation.saw(written.token);
        }
        let wanted = self
            .logprobs
            .filter(|_| self.tells_end || written.finish != Some(Finish::EndToken));
        let logprob = wanted.map(|top| token_logprob(logits, written.token, written.at, top));
        Ok(Drawn { written, logprob })
    }
}

impl Choice<'_> {
    /// What may be guessed of it.
    pub fn guessing(&mut self) -> Guessing<'_> {
        // The last token that may be drawn is not read: its request was not charged for more.
        let room = self.session.context() - self.session.len();
        Guessing {
            most: self.writer.left().min(room).saturating_sub(1),
            speculation: self.speculation.as_mut(),
        }
    }

    /// Why its draft failed, if it did.
    pub fn draft_fault(&self) -> Option<String> {
        let fault = self.speculation.as_ref()?.fault()?;
        Some(fault.to_string())
    }

    /// Draws tokens after a decode step, as long as each is the one that was guessed: `rows` has the
    /// logits after each token that the step read. What was guessed wrong is taken back.
    ///
    /// # Errors
    /// Why no more could be drawn.
    pub fn draw_all(&mut self, rows: &[Vec<f32>], drawn: &mut Vec<Drawn>) -> Result<()> {
        let (before, guesses) = (self.session.len() - rows.len(), self.next.split_off(1));
        for (n, logits) in rows.iter().enumerate() {
            let next = self.draw(logits)?;
            let goes_on = next.written.finish.is_none();
            let right = goes_on && guesses.get(n) == Some(&next.written.token);
            drawn.push(next);
            if !right {
                break;
            }
        }
        let accepted = drawn.len().saturating_sub(1);
        if let Some(speculation) = &mut self.speculation {
            speculation.counts.proposed += guesses.len();
            speculation.counts.accepted += accepted;
        }
        metrics::counter!("selfextend_guessed_tokens_total").increment(guesses.len() as u64);
        metrics::counter!("selfextend_guessed_right_total").increment(accepted as u64);
        let len = before + drawn.len();
        let left = self.session.truncate(len);
        // Fewer than a page can always be taken back.
        debug_assert_eq!(left, len);
        Ok(())
    }
}

impl<'m> ActiveRequest<'m> {
    pub fn new(request: Box<Request>, admission: Admission) -> Self {
        Self {
            read: admission.session.len(),
            session: Some(admission.session),
            prompt_logprobs: PromptLogprobs::new(&request),
            request,
            charged: admission.charged,
            reserved: admission.charged,
            long: admission.long,
            choices: Vec::new(),
            admitted: Instant::now(),
            in_pass: false,
            too_slow: false,
            completion_tokens: 0,
            last_token: None,
        }
    }

    /// Prompt tokens that are not read yet.
    pub fn unread(&self) -> usize {
        self.request.prompt.len() - self.read
    }

    /// Whether the client has gone.
    pub fn is_cancelled(&self) -> bool {
        self.request.events.is_closed()
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.session.is_none() && self.choices.iter().all(|choice| choice.finished)
    }

    /// Sends the client an event, if it is still there.
    pub fn tell(&self, event: Event) {
        self.request.events.send(event);
    }

    /// Forks the session into the answers once the prompt is read, and draws their first tokens.
    ///
    /// # Errors
    /// No device memory for the sessions, or a token that cannot be drawn.
    pub fn begin(
        &mut self,
        text: &'m TextModel,
        draft: Option<&DraftModel>,
        logits: &[f32],
    ) -> Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        let count = self.request.choices;
        if let Some(logprobs) = self.prompt_logprobs.take() {
            self.tell(Event::Prompt {
                first_choice: self.request.first_choice,
                logprobs: logprobs.placed(&text.tokenizer, &self.request.prompt),
            });
        }
        if self.request.options.max_tokens == 0 {
            for choice in self.request.first_choice..self.request.first_choice + count {
                let finish = Finish::MaxTokens;
                self.tell(Event::Finished { choice, finish });
            }
            return Ok(());
        }
        let forks: Vec<Session> = (1..count).map(|_| session.fork()).collect::<Result<_>>()?;
        for (index, session) in std::iter::once(session).chain(forks).enumerate() {
            let options = &self.request.options;
            let mut sampling = options.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(index as u64);
            let options = options.clone().with_sampling(sampling);
            self.choices.push(Choice {
                session,
                writer: Writer::new(&text.tokenizer, &self.request.prompt, &options)?,
                constraint: self.request.constraint.as_ref().map(Constraint::fork),
                logprobs: self.request.logprobs,
                tells_end: self.request.prompt_logprobs.is_some(),
                known: text.tokenizer.vocab_size(),
                index: self.request.first_choice + index,
                uncounted: 0,
                speculation: (options.speculate || draft.is_some()).then(|| {
                    let draft = draft.map(Draft::new);
                    Speculation::new(&self.request.prompt, options.speculate, draft)
                }),
                next: Vec::new(),
                finished: false,
            });
        }
        metrics::histogram!("selfextend_time_to_first_token_seconds")
            .record(self.request.arrived.elapsed().as_secs_f64());
        for choice in 0..count {
            let drawn = self.choices[choice].draw(logits)?;
            self.advance(choice, drawn);
        }
        Ok(())
    }

    /// Appends an answer's next token and sends its text.
    pub fn advance(&mut self, choice: usize, drawn: Drawn) {
        self.completion_tokens += 1;
        metrics::counter!("selfextend_generated_tokens_total").increment(1);
        let Drawn { written, logprob } = drawn;
        let choice = &mut self.choices[choice];
        choice.next = vec![written.token];
        let (index, finish) = (choice.index, written.finish);
        choice.finished = finish.is_some();
        choice.uncounted += 1;
        if !written.text.is_empty() || logprob.is_some() {
            let piece = Piece {
                choice: index,
                text: written.text,
                tokens: std::mem::take(&mut choice.uncounted),
                logprob,
            };
            self.too_slow |= !self.request.events.send_text(piece);
        }
        if let Some(finish) = finish {
            self.tell(Event::Finished {
                choice: index,
                finish,
            });
        }
    }

    /// Records how long the answers waited for their tokens, at most so many each.
    pub fn stepped(&mut self, tokens: usize) {
        let now = Instant::now();
        if let Some(last) = self.last_token.replace(now) {
            let gap = now.duration_since(last).as_secs_f64() / tokens.max(1) as f64;
            metrics::histogram!("selfextend_time_between_tokens_seconds").record(gap);
        }
    }

    /// Writes to the log where a draft model failed. The answers are what they would have been without.
    pub fn warn_of_drafts(&self) {
        let fault = self.choices.iter().find_map(Choice::draft_fault);
        if let Some(error) = fault {
            tracing::warn!(request = self.request.id, error, "the draft model failed");
        }
    }

    /// Tells the client that its answers are complete.
    pub fn finish(&self) {
        self.tell(Event::Done {
            completion_tokens: self.completion_tokens,
        });
    }

    /// Tells the client that its request failed.
    pub fn fail(&self, failure: Failure) {
        self.tell(Event::Failed(failure));
    }
}

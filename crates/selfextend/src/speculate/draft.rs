//! A draft model's reading of one text.

use super::model::DraftModel;
use super::odds::Odds;
use crate::error::Error;
use crate::sampling::{argmax, log_probability};
use crate::session::Session;
use std::collections::VecDeque;

/// Drawn tokens for which drafting rests when it did not pay: at first, and at most. In between the
/// rest doubles each time.
const RESTS: (usize, usize) = (16, 512);
/// What becomes of the next rest with each right guess.
const RIGHT: f64 = 0.8;

/// A draft model beside one sequence: its own session over the same text, and its guesses of what comes
/// next. A conversation keeps it from answer to answer, so that only what is new is read.
pub struct Draft {
    pub(super) model: DraftModel,
    session: Option<Session>,
    text: Vec<u32>,
    /// How many tokens of the text the session holds.
    read: usize,
    /// Guesses that it holds after them.
    ahead: Vec<u32>,
    /// Of the next tokens, with the probabilities that the draft model gives them.
    guesses: VecDeque<(u32, f64)>,
    confidences: Odds,
    overall: Odds,
    /// Tokens that are still to be drawn before it guesses again, and the length of the next rest.
    rest: usize,
    next_rest: f64,
    /// Whether the text has a token that the draft model cannot read.
    is_blind: bool,
    fault: Option<Error>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("Draft");
        all.field("read", &self.read).finish_non_exhaustive()
    }
}

impl Draft {
    /// Of no text yet.
    pub fn new(model: &DraftModel) -> Self {
        Self {
            model: model.clone(),
            session: None,
            text: Vec::new(),
            read: 0,
            ahead: Vec::new(),
            guesses: VecDeque::new(),
            confidences: Odds::of_confidences(),
            overall: Odds::of_drafts(),
            rest: 0,
            next_rest: RESTS.0 as f64,
            is_blind: false,
            fault: None,
        }
    }

    /// What it has read, for an answer; one without stays here.
    pub(crate) fn take(&mut self) -> Self {
        let model = self.model.clone();
        std::mem::replace(self, Self::new(&model))
    }

    /// Why it guesses no more, where the draft model failed. What it drafted for is not affected.
    pub fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// How it reads texts of so many tokens.
    #[cfg(test)]
    pub(crate) fn model_options(&self, needed: usize) -> crate::SessionOptions {
        self.model.options(needed).unwrap()
    }

    /// Bytes of its KV cache.
    pub fn cache_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, Session::cache_bytes)
    }

    /// Turns to a text, and keeps what it has read of it already.
    pub(super) fn begin(&mut self, text: &[u32]) {
        self.settle();
        let same = common(&self.text[..self.read], text);
        self.take_back(same);
        self.text = text.to_vec();
        self.is_blind = !text.iter().all(|&token| self.model.reads(token));
        (self.rest, self.next_rest) = (0, RESTS.0 as f64);
    }

    /// Takes the next token of the text.
    pub(super) fn saw(&mut self, token: u32) {
        if let Some((guess, confidence)) = self.guesses.pop_front() {
            let right = guess == token;
            self.overall.note(confidence, right);
            self.confidences.note(confidence, right);
            if right {
                self.next_rest = (self.next_rest * RIGHT).max(RESTS.0 as f64);
            } else {
                self.guesses.clear();
            }
        }
        if self.rest > 0 {
            self.rest -= 1;
            if self.rest == 0 {
                // What did not pay may do so by now.
                self.overall.forget_half();
            }
        }
        self.is_blind |= !self.model.reads(token);
        self.text.push(token);
    }

    /// The probabilities that its first guess, the first two, ... would be right.
    pub(super) fn chances(&self, most: usize) -> Vec<f64> {
        if self.rest > 0 || self.is_blind || self.fault.is_some() {
            return Vec::new();
        }
        let chance = self.overall.of(0.0);
        (1..=most as i32).map(|n| chance.powi(n)).collect()
    }

    /// Rests, because guessing does not pay.
    pub(super) fn rest(&mut self) {
        self.rest = self.next_rest as usize;
        self.next_rest = (self.next_rest * 2.0).min(RESTS.1 as f64);
    }

    /// Tokens of the text that are not read.
    pub(super) fn unread(&self) -> usize {
        self.text.len() - self.read
    }

    /// Gets ready to read the text, which may come to `further` tokens more: takes wrong guesses back, and
    /// starts over where the session has no room for so many. False where that fails.
    pub(super) fn prepare(&mut self, further: usize) -> bool {
        self.settle();
        self.guesses.clear();
        let needed = self.text.len() + further;
        if self.session.as_ref().is_none_or(|it| it.context() < needed) {
            (self.session, self.read) = (None, 0);
            let opened = self.model.options(needed);
            match opened.and_then(|options| self.model.model.session(options)) {
                Ok(session) => self.session = Some(session),
                Err(error) => self.fault = Some(error),
            }
        }
        self.fault.is_none()
    }

    /// Takes over what another draft of the same model has read of the same text, where that is at least
    /// `least` tokens more.
    pub(super) fn adopt(&mut self, other: &Self, least: usize) {
        let same = common(self.but_last(), &other.text[..other.read]);
        let (Some(mine), Some(theirs)) = (&self.session, &other.session) else {
            return;
        };
        let is_alike = mine.options() == theirs.options() && mine.model().is(theirs.model());
        if !is_alike || same < self.read + least {
            return;
        }
        // Where there is no memory for a copy, it reads the text itself.
        if let Ok(session) = theirs.fork() {
            (self.session, self.read) = (Some(session), other.read);
            self.ahead.clear();
            self.take_back(same);
        }
    }

    /// Its session and the next `count` tokens of the text, to be read in a pass.
    pub(super) fn part(&mut self, count: usize) -> Option<(&mut Session, &[u32])> {
        let tokens = &self.text[self.read..][..count];
        Some((self.session.as_mut()?, tokens))
    }

    /// Its session and its last guess, to be read in a pass.
    pub(super) fn guess_part(&mut self) -> Option<(&mut Session, &[u32])> {
        let held = self.session.as_ref()?.len();
        // A pass may have failed, and is made again.
        self.ahead.truncate(held.saturating_sub(self.read));
        let (last, _) = self.guesses.back()?;
        self.ahead.push(*last);
        let last = self.ahead.len() - 1;
        Some((self.session.as_mut()?, &self.ahead[last..]))
    }

    /// Notes that a pass read so many tokens of the text.
    pub(super) fn has_read(&mut self, count: usize) {
        self.read += count;
    }

    /// Notes that a pass failed, for this draft alone.
    pub(super) fn failed(&mut self, error: Error) {
        self.fault = Some(error);
        self.guesses.clear();
    }

    /// Guesses the token after those that were read.
    pub(super) fn guess(&mut self, logits: &[f32]) {
        let logits = &logits[..logits.len().min(self.model.proposed)];
        let token = argmax(logits);
        let confidence = log_probability(logits, token).exp();
        self.guesses.push_back((token, confidence));
    }

    /// Its guesses, and the probabilities that the first, the first two, ... are right.
    pub(super) fn guesses(&self) -> (Vec<u32>, Vec<f64>) {
        let tokens = self.guesses.iter().map(|(token, _)| *token);
        let each = self.guesses.iter();
        let chances = each.scan(1.0, |all, (_, confidence)| {
            *all *= self.confidences.of(*confidence);
            Some(*all)
        });
        (tokens.collect(), chances.collect())
    }

    /// The text but for its last token, which is always read again: what comes next depends on its logits.
    fn but_last(&self) -> &[u32] {
        &self.text[..self.text.len().saturating_sub(1)]
    }

    /// Counts the guesses that the text has confirmed as read, and takes the others back.
    fn settle(&mut self) {
        // A pass may have failed.
        let held = self.session.as_ref().map_or(0, Session::len);
        self.ahead.truncate(held.saturating_sub(self.read));
        let known = self.but_last();
        let right = common(&self.ahead, &known[self.read.min(known.len())..]);
        let wrong = self.ahead.len() > right;
        self.read += right;
        self.ahead.clear();
        if wrong {
            self.take_back(self.read);
        }
    }

    /// Keeps the first `len` tokens that were read, or fewer where the session has forgotten some.
    fn take_back(&mut self, len: usize) {
        self.guesses.clear();
        self.read = match &mut self.session {
            Some(session) => session.truncate(len),
            None => 0,
        };
    }
}

/// How many tokens two texts begin with in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

//! A session that reads an answer token by token, some of them ahead of time.

use crate::error::{Error, Result};
use crate::session::Session;
use crate::speculate::{Costs, Draft, Guessing, Speculated, Speculation, guess};
use std::time::Instant;

/// Reads the tokens of an answer as they are drawn, and has the logits after the last one.
pub(crate) struct Reader<'a> {
    session: &'a mut Session,
    guesses: Option<Guesses>,
    /// Where the draft goes in the end.
    lent: Option<&'a mut Draft>,
    /// Tokens that the session holds beyond those that were drawn, if they are.
    ahead: Vec<u32>,
    /// How many of them were drawn since.
    drawn: usize,
    /// After the token before the first of them, and after each of them.
    logits: Vec<f32>,
}

/// Where proposals come from, and what they cost.
struct Guesses {
    speculation: Speculation,
    costs: Costs,
}

impl<'a> Reader<'a> {
    /// A session whose last token gave these logits.
    pub fn new(session: &'a mut Session, logits: Vec<f32>) -> Self {
        Self {
            session,
            guesses: None,
            lent: None,
            ahead: Vec::new(),
            drawn: 0,
            logits,
        }
    }

    /// Reads ahead from now on, by repetitions or by a draft. `prompt` is what the session holds.
    ///
    /// # Errors
    /// A device where tokens that pass together get other logits than each alone.
    pub fn speculate(
        &mut self,
        prompt: &[u32],
        from_repeats: bool,
        mut draft: Option<&'a mut Draft>,
    ) -> Result<()> {
        self.session.model().check_exact_steps()?;
        let taken = draft.as_mut().map(|draft| draft.take());
        self.lent = draft;
        self.guesses = Some(Guesses {
            speculation: Speculation::new(prompt, from_repeats, taken),
            costs: Costs::new(self.session.options().chunk),
        });
        Ok(())
    }

    /// What became of the guesses.
    pub fn speculated(&self) -> Option<Speculated> {
        let guesses = self.guesses.as_ref();
        guesses.map(|guesses| guesses.speculation.counts)
    }

    /// Why the draft guesses no more, where it failed.
    pub fn draft_fault(&self) -> Option<&Error> {
        self.guesses.as_ref()?.speculation.fault()
    }

    /// After the last token that was read.
    pub fn logits(&self) -> &[f32] {
        let width = self.logits.len() / (self.ahead.len() + 1);
        &self.logits[self.drawn * width..][..width]
    }

    /// Reads the next token; `left` tokens may follow it. False where the context is full.
    ///
    /// # Errors
    /// Those of [`Session::append`].
    pub fn read(&mut self, token: u32, left: usize) -> Result<bool> {
        if let Some(guesses) = &mut self.guesses {
            guesses.speculation.saw(token);
        }
        if self.ahead.get(self.drawn) == Some(&token) {
            self.drawn += 1;
            if let Some(guesses) = &mut self.guesses {
                guesses.speculation.counts.accepted += 1;
            }
            return Ok(true);
        }
        self.take_back();
        let room = self.session.context() - self.session.len();
        if room == 0 {
            return Ok(false);
        }
        // The last of the tokens that may follow is drawn and not read.
        let most = left.saturating_sub(1).min(room - 1);
        let mut tokens = vec![token];
        if let Some(guesses) = &mut self.guesses {
            tokens.append(&mut guesses.proposals(most));
        }
        match self.pass(&tokens) {
            // A wrong guess must not fail what is right without it.
            Err(Error::NotFinite { .. } | Error::NotFiniteIn { .. }) if tokens.len() > 1 => {
                tokens.truncate(1);
                self.pass(&tokens)?;
            }
            read => read?,
        }
        self.ahead.extend_from_slice(&tokens[1..]);
        Ok(true)
    }

    /// One pass over a token that was drawn and the proposals after it.
    fn pass(&mut self, tokens: &[u32]) -> Result<()> {
        let Self {
            session, logits, ..
        } = self;
        logits.clear();
        let start = Instant::now();
        session.append_steps(tokens, |_, row| logits.extend_from_slice(row))?;
        if let Some(guesses) = &mut self.guesses {
            let seconds = start.elapsed().as_secs_f64();
            guesses.costs.pass.note(tokens.len(), seconds);
            guesses.speculation.counts.proposed += tokens.len() - 1;
        }
        Ok(())
    }

    /// Takes back tokens that were not drawn.
    fn take_back(&mut self) {
        let wrong = self.ahead.len() - self.drawn;
        if wrong > 0 {
            let len = self.session.len() - wrong;
            let left = self.session.truncate(len);
            // Fewer than a page can always be taken back.
            debug_assert_eq!(left, len);
        }
        self.ahead.clear();
        self.drawn = 0;
    }
}

/// The session ends as it would without guesses.
impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.take_back();
        let guesses = self.guesses.take();
        let draft = guesses.and_then(|guesses| guesses.speculation.into_draft());
        if let (Some(lent), Some(draft)) = (self.lent.take(), draft) {
            *lent = draft;
        }
    }
}

impl Guesses {
    fn proposals(&mut self, most: usize) -> Vec<u32> {
        let sequence = Guessing {
            speculation: Some(&mut self.speculation),
            most,
        };
        let proposed = guess(&mut [sequence], &mut self.costs, &|| {});
        proposed.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests;

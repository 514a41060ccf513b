//! A session that reads one prompt after another and keeps the prefixes they share.

use selfextend::sampling::TokenScore;
use selfextend::{Error, Model, Session, SessionOptions};

/// The fewest tokens of a pass. The kernels for few rows (the engine's decode steps) differ from
/// those for many in the last bits. No pass of a prefill is shorter than this, so a prefix gives
/// bit for bit the same keys however it was read.
const SHORTEST_PASS: usize = 16;

/// Called before each layer with the number of tokens computed so far.
pub(super) type OnProgress<'a> = &'a mut (dyn FnMut(usize) -> selfextend::Result<()> + Send);

/// The first token of a prompt that must be computed after `previous` was read. At least
/// [`SHORTEST_PASS`] tokens at the end are computed, for their logits.
pub(super) fn first_new(previous: &[u32], prompt: &[u32]) -> usize {
    let common = previous
        .iter()
        .zip(prompt)
        .take_while(|(ours, theirs)| ours == theirs)
        .count();
    common.min(prompt.len().saturating_sub(SHORTEST_PASS))
}

/// The lengths of the passes for so many tokens: a chunk each, the last one at least
/// [`SHORTEST_PASS`] where there are that many.
fn passes(mut tokens: usize, chunk: usize) -> impl Iterator<Item = usize> {
    let chunk = chunk.max(2 * SHORTEST_PASS);
    std::iter::from_fn(move || {
        let pass = match tokens {
            0 => return None,
            all if all <= chunk => all,
            most if most < chunk + SHORTEST_PASS => most - SHORTEST_PASS,
            _ => chunk,
        };
        tokens -= pass;
        Some(pass)
    })
}

/// A session, and its first tokens that a fresh session would hold bit for bit.
pub(super) struct Reader {
    session: Session,
    tokens: Vec<u32>,
    /// Whether prefixes are kept at all.
    share: bool,
}

impl Reader {
    pub(super) fn new(
        model: &Model,
        options: SessionOptions,
        share: bool,
    ) -> selfextend::Result<Self> {
        Ok(Self {
            session: model.session(options)?,
            tokens: Vec::new(),
            share,
        })
    }

    /// Reads a prompt; returns the logits of its last token and the tokens computed for it.
    pub(super) fn prompt(
        &mut self,
        prompt: &[u32],
        progress: OnProgress,
    ) -> selfextend::Result<(Vec<f32>, usize)> {
        let start = self.keep(prompt);
        let mut logits = Vec::new();
        let mut at = start;
        for pass in passes(prompt.len() - start, self.chunk()) {
            logits = self
                .session
                .append_with(&prompt[at..at + pass], |done| progress(at - start + done))?;
            self.remember(&prompt[at..at + pass]);
            at += pass;
        }
        Ok((logits, at - start))
    }

    /// Reads tokens after those of the session; returns how probable the target after each was.
    /// They are not kept for other prompts.
    pub(super) fn score(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        progress: OnProgress,
    ) -> selfextend::Result<Vec<TokenScore>> {
        let mut scores = Vec::with_capacity(targets.len());
        for pass in passes(tokens.len(), self.chunk()) {
            let at = scores.len();
            let (some, targets) = (&tokens[at..at + pass], &targets[at..at + pass]);
            let progress = &mut |done| progress(at + done);
            let visit = &mut |_, score| scores.push(score);
            self.session.score_with(some, targets, progress, visit)?;
        }
        Ok(scores)
    }

    /// The session, to decode with. What it appends is not kept for other prompts.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn chunk(&self) -> usize {
        self.session.options().chunk
    }

    /// Truncates the session to what a prompt begins with; returns its length.
    fn keep(&mut self, prompt: &[u32]) -> usize {
        let start = if self.share {
            first_new(&self.tokens, prompt)
        } else {
            0
        };
        // A method that forgets keys may have to start from the beginning.
        let start = self.session.truncate(start);
        self.tokens.truncate(start);
        start
    }

    fn remember(&mut self, tokens: &[u32]) {
        // A short pass does not give the bits of a longer one.
        if self.share
            && tokens.len() >= SHORTEST_PASS
            && self.tokens.len() + tokens.len() == self.session.len()
        {
            self.tokens.extend_from_slice(tokens);
        }
    }
}

/// The error that stops a pass.
pub(super) fn stop_if(asked: bool) -> selfextend::Result<()> {
    if asked { Err(Error::Stopped) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_pass_is_short_but_one_of_a_short_text(tokens in 0usize..3000, chunk in 1usize..600) {
            let all: Vec<_> = passes(tokens, chunk).collect();
            prop_assert_eq!(all.iter().sum::<usize>(), tokens);
            prop_assert!(all.iter().all(|&pass| pass >= SHORTEST_PASS.min(tokens)));
            prop_assert!(all.iter().all(|&pass| pass <= chunk.max(2 * SHORTEST_PASS)));
        }
    }

    #[test]
    fn the_last_tokens_of_a_prompt_are_always_new() {
        let prompt: Vec<u32> = (0..100).collect();
        assert_eq!(first_new(&prompt, &prompt), 100 - SHORTEST_PASS);
        assert_eq!(first_new(&prompt[..40], &prompt), 40);
        assert_eq!(first_new(&[], &prompt), 0);
        assert_eq!(first_new(&prompt, &prompt[..5]), 0);
    }
}

//! Probabilities of tokens, as clients ask for them.

use super::event::TokenLogprob;
use super::request::Request;
use selfextend::sampling::log_probability;
use selfextend::tokenizer::{DecodeStream, SpecialTokens, Tokenizer};

/// A token's probability under the model, and those of the `top` most probable tokens; `at` is where
/// its text begins.
pub fn token_logprob(logits: &[f32], token: u32, at: usize, top: usize) -> TokenLogprob {
    let logprob = log_probability(logits, token);
    // All share the normaliser: the differences of logits are those of log-probabilities.
    let of = |other: usize| logprob + f64::from(logits[other] - logits[token as usize]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let descending = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    let top = top.min(order.len());
    if top > 0 {
        order.select_nth_unstable_by(top - 1, descending);
    }
    order.truncate(top);
    order.sort_unstable_by(descending);
    TokenLogprob {
        token,
        at,
        logprob,
        top: order.into_iter().map(|id| (id as u32, of(id))).collect(),
    }
}

/// Probabilities of a prompt's tokens, as far as it is read.
#[derive(Debug)]
pub struct PromptLogprobs {
    top: usize,
    pub tokens: Vec<TokenLogprob>,
}

impl PromptLogprobs {
    /// None yet, where the request asks for them.
    pub fn new(request: &Request) -> Option<Self> {
        let top = request.prompt_logprobs?;
        Some(Self {
            top,
            tokens: Vec::with_capacity(request.prompt.len()),
        })
    }

    /// Takes the logits after a prompt's tokens up to `next`.
    pub fn read(&mut self, logits: &[f32], next: u32) {
        self.tokens.push(token_logprob(logits, next, 0, self.top));
    }

    /// All of them, with the places of their texts.
    pub fn placed(mut self, tokenizer: &Tokenizer, prompt: &[u32]) -> Vec<TokenLogprob> {
        let mut stream = tokenizer.decode_stream(SpecialTokens::Skip);
        let mut characters = characters_of(&mut stream, prompt[0]);
        for (entry, id) in self.tokens.iter_mut().zip(&prompt[1..]) {
            entry.at = characters;
            characters += characters_of(&mut stream, *id);
        }
        self.tokens
    }
}

fn characters_of(stream: &mut DecodeStream, id: u32) -> usize {
    // Prompts hold no tokens that the tokenizer does not know.
    let text = stream.push(id).ok().flatten();
    text.map_or(0, |text| text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_tokens_come_first() {
        let logits = [0.0, 2.0, 1.0, 2.0];
        let found = token_logprob(&logits, 2, 0, 3);
        let ids: Vec<u32> = found.top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 2]);
        for (id, logprob) in &found.top {
            assert!((logprob - log_probability(&logits, *id)).abs() < 1e-6);
        }
        assert!((found.logprob - log_probability(&logits, 2)).abs() < 1e-12);
        assert!(token_logprob(&logits, 0, 0, 0).top.is_empty());
    }
}

//! Text from a session, streamed.

use crate::error::Result;
use crate::sampling::{Sampler, Sampling};
use crate::session::Session;
use crate::tokenizer::{SpecialTokens, Tokenizer};
use std::ops::ControlFlow;

/// How long to go on, and how to choose tokens.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer.
    EndToken,
    /// A stop text appeared.
    Stop(String),
    /// `max_tokens` were generated.
    MaxTokens,
    /// The session's context is full.
    ContextFull,
    /// The receiver of the text broke off.
    Stopped,
}

/// A finished generation.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Tokens generated, an end token not included.
    pub tokens: Vec<u32>,
    /// Their text, up to a stop text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Generates from the logits of the session's last token. `on_text` gets the text as it becomes
/// certain: never half a character, never the start of a stop text.
///
/// # Errors
/// Sampling settings outside their range and what the model's pass returns.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    mut logits: Vec<f32>,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation> {
    let mut sampler = Sampler::new(options.sampling.clone())?;
    let mut stream = tokenizer.continue_stream(SpecialTokens::Skip);
    let mut gate = StopGate::new(&options.stop);
    let mut tokens = Vec::new();
    let finish = loop {
        if tokens.len() == options.max_tokens {
            break Finish::MaxTokens;
        }
        let token = sampler.draw(&logits);
        if tokenizer.end_tokens().contains(&token) {
            break Finish::EndToken;
        }
        tokens.push(token);
        if let Some(text) = stream.push(token)? {
            let (certain, stop) = gate.push(&text);
            if !certain.is_empty() && on_text(&certain).is_break() {
                break Finish::Stopped;
            }
            if let Some(stop) = stop {
                break Finish::Stop(stop);
            }
        }
        if session.len() == session.options().context {
            break Finish::ContextFull;
        }
        logits = session.append(&[token], &mut |_| Ok(()))?;
    };
    if !matches!(finish, Finish::Stop(_) | Finish::Stopped) {
        let (mut rest, _) = gate.push(&stream.finish());
        rest.push_str(&gate.finish());
        if !rest.is_empty() {
            // The end is reached: whether the receiver wants more no longer matters.
            let _ = on_text(&rest);
        }
    }
    Ok(Generation {
        tokens,
        text: gate.passed,
        finish,
    })
}

/// Lets text through as soon as it cannot be the start of a stop text.
struct StopGate<'a> {
    stops: &'a [String],
    held: String,
    passed: String,
}

impl<'a> StopGate<'a> {
    fn new(stops: &'a [String]) -> Self {
        Self {
            stops,
            held: String::new(),
            passed: String::new(),
        }
    }

    /// Takes text in; returns what is certain and the stop text that was reached.
    fn push(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let stops = || self.stops.iter().filter(|stop| !stop.is_empty());
        let first = stops()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at, stop)))
            .min();
        if let Some((at, stop)) = first {
            let certain = self.held[..at].to_owned();
            self.held.clear();
            self.passed.push_str(&certain);
            return (certain, Some(stop.clone()));
        }
        // The longest end of the text that a stop text starts with.
        let open = (0..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| stops().any(|stop| stop.starts_with(&self.held[at..])));
        let tail = self.held.split_off(open.unwrap_or(self.held.len()));
        let certain = std::mem::replace(&mut self.held, tail);
        self.passed.push_str(&certain);
        (certain, None)
    }

    /// What was held back, when nothing more will come.
    fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        self.passed.push_str(&rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(stops: &[&str], parts: &[&str]) -> (Vec<String>, Option<String>, String) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut gate = StopGate::new(&stops);
        let mut out = Vec::new();
        for part in parts {
            let (text, stop) = gate.push(part);
            out.push(text);
            if stop.is_some() {
                return (out, stop, gate.passed);
            }
        }
        out.push(gate.finish());
        (out, None, gate.passed)
    }

    #[test]
    fn a_stop_text_over_several_tokens_is_found_and_never_shown() {
        let (out, stop, passed) = feed(&["\nUser:"], &["Hello", "\nUs", "er", ": more"]);
        assert_eq!(out, ["Hello", "", "", ""]);
        assert_eq!(
            (stop.as_deref(), passed.as_str()),
            (Some("\nUser:"), "Hello")
        );
    }

    #[test]
    fn a_false_start_is_shown_later() {
        let (out, stop, passed) = feed(&["END"], &["a E", "N", "x", " E"]);
        assert_eq!(out, ["a ", "", "ENx", " ", "E"]);
        assert_eq!((stop, passed.as_str()), (None, "a ENx E"));
    }

    #[test]
    fn the_first_stop_text_wins_and_empty_ones_do_nothing() {
        let (_, stop, passed) = feed(&["", "b", "ab"], &["xaby"]);
        assert_eq!((stop.as_deref(), passed.as_str()), (Some("ab"), "x"));
        let (out, ..) = feed(&["é"], &["caf", "e"]);
        assert_eq!(out.concat(), "cafe");
    }
}

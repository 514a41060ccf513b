//! Text from a session, streamed.

use crate::builder::with_fields;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::sampling::{Sampler, Sampling};
use crate::session::Session;
use crate::speculate::{Draft, Speculated};
use crate::tokenizer::{DecodeStream, SpecialTokens, Tokenizer};
use std::ops::ControlFlow;

/// How long an answer may be, and how its tokens are chosen. By default at most 256 tokens, the most probable one
/// each time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it. An empty one is refused.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Guess tokens from the prompt and the answer and verify some in one pass, where that is faster;
    /// the text is the same ([`crate::speculate`]). For an [`Answer`]: callers of a [`Writer`] run
    /// passes themselves.
    pub speculate: bool,
    /// Control tokens that are a part of the text, as markers around calls of functions are in some
    /// models; others are left out.
    pub shown: Vec<u32>,
}

/// Default of [`GenerateOptions::max_tokens`].
pub const DEFAULT_MAX_TOKENS: usize = 256;

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: DEFAULT_MAX_TOKENS,
            stop: Vec::new(),
            sampling: Sampling::default(),
            speculate: false,
            shown: Vec::new(),
        }
    }
}

impl GenerateOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With texts that end the answer.
    #[must_use]
    pub fn with_stop(self, stop: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let stop = stop.into_iter().map(Into::into).collect();
        Self { stop, ..self }
    }

    with_fields! {
        /// With at most so many tokens.
        with_max_tokens(max_tokens: usize);
        /// With another way of choosing tokens.
        with_sampling(sampling: Sampling);
        /// With guessed tokens, or not.
        with_speculate(speculate: bool);
        /// With control tokens that are a part of the text.
        with_shown(shown: Vec<u32>);
    }
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
    /// The receiver of the text stopped it.
    Stopped,
}

/// A finished generation.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Tokens generated, without an end token.
    pub tokens: Vec<u32>,
    /// Their text, up to a stop text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// What became of guessed tokens, where some were allowed.
    pub speculated: Option<Speculated>,
    /// Why a draft model guessed no more from some token on, where it failed; the text is the same.
    pub draft_fault: Option<String>,
}

/// Turns the logits of one sequence into tokens and text, step by step: an [`Answer`] for callers
/// that run several sequences at once.
#[derive(Debug)]
pub struct Writer<'t> {
    tokenizer: &'t Tokenizer,
    max_tokens: usize,
    shown: Vec<u32>,
    sampler: Sampler,
    stream: DecodeStream<'t>,
    gate: StopGate,
    tokens: Vec<u32>,
    /// Characters decoded so far.
    characters: usize,
}

/// The result of one step of a [`Writer`].
#[derive(Debug)]
pub struct Written {
    /// The token drawn, which may be an end token.
    pub token: u32,
    /// Characters of the answer before the first one that the token has a part in.
    pub at: usize,
    /// Text that is final: never half a character, never the start of a stop text.
    pub text: String,
    /// Whether this was the last step.
    pub finish: Option<Finish>,
}

impl<'t> Writer<'t> {
    /// Continues a text whose tokens are `prompt`: the repetition penalty counts them.
    ///
    /// # Errors
    /// Sampling settings outside their range, an empty stop text.
    pub fn new(
        tokenizer: &'t Tokenizer,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let mut sampler = Sampler::new(options.sampling.clone())?;
        sampler.saw(prompt);
        if options.stop.iter().any(String::is_empty) {
            return Err(Error::EmptyStop);
        }
        Ok(Self {
            tokenizer,
            max_tokens: options.max_tokens,
            shown: options.shown.clone(),
            sampler,
            stream: tokenizer.continue_stream(SpecialTokens::Skip),
            gate: StopGate::new(options.stop.clone()),
            tokens: Vec::new(),
            characters: 0,
        })
    }

    /// Draws a token, among those of the mask where there is one (see [`Sampler::draw_among`]).
    /// After a step with a [`Finish`], do not call it again.
    ///
    /// # Errors
    /// Logits of more tokens than the tokenizer knows.
    pub fn write(&mut self, logits: &[f32], mask: Option<&[u32]>) -> Result<Written> {
        let token = self.sampler.draw_among(logits, mask);
        let at = self.characters;
        if self.tokenizer.end_tokens().contains(&token) {
            let (text, finish) = (self.rest(), Some(Finish::EndToken));
            return Ok(Written {
                token,
                at,
                text,
                finish,
            });
        }
        self.tokens.push(token);
        let (mut text, mut finish) = (String::new(), None);
        let decoded = if self.shown.contains(&token) {
            self.stream.push_shown(token)?
        } else {
            self.stream.push(token)?
        };
        if let Some(decoded) = decoded {
            self.characters += decoded.chars().count();
            let (certain, stop) = self.gate.push(&decoded);
            (text, finish) = (certain, stop.map(Finish::Stop));
        }
        if finish.is_none() && self.tokens.len() >= self.max_tokens {
            text.push_str(&self.rest());
            finish = Some(Finish::MaxTokens);
        }
        Ok(Written {
            token,
            at,
            text,
            finish,
        })
    }

    /// The text that was held back, once nothing more follows.
    pub fn rest(&mut self) -> String {
        let end = std::mem::replace(
            &mut self.stream,
            self.tokenizer.continue_stream(SpecialTokens::Skip),
        );
        let (mut rest, _) = self.gate.push(&end.finish());
        rest.push_str(&self.gate.finish());
        rest
    }

    /// Tokens written, without an end token.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The most tokens that it will still draw.
    pub fn left(&self) -> usize {
        self.max_tokens - self.tokens.len()
    }
}

/// An answer as it is generated: an iterator over pieces of text, which are never half a character
/// and never the start of a stop text. Dropping it stops the work; the session then holds all tokens
/// of the pieces so far but the last one.
pub struct Answer<'a> {
    reader: Reader<'a>,
    writer: Writer<'a>,
    /// A token that was drawn and is not read yet.
    drawn: Option<u32>,
    finish: Option<Finish>,
}

impl<'a> Answer<'a> {
    /// Generates from the logits of the session's last token; `prompt` are the tokens that the
    /// session holds, which the repetition penalty counts.
    ///
    /// # Errors
    /// Sampling settings outside their range, an empty stop text, guesses on a device where they could
    /// change the text.
    pub fn new(
        session: &'a mut Session,
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        logits: Vec<f32>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        Self::with_draft(session, tokenizer, prompt, logits, options, None)
    }

    /// [`Answer::new`] with a draft model that guesses tokens, which are verified in one pass, where that
    /// is faster; the text is the same ([`crate::speculate`]). `prompt` should be all that the session
    /// holds: the draft reads it. The draft can be kept for the next answer; it gets its state back when
    /// this one is dropped.
    ///
    /// # Errors
    /// As [`Answer::new`].
    pub fn with_draft(
        session: &'a mut Session,
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        logits: Vec<f32>,
        options: &GenerateOptions,
        draft: Option<&'a mut Draft>,
    ) -> Result<Self> {
        let writer = Writer::new(tokenizer, prompt, options)?;
        let mut reader = Reader::new(session, logits);
        if options.speculate || draft.is_some() {
            reader.speculate(prompt, options.speculate, draft)?;
        }
        Ok(Self {
            reader,
            writer,
            drawn: None,
            finish: (options.max_tokens == 0).then_some(Finish::MaxTokens),
        })
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// All of it so far.
    pub fn into_generation(self) -> Generation {
        Generation {
            tokens: self.writer.tokens,
            text: self.writer.gate.passed,
            finish: self.finish.unwrap_or(Finish::Stopped),
            speculated: self.reader.speculated(),
            draft_fault: self.reader.draft_fault().map(ToString::to_string),
        }
    }

    /// The next text that is final, or `None` at the end.
    fn piece(&mut self) -> Result<Option<String>> {
        while self.finish.is_none() {
            if let Some(token) = self.drawn
                && !self.reader.read(token, self.writer.left())?
            {
                self.finish = Some(Finish::ContextFull);
                return Ok(Some(self.writer.rest()).filter(|rest| !rest.is_empty()));
            }
            let written = self.writer.write(self.reader.logits(), None)?;
            self.drawn = Some(written.token);
            self.finish = written.finish;
            if !written.text.is_empty() {
                return Ok(Some(written.text));
            }
        }
        Ok(None)
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let piece = self.piece();
        if piece.is_err() {
            // Nothing comes after an error.
            self.finish.get_or_insert(Finish::Stopped);
        }
        piece.transpose()
    }
}

/// Generates from the logits of the session's last token, with a callback: `on_text` gets the pieces
/// of an [`Answer`] and may stop it.
///
/// # Errors
/// Those of [`Answer::new`], and what the model's pass returns.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    logits: Vec<f32>,
    options: &GenerateOptions,
    mut on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation> {
    let mut answer = Answer::new(session, tokenizer, prompt, logits, options)?;
    while let Some(piece) = answer.next().transpose()? {
        // A break after the last piece changes nothing: the answer has its own finish by then.
        if on_text(&piece).is_break() {
            break;
        }
    }
    Ok(answer.into_generation())
}

/// Passes text on as soon as it cannot be the start of a stop text.
#[derive(Debug)]
struct StopGate {
    stops: Vec<String>,
    held: String,
    passed: String,
}

impl StopGate {
    fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
            passed: String::new(),
        }
    }

    /// Takes text in; returns what is final and the stop text that was reached.
    fn push(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at, stop)))
            .min();
        if let Some((at, stop)) = first {
            let certain = self.held[..at].to_owned();
            self.held.clear();
            self.passed.push_str(&certain);
            return (certain, Some(stop.clone()));
        }
        // The longest suffix of the text that is a prefix of a stop text.
        let open = (0..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[at..]))
            });
        let tail = self.held.split_off(open.unwrap_or(self.held.len()));
        let certain = std::mem::replace(&mut self.held, tail);
        self.passed.push_str(&certain);
        (certain, None)
    }

    /// What was held back, once nothing more follows.
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
        let mut gate = StopGate::new(stops);
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
    fn an_empty_stop_text_is_refused() {
        let cases = std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/tokenizers/small.json"
        ));
        let cases: serde_json::Value = serde_json::from_slice(&cases.unwrap()).unwrap();
        let (json, none) = (cases[0]["tokenizer"].clone(), serde_json::Value::Null);
        let tokenizer = Tokenizer::from_json(json, &none, &none).unwrap();
        let writer = |stop: &[&str]| {
            let options = GenerateOptions::new().with_stop(stop.iter().copied());
            Writer::new(&tokenizer, &[], &options).map(|_| ())
        };
        assert!(writer(&["a", "b"]).is_ok());
        assert!(matches!(writer(&["a", ""]), Err(Error::EmptyStop)));
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
    fn the_first_stop_text_wins() {
        let (_, stop, passed) = feed(&["b", "ab"], &["xaby"]);
        assert_eq!((stop.as_deref(), passed.as_str()), (Some("ab"), "x"));
        let (out, ..) = feed(&["é"], &["caf", "e"]);
        assert_eq!(out.concat(), "cafe");
    }
}

//! A stream of text to content and calls.

use super::call::{Call, Found, Place};
use super::set::ToolSet;
use super::syntax;
use crate::tool_format::ToolFormat;
use std::sync::Arc;

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text for the reader.
    Text(String),
    /// A call begins.
    Call {
        /// Its number.
        index: usize,
        /// The function.
        name: String,
    },
    /// The arguments of a call go on.
    Arguments {
        /// Its number.
        index: usize,
        /// More of their JSON.
        text: String,
    },
}

/// Finds the calls in an answer. A text becomes a call once all of it is there and is one: a known
/// function, an object of arguments; until then it is held back, and what does not become one is content.
/// Where a grammar holds the answer to calls, their arguments are told as they come.
pub struct CallParser {
    format: ToolFormat,
    tools: Arc<ToolSet>,
    /// Whether a grammar holds calls to the format.
    sure: bool,
    held: String,
    /// White space that is content only if content follows.
    space: String,
    start: bool,
    calls: usize,
    /// Of the calls in the text that is held, the bytes of arguments that are told.
    told: Vec<usize>,
}

impl CallParser {
    pub fn new(format: ToolFormat, tools: Arc<ToolSet>, sure: bool) -> Self {
        Self {
            format,
            tools,
            sure,
            held: String::new(),
            space: String::new(),
            start: true,
            calls: 0,
            told: Vec::new(),
        }
    }

    /// Takes text and returns what is certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        self.read(false, &mut parts);
        parts
    }

    /// The rest, once nothing follows.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.read(true, &mut parts);
        let space = std::mem::take(&mut self.space);
        if self.calls == 0 && !space.is_empty() {
            parts.push(Part::Text(space));
        }
        parts
    }

    fn read(&mut self, ended: bool, parts: &mut Vec<Part>) {
        loop {
            let text = self.held.trim_start();
            let space = self.held.len() - text.len();
            self.space.push_str(&self.held[..space]);
            self.held.drain(..space);
            if self.held.is_empty() {
                return;
            }
            let place = Place {
                start: self.start,
                after_call: self.calls > 0,
                ended,
            };
            match syntax::read(self.format, &self.held, place, &self.tools) {
                Found::Content(length) => self.content(length.max(1), parts),
                Found::Calls(length, calls) => self.take_calls(length, &calls, parts),
                Found::More => {
                    if self.sure {
                        self.tell_early(parts);
                    }
                    if !ended {
                        return;
                    }
                    if !self.told.is_empty() {
                        // A call that the answer's limit cut off.
                        self.held.clear();
                        return;
                    }
                    self.content(self.held.len(), parts);
                }
            }
        }
    }

    fn content(&mut self, length: usize, parts: &mut Vec<Part>) {
        if !self.told.is_empty() {
            // Told as a call already, so the stop text that cut it off is no reason to tell it twice.
            self.held.clear();
            return;
        }
        let length = (length..=self.held.len())
            .find(|at| self.held.is_char_boundary(*at))
            .unwrap_or(self.held.len());
        let content = &self.held[..length];
        let kept = content.trim_end().len();
        let mut text = std::mem::take(&mut self.space);
        text.push_str(&content[..kept]);
        self.space.push_str(&content[kept..]);
        self.held.drain(..length);
        self.start = false;
        match parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(&text),
            _ => parts.push(Part::Text(text)),
        }
    }

    fn take_calls(&mut self, length: usize, calls: &[Call], parts: &mut Vec<Part>) {
        for (n, call) in calls.iter().enumerate() {
            self.tell(n, &call.name, &call.arguments, parts);
        }
        self.calls += calls.len();
        self.told.clear();
        self.space.clear();
        self.held.drain(..length);
    }

    /// Tells what is known of calls that are not complete.
    fn tell_early(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        for (n, (name, arguments)) in syntax::told(self.format, &held).into_iter().enumerate() {
            if self.tools.get(name).is_some() {
                self.tell(n, name, arguments, parts);
            }
        }
        self.held = held;
    }

    /// Tells what is new of the nth call of the text that is held.
    fn tell(&mut self, n: usize, name: &str, arguments: &str, parts: &mut Vec<Part>) {
        let index = self.calls + n;
        if n == self.told.len() {
            self.told.push(0);
            let name = name.to_owned();
            parts.push(Part::Call { index, name });
        }
        let Some(told) = self.told.get_mut(n) else {
            return;
        };
        if let Some(new) = arguments.get(*told..).filter(|new| !new.is_empty()) {
            *told = arguments.len();
            let text = new.to_owned();
            parts.push(Part::Arguments { index, text });
        }
    }
}

//! What a model writes, apart: thoughts, content and calls.

use super::reasoning::{Splitter, Thinking, Thought};
use super::style::ChatStyle;
use super::tools::{CallParser, Part, ToolSet};
use crate::scheduler::Piece;
use crate::tool_format::ToolFormat;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How the answers of a request are to be read.
#[derive(Debug, Clone, Default)]
pub struct OutputSpec {
    /// The functions that may be called, how calls are written, and whether a grammar holds them to it.
    pub tools: Option<(Arc<ToolSet>, ToolFormat, bool)>,
    /// The markers around thoughts, and whether the prompt ends with the first.
    pub thinking: Option<(Thinking, bool)>,
    /// Whether thoughts are left out of the reply.
    pub hide_reasoning: bool,
}

impl OutputSpec {
    /// Control tokens that are a part of the answers' text.
    pub fn shown(&self, style: &ChatStyle) -> Vec<u32> {
        if self.tools.is_some() || self.thinking.is_some() {
            style.shown()
        } else {
            Vec::new()
        }
    }
}

/// What an answer goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    Reasoning(String),
    Content(String),
    Call {
        index: usize,
        id: String,
        name: String,
    },
    Arguments {
        index: usize,
        text: String,
    },
}

/// Reads one answer.
pub struct Output {
    splitter: Option<Splitter>,
    parser: Option<CallParser>,
    hide_reasoning: bool,
    /// Characters of the identifiers of calls, and what they begin with.
    ids: (&'static str, usize),
    /// Calls so far.
    pub calls: usize,
    /// Tokens of thoughts so far.
    pub reasoning_tokens: usize,
}

/// A call in a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyCall {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

/// An answer, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub reasoning: String,
    pub content: String,
    pub calls: Vec<ReplyCall>,
}

impl Output {
    pub fn new(spec: &OutputSpec) -> Self {
        let parser = |(tools, format, sure): &(Arc<ToolSet>, ToolFormat, bool)| {
            CallParser::new(*format, tools.clone(), *sure)
        };
        let format = spec.tools.as_ref().map(|(_, format, _)| *format);
        Self {
            splitter: spec
                .thinking
                .map(|(thinking, opened)| Splitter::new(thinking, opened)),
            parser: spec.tools.as_ref().map(parser),
            hide_reasoning: spec.hide_reasoning,
            // Mistral's templates refuse other identifiers in histories.
            ids: match format {
                Some(ToolFormat::Mistral | ToolFormat::MistralArgs) => ("", 9),
                _ => ("call_", 24),
            },
            calls: 0,
            reasoning_tokens: 0,
        }
    }

    /// Takes a piece and returns what is certain with it.
    pub fn push(&mut self, piece: &Piece) -> Vec<Delta> {
        let Some(splitter) = &mut self.splitter else {
            return self.said(&piece.text);
        };
        let before = splitter.is_inside();
        let thoughts = splitter.push(&piece.text);
        if before || splitter.is_inside() {
            self.reasoning_tokens += piece.tokens;
        }
        self.thoughts(thoughts)
    }

    /// The rest, once nothing follows.
    pub fn finish(&mut self) -> Vec<Delta> {
        let thoughts = self.splitter.as_mut().map(Splitter::finish);
        let mut deltas = self.thoughts(thoughts.unwrap_or_default());
        if let Some(parser) = &mut self.parser {
            let parts = parser.finish();
            deltas.extend(self.parts(parts));
        }
        deltas
    }

    fn thoughts(&mut self, thoughts: Vec<Thought>) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for thought in thoughts {
            match thought {
                Thought::Inner(_) if self.hide_reasoning => {}
                Thought::Inner(text) => deltas.push(Delta::Reasoning(text)),
                Thought::Said(text) => deltas.extend(self.said(&text)),
            }
        }
        deltas
    }

    fn said(&mut self, text: &str) -> Vec<Delta> {
        match &mut self.parser {
            Some(parser) => {
                let parts = parser.push(text);
                self.parts(parts)
            }
            None if text.is_empty() => Vec::new(),
            None => vec![Delta::Content(text.to_owned())],
        }
    }

    fn parts(&mut self, parts: Vec<Part>) -> Vec<Delta> {
        let delta = |part| match part {
            Part::Text(text) => Delta::Content(text),
            Part::Arguments { index, text } => Delta::Arguments { index, text },
            Part::Call { index, name } => {
                self.calls += 1;
                let id = identifier(self.ids);
                Delta::Call { index, id, name }
            }
        };
        parts.into_iter().map(delta).collect()
    }
}

fn identifier((prefix, length): (&str, usize)) -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(length);
    prefix.chars().chain(letters.map(char::from)).collect()
}

impl Message {
    /// Appends what an answer goes on with.
    pub fn extend(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => self.reasoning.push_str(&text),
                Delta::Content(text) => self.content.push_str(&text),
                Delta::Call { id, name, .. } => self.calls.push(ReplyCall {
                    id,
                    name,
                    arguments: String::new(),
                }),
                Delta::Arguments { index, text } => {
                    if let Some(call) = self.calls.get_mut(index) {
                        call.arguments.push_str(&text);
                    }
                }
            }
        }
    }

    /// The message of a chat completion.
    pub fn json(&self) -> Value {
        let mut message = Map::new();
        let mut put = |name: &str, value: Value| message.insert(name.to_owned(), value);
        put("role", "assistant".into());
        let silent = self.content.is_empty() && !self.calls.is_empty();
        put(
            "content",
            if silent {
                Value::Null
            } else {
                json!(self.content)
            },
        );
        put("refusal", Value::Null);
        if !self.reasoning.is_empty() {
            for name in REASONING {
                put(name, json!(self.reasoning));
            }
        }
        if !self.calls.is_empty() {
            let calls = self.calls.iter().map(|call| {
                let ReplyCall {
                    id,
                    name,
                    arguments,
                } = call;
                json!({"id": id, "type": "function",
                    "function": {"name": name, "arguments": arguments}})
            });
            put("tool_calls", calls.collect());
        }
        message.into()
    }
}

/// The names that thoughts have in chat completions: DeepSeek's, which most clients read, and that of
/// OpenRouter and of vLLM since 0.12.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];

impl Delta {
    /// The delta of a chunk of a chat completion.
    pub fn json(&self) -> Value {
        match self {
            Self::Content(text) => json!({"content": text}),
            Self::Reasoning(text) => {
                let pairs = REASONING.map(|name| (name.to_owned(), json!(text)));
                Value::Object(pairs.into_iter().collect())
            }
            Self::Call { index, id, name } => json!({"tool_calls": [{
                "index": index, "id": id, "type": "function",
                "function": {"name": name, "arguments": ""},
            }]}),
            Self::Arguments { index, text } => json!({"tool_calls": [{
                "index": index, "function": {"arguments": text},
            }]}),
        }
    }
}

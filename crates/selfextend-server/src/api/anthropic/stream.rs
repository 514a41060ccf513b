//! A stream in Anthropic's events.

use super::reply::{Read, error, stop_reason};
use crate::api::completions::Chunk;
use axum::response::sse::Event;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use std::convert::Infallible;

/// Turns chunks of a chat into events.
pub struct Writer {
    read: Read,
    /// The number of the next block, and what the open one holds.
    next: usize,
    open: Option<&'static str>,
    stop: (Value, Value),
    output: u64,
}

/// The events of a chat's chunks.
pub fn events(
    chunks: impl Stream<Item = Chunk>,
    read: Read,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut writer = Writer::new(read);
    let start = stream::iter(writer.start());
    let rest = chunks.flat_map(move |chunk| stream::iter(writer.take(&chunk)));
    start.chain(rest).map(|value| {
        let name = value["type"].as_str().unwrap_or_default();
        Ok(Event::default().event(name).data(value.to_string()))
    })
}

impl Writer {
    pub fn new(read: Read) -> Self {
        Self {
            read,
            next: 0,
            open: None,
            stop: (json!("end_turn"), Value::Null),
            output: 0,
        }
    }

    /// The first event.
    pub fn start(&self) -> Vec<Value> {
        vec![json!({"type": "message_start", "message": self.read.message(Vec::new(), 0)})]
    }

    /// The events of a chunk.
    pub fn take(&mut self, chunk: &Chunk) -> Vec<Value> {
        let mut events = Vec::new();
        match chunk {
            Chunk::Part(part) => self.take_part(part, &mut events),
            Chunk::Failed(failure) => {
                events.push(error(failure));
                self.open = Some(FAILED);
            }
            Chunk::End if self.open == Some(FAILED) => {}
            Chunk::End => {
                self.close(&mut events);
                let (reason, sequence) = self.stop.clone();
                events.push(json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": reason, "stop_sequence": sequence},
                    "usage": self.read.usage(self.output),
                }));
                events.push(json!({"type": "message_stop"}));
            }
        }
        events
    }

    fn take_part(&mut self, part: &Value, events: &mut Vec<Value>) {
        if let Some(output) = part["usage"]["completion_tokens"].as_u64() {
            self.output = output;
        }
        let choice = &part["choices"][0];
        let delta = &choice["delta"];
        for (name, kind, field) in [
            ("reasoning_content", "thinking", "thinking"),
            ("content", "text", "text"),
        ] {
            if let Some(text) = delta[name].as_str().filter(|text| !text.is_empty()) {
                if self.open != Some(kind) {
                    let mut block = json!({"type": kind, field: ""});
                    if kind == "thinking" {
                        block["signature"] = json!("");
                    }
                    self.begin(kind, block, events);
                }
                self.delta(
                    json!({"type": format!("{kind}_delta"), field: text}),
                    events,
                );
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if function["name"].is_string() {
                let block = json!({
                    "type": "tool_use", "id": call["id"], "name": function["name"], "input": {},
                });
                self.begin("tool_use", block, events);
            }
            let arguments = function["arguments"].as_str();
            if let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) {
                let delta = json!({"type": "input_json_delta", "partial_json": arguments});
                self.delta(delta, events);
            }
        }
        if choice["finish_reason"].is_string() {
            self.stop = stop_reason(choice);
        }
    }

    fn begin(&mut self, kind: &'static str, block: Value, events: &mut Vec<Value>) {
        self.close(events);
        events.push(json!({
            "type": "content_block_start", "index": self.next, "content_block": block,
        }));
        self.open = Some(kind);
        self.next += 1;
    }

    fn delta(&self, delta: Value, events: &mut Vec<Value>) {
        let index = self.next.saturating_sub(1);
        events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        if self.open.take().is_some() {
            let index = self.next.saturating_sub(1);
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
    }
}

/// Nothing follows an error.
const FAILED: &str = "failed";

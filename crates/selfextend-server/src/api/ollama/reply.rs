//! Replies in Ollama's shapes.

use crate::api::error::ApiError;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Which of the two kinds of lines is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Those of `/api/chat`.
    Chat,
    /// Those of `/api/generate`.
    Generate,
}

/// Writes the lines of a reply.
pub struct Writer {
    shape: Shape,
    model: String,
    prompt_tokens: usize,
    begun: Instant,
    /// When the first piece of the answer was there.
    first: Option<Instant>,
    output: u64,
    reason: &'static str,
    failed: bool,
    /// Calls of tools that are not complete: their names and arguments.
    calls: Vec<(String, String)>,
}

impl Writer {
    pub fn new(shape: Shape, model: String, prompt_tokens: usize, begun: Instant) -> Self {
        Self {
            shape,
            model,
            prompt_tokens,
            begun,
            first: None,
            output: 0,
            reason: "stop",
            failed: false,
            calls: Vec::new(),
        }
    }

    /// The one line of a reply that is not streamed.
    pub fn whole(&mut self, whole: &Value) -> Value {
        self.note(whole);
        let choice = &whole["choices"][0];
        let said = match &choice["message"] {
            Value::Null => json!({"content": choice["text"]}),
            message => message.clone(),
        };
        let calls = said["tool_calls"].as_array().into_iter().flatten();
        let calls = calls.map(|call| {
            let text = |name: &str| {
                call["function"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            (text("name"), text("arguments"))
        });
        let calls: Vec<(String, String)> = calls.collect();
        let text = |name: &str| said[name].as_str().unwrap_or_default();
        let mut line = self.line(text("content"), text("reasoning_content"), &calls);
        self.close(&mut line);
        line
    }

    /// The lines of a chunk.
    pub fn part(&mut self, part: &Value) -> Vec<Value> {
        self.note(part);
        let choice = &part["choices"][0];
        let delta = &choice["delta"];
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                self.calls.push((name.to_owned(), String::new()));
            }
            if let (Some(more), Some(last)) =
                (function["arguments"].as_str(), self.calls.last_mut())
            {
                last.1.push_str(more);
            }
        }
        let text = choice["text"].as_str().or(delta["content"].as_str());
        let thinking = delta["reasoning_content"].as_str().unwrap_or_default();
        match text.unwrap_or_default() {
            "" if thinking.is_empty() => Vec::new(),
            text => vec![self.line(text, thinking, &[])],
        }
    }

    /// Notes that the reply failed.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// The last lines: of calls, and of the whole reply.
    pub fn end(&mut self) -> Vec<Value> {
        if self.failed {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let calls = std::mem::take(&mut self.calls);
        if !calls.is_empty() {
            lines.push(self.line("", "", &calls));
        }
        let mut last = self.line("", "", &[]);
        self.close(&mut last);
        lines.push(last);
        lines
    }

    fn note(&mut self, part: &Value) {
        if let Some(output) = part["usage"]["completion_tokens"].as_u64() {
            self.output = output;
        }
        if part["choices"][0]["finish_reason"] == "length" {
            self.reason = "length";
        }
    }

    fn line(&mut self, text: &str, thinking: &str, calls: &[(String, String)]) -> Value {
        if !text.is_empty() || !thinking.is_empty() || !calls.is_empty() {
            self.first.get_or_insert_with(Instant::now);
        }
        let mut line = json!({"model": self.model, "created_at": now(), "done": false});
        match self.shape {
            Shape::Generate => {
                line["response"] = json!(text);
                if !thinking.is_empty() {
                    line["thinking"] = json!(thinking);
                }
            }
            Shape::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if !thinking.is_empty() {
                    message["thinking"] = json!(thinking);
                }
                if !calls.is_empty() {
                    message["tool_calls"] = calls.iter().map(call).collect();
                }
                line["message"] = message;
            }
        }
        line
    }

    /// Makes a line the last one.
    fn close(&self, line: &mut Value) {
        let end = Instant::now();
        let first = self.first.unwrap_or(end);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        line["done"] = json!(true);
        line["done_reason"] = json!(self.reason);
        line["total_duration"] = json!(nanoseconds(end - self.begun));
        line["load_duration"] = json!(0);
        line["prompt_eval_count"] = json!(self.prompt_tokens);
        line["prompt_eval_duration"] = json!(nanoseconds(first - self.begun));
        line["eval_count"] = json!(self.output);
        line["eval_duration"] = json!(nanoseconds(end - first));
    }
}

fn call((name, arguments): &(String, String)) -> Value {
    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({"function": {"name": name, "arguments": arguments}})
}

/// The line for a request that generates nothing.
pub fn loaded(model: &str) -> Value {
    json!({
        "model": model, "created_at": now(), "response": "", "done": true, "done_reason": "load",
    })
}

/// The time, as Ollama writes it.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// An error.
pub fn error(error: &ApiError) -> Value {
    json!({"error": error.message()})
}

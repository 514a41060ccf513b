//! A response and its events, in OpenAI's order and names.

use crate::api::output::Delta;
use serde_json::{Map, Value, json};

/// The tokens of a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub input: usize,
    pub cached: usize,
    pub output: usize,
    pub reasoning: usize,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Completed,
    /// Its limit of tokens was reached.
    Incomplete,
}

/// An item that is being written.
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Call {
        index: usize,
        call_id: String,
        name: String,
    },
}

/// Writes one response.
pub struct Writer {
    /// All of it but its output, its state and its usage.
    head: Map<String, Value>,
    output: Vec<Value>,
    open: Option<Open>,
    /// The number of the next event.
    sequence: usize,
}

impl Writer {
    /// A response of which this is known at its beginning.
    pub fn new(id: &str, created: u64, model: &str, said: Map<String, Value>) -> Self {
        let mut head = Map::from_iter([
            ("id".to_owned(), json!(id)),
            ("object".to_owned(), "response".into()),
            ("created_at".to_owned(), created.into()),
            ("model".to_owned(), json!(model)),
            ("error".to_owned(), Value::Null),
            ("incomplete_details".to_owned(), Value::Null),
        ]);
        head.extend(said);
        Self {
            head,
            output: Vec::new(),
            open: None,
            sequence: 0,
        }
    }

    /// The response as it stands.
    fn response(&self, status: &str, usage: Value) -> Value {
        let mut response = self.head.clone();
        response.insert("status".to_owned(), status.into());
        response.insert("output".to_owned(), self.output.clone().into());
        response.insert("usage".to_owned(), usage);
        response.into()
    }

    fn event(&mut self, kind: &str, fields: Value) -> Value {
        let mut event = Map::from_iter([
            ("type".to_owned(), kind.into()),
            ("sequence_number".to_owned(), self.sequence.into()),
        ]);
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        event.into()
    }

    /// The first events.
    pub fn openings(&mut self) -> Vec<Value> {
        let kinds = ["response.created", "response.in_progress"];
        kinds
            .map(|kind| {
                let response = self.response("in_progress", Value::Null);
                self.event(kind, json!({"response": response}))
            })
            .into()
    }

    /// The events of what the answer goes on with.
    pub fn push(&mut self, deltas: Vec<Delta>) -> Vec<Value> {
        let mut events = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => {
                    self.open(Kind::Reasoning, &mut events);
                    self.add("response.reasoning_text.delta", text, &mut events);
                }
                Delta::Content(text) => {
                    self.open(Kind::Message, &mut events);
                    self.add("response.output_text.delta", text, &mut events);
                }
                Delta::Call { index, id, name } => {
                    let call_id = id;
                    let kind = Kind::Call {
                        index,
                        call_id,
                        name,
                    };
                    self.open(kind, &mut events);
                }
                Delta::Arguments { text, .. } => {
                    self.add("response.function_call_arguments.delta", text, &mut events);
                }
            }
        }
        events
    }

    /// Begins an item, unless it is the one that is open.
    fn open(&mut self, kind: Kind, events: &mut Vec<Value>) {
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close("completed", events);
        let prefix = match kind {
            Kind::Reasoning => "rs",
            Kind::Message => "msg",
            Kind::Call { .. } => "fc",
        };
        let open = Open {
            kind,
            id: format!("{prefix}_{:032x}", rand::random::<u128>()),
            text: String::new(),
        };
        let place =
            json!({"output_index": self.output.len(), "item": open.item("in_progress", false)});
        events.push(self.event("response.output_item.added", place));
        if let Some(part) = open.part() {
            let fields = self.place(&open, json!({"content_index": 0, "part": part}));
            events.push(self.event("response.content_part.added", fields));
        }
        self.open = Some(open);
    }

    /// Where an item stands, with what else an event says of it.
    fn place(&self, open: &Open, more: Value) -> Value {
        let mut place = Map::from_iter([
            ("item_id".to_owned(), json!(open.id)),
            ("output_index".to_owned(), self.output.len().into()),
        ]);
        if let Value::Object(more) = more {
            place.extend(more);
        }
        place.into()
    }

    fn add(&mut self, kind: &str, text: String, events: &mut Vec<Value>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.text.push_str(&text);
        let more = match open.kind {
            Kind::Message => json!({"content_index": 0, "delta": text, "logprobs": []}),
            Kind::Reasoning => json!({"content_index": 0, "delta": text}),
            Kind::Call { .. } => json!({"delta": text}),
        };
        let fields = self.place(&open, more);
        events.push(self.event(kind, fields));
        self.open = Some(open);
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let text = &open.text;
        let (kind, more) = match &open.kind {
            Kind::Message => (
                "response.output_text.done",
                json!({"content_index": 0, "text": text, "logprobs": []}),
            ),
            Kind::Reasoning => (
                "response.reasoning_text.done",
                json!({"content_index": 0, "text": text}),
            ),
            Kind::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"name": name, "arguments": text}),
            ),
        };
        let fields = self.place(&open, more);
        events.push(self.event(kind, fields));
        if let Some(part) = open.part() {
            let fields = self.place(&open, json!({"content_index": 0, "part": part}));
            events.push(self.event("response.content_part.done", fields));
        }
        let item = open.item(status, true);
        let place = json!({"output_index": self.output.len(), "item": item});
        self.output.push(item);
        events.push(self.event("response.output_item.done", place));
    }

    /// The last events, and the response.
    pub fn finish(&mut self, end: End, usage: Usage) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        if self.output.is_empty() && self.open.is_none() {
            // An answer of no tokens is a message too.
            self.open(Kind::Message, &mut events);
        }
        let status = match end {
            End::Completed => "completed",
            End::Incomplete => {
                let details = json!({"reason": "max_output_tokens"});
                self.head.insert("incomplete_details".to_owned(), details);
                "incomplete"
            }
        };
        self.close(status, &mut events);
        let usage = json!({
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        });
        let response = self.response(status, usage);
        let last = self.event(&format!("response.{status}"), json!({"response": response}));
        events.push(last);
        (events, response)
    }

    /// The last event of a response that failed.
    pub fn fail(&mut self, message: &str) -> Value {
        let error = json!({"code": "server_error", "message": message});
        self.head.insert("error".to_owned(), error);
        let response = self.response("failed", Value::Null);
        self.event("response.failed", json!({"response": response}))
    }
}

impl Open {
    /// The part of its content, where it has parts.
    fn part(&self) -> Option<Value> {
        let text = &self.text;
        match self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": text})),
            Kind::Message => Some(json!({
                "type": "output_text", "text": text, "annotations": [], "logprobs": [],
            })),
            Kind::Call { .. } => None,
        }
    }

    /// The item, with its content or still without.
    fn item(&self, status: &str, whole: bool) -> Value {
        let content: Vec<Value> = self.part().into_iter().filter(|_| whole).collect();
        match &self.kind {
            Kind::Reasoning => json!({
                "id": self.id, "type": "reasoning", "summary": [], "content": content,
                "status": status,
            }),
            Kind::Message => json!({
                "id": self.id, "type": "message", "status": status, "role": "assistant",
                "content": content,
            }),
            Kind::Call { call_id, name, .. } => json!({
                "id": self.id, "type": "function_call", "status": status, "call_id": call_id,
                "name": name, "arguments": self.text,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response's events without what differs from one to the next.
    fn names(events: &[Value]) -> Vec<&str> {
        events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect()
    }

    /// The order of events in OpenAI's own streams (its documentation's example of a function call, and
    /// of a text), with the text of thoughts as its events for open models have it.
    #[test]
    fn events_come_in_openais_order() {
        let mut writer = Writer::new("resp_1", 1, "m", Map::new());
        let mut events = writer.openings();
        events.extend(writer.push(vec![Delta::Reasoning("hm".into())]));
        events.extend(writer.push(vec![Delta::Content("a".into()), Delta::Content("b".into())]));
        events.extend(writer.push(vec![
            Delta::Call {
                index: 0,
                id: "call_1".into(),
                name: "f".into(),
            },
            Delta::Arguments {
                index: 0,
                text: "{}".into(),
            },
        ]));
        let (last, response) = writer.finish(End::Completed, Usage::default());
        events.extend(last);
        let expected = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(names(&events), expected);
        for (n, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], n);
        }
        let places: Vec<&Value> = events
            .iter()
            .filter_map(|it| it.get("output_index"))
            .collect();
        assert!(
            places.is_sorted_by_key(|place| place.as_u64()),
            "{places:?}"
        );
        let kinds: Vec<&Value> = response["output"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["type"])
            .collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"]);
        assert_eq!(response["output"][1]["content"][0]["text"], "ab");
        assert_eq!(response["output"][2]["arguments"], "{}");
    }

    #[test]
    fn what_is_cut_off_is_incomplete() {
        let mut writer = Writer::new("resp_1", 1, "m", Map::new());
        let (_, response) = writer.finish(End::Incomplete, Usage::default());
        assert_eq!(response["status"], "incomplete");
        assert_eq!(
            response["incomplete_details"]["reason"],
            "max_output_tokens"
        );
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(writer.fail("x")["response"]["error"]["message"], "x");
    }
}

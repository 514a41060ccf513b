//! The body of a request for a response, as the request of a chat.

use super::store::{Kept, Store};
use super::turns::{Item, Turn, messages};
use crate::api::error::ApiError;
use crate::api::fields::{Few, Given, TextOr};
use crate::api::grammar::{JsonSchema, ResponseFormat};
use crate::api::schema::Completion;
use crate::api::tools::MOST_TOOLS;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The most items of an input.
const MOST_ITEMS: usize = 4096;
/// The most entries of `include`.
const MOST_INCLUDED: usize = 32;

/// A field that is neither here nor in `harmless` is refused by name.
#[derive(Debug, Deserialize)]
pub struct ResponseRequest {
    pub model: Option<String>,
    pub input: Option<TextOr<Item, MOST_ITEMS>>,
    pub instructions: Option<String>,
    pub previous_response_id: Option<String>,
    pub store: Option<bool>,
    pub stream: Option<bool>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub max_output_tokens: Option<usize>,
    pub tools: Option<Few<Box<RawValue>, MOST_TOOLS>>,
    pub tool_choice: Option<Value>,
    pub parallel_tool_calls: Option<bool>,
    pub text: Option<TextIn>,
    pub reasoning: Option<ReasoningIn>,
    pub truncation: Option<String>,
    pub include: Option<Few<String, MOST_INCLUDED>>,
    pub top_logprobs: Option<usize>,
    pub background: Option<bool>,
    pub metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub prompt: Given,
    #[serde(default)]
    pub conversation: Given,
    #[serde(default)]
    pub context_management: Given,
    /// How streams are padded.
    #[serde(default, rename = "stream_options")]
    _stream_options: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextIn {
    format: Option<FormatIn>,
    verbosity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatIn {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    schema: Option<Box<RawValue>>,
    description: Option<String>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasoningIn {
    effort: Option<String>,
    summary: Option<String>,
    generate_summary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolIn {
    #[serde(rename = "type")]
    _kind: String,
    name: String,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
}

/// A request that was translated.
pub struct Translated {
    pub completion: Completion,
    /// What the response says of its request.
    pub said: Map<String, Value>,
    /// The conversation before this request's turns, and those.
    pub previous: Option<Arc<Kept>>,
    pub turns: Vec<Turn>,
    pub store: bool,
    pub stream: bool,
}

impl ResponseRequest {
    /// The request of a chat.
    ///
    /// # Errors
    /// What is wrong or not supported, by name.
    pub fn translate(mut self, kept: &Store) -> Result<Translated, ApiError> {
        self.refuse_unsupported()?;
        let turns = match self.input.take() {
            None => Vec::new(),
            Some(TextOr::Text(text)) => vec![Turn::Message {
                role: "user".to_owned(),
                text,
            }],
            Some(TextOr::List(items)) => {
                let items = items.into_iter().enumerate();
                items
                    .map(|(n, item)| item.read(n))
                    .collect::<Result<_, _>>()?
            }
        };
        let previous = match &self.previous_response_id {
            None => None,
            Some(id) => Some(kept.get(id).ok_or_else(|| {
                ApiError::not_kept(
                    "previous_response_id",
                    format!(
                        "the response {id:?} is not kept here; send the whole conversation as input"
                    ),
                )
            })?),
        };
        let mut all = previous.as_ref().map_or(Vec::new(), |kept| kept.turns());
        all.extend(turns.iter().cloned());
        if all.is_empty() {
            return Err(ApiError::parameter(
                "input",
                "input must hold at least one item",
            ));
        }
        let said = self.said();
        let tools = self.tools.take().map_or(Vec::new(), |tools| tools.0);
        let tools = tools.iter().enumerate().map(|(n, tool)| read_tool(n, tool));
        let tools: Vec<Box<RawValue>> = tools.collect::<Result<_, _>>()?;
        let effort = self.reasoning.take().and_then(|reasoning| reasoning.effort);
        let messages = messages(self.instructions.as_deref(), all);
        let mut completion = Completion::of_chat(messages, tools);
        completion.model = self.model.take();
        completion.stream = self.stream;
        completion.temperature = self.temperature;
        completion.top_p = self.top_p;
        completion.max_completion_tokens = self.max_output_tokens;
        completion.tool_choice = self.choice()?;
        completion.parallel_tool_calls = self.parallel_tool_calls;
        completion.reasoning_effort = effort;
        completion.response_format = self.text.take().and_then(format);
        Ok(Translated {
            completion,
            said,
            previous,
            turns,
            store: self.store.unwrap_or(true),
            stream: self.stream.unwrap_or(false),
        })
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let text = self
            .text
            .as_ref()
            .and_then(|text| text.verbosity.as_deref());
        let reasoning = self.reasoning.as_ref();
        let summary =
            reasoning.is_some_and(|it| it.summary.is_some() || it.generate_summary.is_some());
        let included = self.include.iter().flat_map(|include| &include.0);
        // Thoughts are told as they are, so there are none to encrypt.
        let unknown = included
            .into_iter()
            .find(|it| *it != "reasoning.encrypted_content");
        let refused = [
            (
                "background",
                self.background == Some(true),
                "responses are not made in the background",
            ),
            ("prompt", self.prompt.0, "there are no stored prompts"),
            (
                "conversation",
                self.conversation.0,
                "use previous_response_id",
            ),
            (
                "context_management",
                self.context_management.0,
                "contexts are extended, not compacted",
            ),
            (
                "text.verbosity",
                text.is_some_and(|it| it != "medium"),
                "say it in the instructions",
            ),
            (
                "reasoning.summary",
                summary,
                "thoughts are told as they are, where the model has some",
            ),
            (
                "include",
                unknown.is_some(),
                "only reasoning.encrypted_content is taken",
            ),
            (
                "top_logprobs",
                self.top_logprobs.is_some_and(|top| top > 0),
                "use /v1/chat/completions",
            ),
            (
                "truncation",
                self.truncation.as_ref().is_some_and(|it| it != "disabled"),
                "nothing is left out of a conversation here",
            ),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            Some((name, _, why)) => {
                let message = format!("{name} is not supported with this value: {why}");
                Err(ApiError::unsupported(name, message))
            }
            None => Ok(()),
        }
    }

    /// The choice of tools in the shape of chat completions.
    fn choice(&mut self) -> Result<Option<Box<RawValue>>, ApiError> {
        let choice = match self.tool_choice.take() {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(named)) if named.get("type").is_some_and(|it| it == "function") => {
                let keys: Vec<&str> = named.keys().map(String::as_str).collect();
                if let Some(key) = keys.iter().find(|key| !["type", "name"].contains(key)) {
                    let name = format!("tool_choice.{key}");
                    return Err(ApiError::unsupported(
                        &*name,
                        format!("{name} is not known"),
                    ));
                }
                json!({"type": "function", "function": {"name": named.get("name")}})
            }
            Some(other) => other,
        };
        to_raw_value(&choice)
            .map(Some)
            .map_err(|error| ApiError::parameter("tool_choice", error.to_string()))
    }

    /// What a response repeats of its request.
    fn said(&self) -> Map<String, Value> {
        let format = self.text.as_ref().and_then(|text| text.format.as_ref());
        let format = format.map_or(json!({"type": "text"}), FormatIn::json);
        let reasoning = self.reasoning.as_ref();
        let effort = reasoning.and_then(|reasoning| reasoning.effort.as_deref());
        let tools = self.tools.iter().flat_map(|tools| &tools.0);
        let said = json!({
            "background": false,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata.clone().unwrap_or_default(),
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": effort, "summary": null},
            "store": self.store.unwrap_or(true),
            "temperature": self.temperature,
            "text": {"format": format, "verbosity": "medium"},
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| "auto".into()),
            "tools": tools.map(|tool| json!(tool)).collect::<Vec<_>>(),
            "top_p": self.top_p,
            "truncation": "disabled",
        });
        match said {
            Value::Object(said) => said,
            _ => Map::new(),
        }
    }
}

impl FormatIn {
    fn json(&self) -> Value {
        let mut format = Map::from_iter([("type".to_owned(), json!(self.kind))]);
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                format.insert(name.to_owned(), value);
            }
        };
        put("name", json!(self.name));
        put("description", json!(self.description));
        put("schema", json!(self.schema));
        put("strict", json!(self.strict));
        format.into()
    }
}

fn format(text: TextIn) -> Option<ResponseFormat> {
    let format = text.format?;
    Some(ResponseFormat {
        json_schema: format.schema.map(JsonSchema::new),
        kind: format.kind,
        schema: None,
    })
}

/// A function in the shape of chat completions.
fn read_tool(n: usize, tool: &RawValue) -> Result<Box<RawValue>, ApiError> {
    let place = format!("tools[{n}]");
    let wrong =
        |error: serde_json::Error| ApiError::parameter(&*place, format!("{place}: {error}"));
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    let Kind { kind } = serde_json::from_str(tool.get()).map_err(wrong)?;
    if kind != "function" {
        let message = format!(
            "{place}.type: {kind:?} is not supported; this server calls no tools of its own, only the type \"function\""
        );
        return Err(ApiError::unsupported(format!("{place}.type"), message));
    }
    let tool: ToolIn = serde_json::from_str(tool.get()).map_err(wrong)?;
    let mut function = Map::from_iter([("name".to_owned(), json!(tool.name))]);
    if let Some(description) = tool.description {
        function.insert("description".to_owned(), description.into());
    }
    if let Some(parameters) = tool.parameters {
        function.insert("parameters".to_owned(), json!(parameters));
    }
    if let Some(strict) = tool.strict {
        function.insert("strict".to_owned(), strict.into());
    }
    to_raw_value(&json!({"type": "function", "function": function})).map_err(wrong)
}

//! The items of a response's input, and the messages that they are in a chat.

use crate::api::error::ApiError;
use crate::api::fields::{Few, TextOr};
use crate::api::schema::{ChatMessage, FunctionCallIn, ToolCallIn};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The most parts of an item.
const MOST_PARTS: usize = 1024;

/// An item of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<TextOr<Part, MOST_PARTS>>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<TextOr<Part, MOST_PARTS>>,
    // What an item of an earlier output has besides: names, states, and thoughts in other forms.
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
    #[serde(default, rename = "summary")]
    _summary: IgnoredAny,
    #[serde(default, rename = "encrypted_content")]
    _encrypted_content: IgnoredAny,
    #[serde(default, rename = "phase")]
    _phase: IgnoredAny,
}

/// A part of an item's content.
#[derive(Debug, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// What a conversation is made of.
#[derive(Debug, Clone)]
pub enum Turn {
    Message {
        role: String,
        text: String,
    },
    Reasoning(String),
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    Result {
        id: String,
        text: String,
    },
}

impl Turn {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message { role, text } => role.len() + text.len(),
            Self::Reasoning(text) => text.len(),
            Self::Result { id, text } => id.len() + text.len(),
            Self::Call {
                id,
                name,
                arguments,
            } => id.len() + name.len() + arguments.len(),
        }
    }
}

/// A field that an item of its type must have.
fn needed<T>(place: &str, field: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| {
        let name = format!("{place}.{field}");
        ApiError::parameter(&*name, format!("{name} is missing"))
    })
}

impl Item {
    /// The turn that the nth item is.
    ///
    /// # Errors
    /// An item that is not supported, or lacks something.
    pub fn read(self, n: usize) -> Result<Turn, ApiError> {
        let place = format!("input[{n}]");
        let kind = self.kind.as_deref().unwrap_or("message");
        match kind {
            "message" => {
                let role = needed(&place, "role", self.role)?;
                if !["system", "developer", "user", "assistant"].contains(&role.as_str()) {
                    let name = format!("{place}.role");
                    let message =
                        format!("role {role:?} is none of system, developer, user, assistant");
                    return Err(ApiError::parameter(name, message));
                }
                let content = needed(&place, "content", self.content)?;
                let text = text_of(&format!("{place}.content"), content)?;
                Ok(Turn::Message { role, text })
            }
            "reasoning" => {
                let content = self.content.map_or(Ok(String::new()), |content| {
                    text_of(&format!("{place}.content"), content)
                });
                content.map(Turn::Reasoning)
            }
            "function_call" => Ok(Turn::Call {
                id: needed(&place, "call_id", self.call_id)?,
                name: needed(&place, "name", self.name)?,
                arguments: needed(&place, "arguments", self.arguments)?,
            }),
            "function_call_output" => {
                let output = needed(&place, "output", self.output)?;
                Ok(Turn::Result {
                    id: needed(&place, "call_id", self.call_id)?,
                    text: text_of(&format!("{place}.output"), output)?,
                })
            }
            "item_reference" => Err(ApiError::unsupported(
                format!("{place}.type"),
                "items are not referred to by their ids here; send the item, or previous_response_id",
            )),
            other => Err(ApiError::unsupported(
                format!("{place}.type"),
                format!("items of type {other:?} are not supported"),
            )),
        }
    }
}

fn text_of(place: &str, content: TextOr<Part, MOST_PARTS>) -> Result<String, ApiError> {
    let parts = match content {
        TextOr::Text(text) => return Ok(text),
        TextOr::List(parts) => parts,
    };
    let known = ["input_text", "output_text", "text", "reasoning_text"];
    let read = |part: Part| match part.text {
        Some(text) if known.contains(&part.kind.as_str()) => Ok(text),
        _ => Err(ApiError::unsupported(
            place,
            format!(
                "{place}: parts of type {:?} are not supported; this server reads text",
                part.kind
            ),
        )),
    };
    let texts: Result<Vec<String>, ApiError> = parts.into_iter().map(read).collect();
    Ok(texts?.join("\n"))
}

/// The messages of a chat: what an assistant thought, said and called in a row is one of them.
pub fn messages(instructions: Option<&str>, turns: Vec<Turn>) -> Vec<ChatMessage> {
    let mut messages = Vec::new();
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        messages.push(message("system", text.to_owned()));
    }
    // Whether the last message is an assistant's that can still grow.
    let mut open = false;
    for turn in turns {
        match turn {
            Turn::Message { role, text } if role == "assistant" => {
                let grows = open && !has_said(messages.last());
                let last = last_open(&mut messages, grows);
                last.content = Some(TextOr::Text(text));
                open = true;
            }
            Turn::Reasoning(text) => {
                let fresh = messages
                    .last()
                    .is_some_and(|it| it.reasoning_content.is_none());
                let grows = open && fresh && !has_said(messages.last());
                last_open(&mut messages, grows).reasoning_content = Some(text);
                open = true;
            }
            Turn::Call {
                id,
                name,
                arguments,
            } => {
                let last = last_open(&mut messages, open);
                let call = ToolCallIn::new(
                    id,
                    FunctionCallIn {
                        name,
                        arguments: Some(arguments.into()),
                    },
                );
                last.tool_calls.get_or_insert(Few(Vec::new())).0.push(call);
                open = true;
            }
            Turn::Message { role, text } => {
                messages.push(message(&role, text));
                open = false;
            }
            Turn::Result { id, text } => {
                messages.push(ChatMessage {
                    tool_call_id: Some(id),
                    ..message("tool", text)
                });
                open = false;
            }
        }
    }
    messages
}

fn message(role: &str, text: String) -> ChatMessage {
    ChatMessage {
        role: role.to_owned(),
        content: Some(TextOr::Text(text)),
        ..ChatMessage::default()
    }
}

fn has_said(message: Option<&ChatMessage>) -> bool {
    message.is_some_and(|it| it.content.is_some() || it.tool_calls.is_some())
}

fn last_open(messages: &mut Vec<ChatMessage>, open: bool) -> &mut ChatMessage {
    if !open || messages.is_empty() {
        messages.push(ChatMessage {
            role: "assistant".to_owned(),
            ..ChatMessage::default()
        });
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

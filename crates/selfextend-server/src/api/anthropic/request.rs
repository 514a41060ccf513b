//! From a body of Anthropic's to one of OpenAI's.

use crate::api::error::ApiError;
use crate::api::fields::{Few, Given, TextOr};
use crate::api::numbers::whole;
use crate::api::schema::parse;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

const MOST_MESSAGES: usize = 4096;
const MOST_BLOCKS: usize = 1024;
const MOST_TOOLS: usize = 1024;

#[derive(Debug, Deserialize)]
struct Messages {
    model: Option<String>,
    messages: Few<Message, MOST_MESSAGES>,
    #[serde(default, deserialize_with = "whole")]
    max_tokens: Option<usize>,
    system: Option<TextOr<Block, MOST_BLOCKS>>,
    stop_sequences: Option<Few<String, 16>>,
    stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    #[serde(default, deserialize_with = "whole")]
    top_k: Option<usize>,
    tools: Option<Few<Tool, MOST_TOOLS>>,
    tool_choice: Option<ToolChoice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    output_format: Option<Format>,
    #[serde(default)]
    mcp_servers: Given,
    #[serde(default)]
    context_management: Given,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: TextOr<Block, MOST_BLOCKS>,
}

/// A part of a message; which fields it has depends on its type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
    tool_use_id: Option<String>,
    content: Option<TextOr<Block, MOST_BLOCKS>>,
    thinking: Option<String>,
    source: Option<Source>,
    title: Option<String>,
    context: Option<String>,
    #[serde(default)]
    citations: Given,
    /// Every prompt is cached.
    #[serde(default, rename = "cache_control")]
    _cache_control: IgnoredAny,
    /// The text of an error says that it is one.
    #[serde(default, rename = "is_error")]
    _is_error: IgnoredAny,
    /// Proves to Anthropic's servers who wrote a thought.
    #[serde(default, rename = "signature")]
    _signature: IgnoredAny,
    /// Who called a tool, which a template has no place for.
    #[serde(default, rename = "caller")]
    _caller: IgnoredAny,
}

#[derive(Debug, Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
    data: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
    strict: Option<bool>,
    #[serde(default, rename = "cache_control")]
    _cache_control: IgnoredAny,
    /// Arguments are always streamed as they are written.
    #[serde(default, rename = "eager_input_streaming")]
    _eager_input_streaming: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    /// How long a model thinks is its own affair; `max_tokens` bounds it.
    #[serde(default, rename = "budget_tokens")]
    _budget_tokens: IgnoredAny,
    /// Thoughts are returned as they are, or refused.
    display: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Value>,
}

/// The body of a chat that means the same.
///
/// # Errors
/// What is wrong with it, or has no counterpart.
pub fn translate(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let body: Messages = parse(body)?;
    if body.max_tokens.is_none() {
        return Err(ApiError::parameter("max_tokens", "max_tokens is missing"));
    }
    Ok(chat(body)?.to_string().into_bytes())
}

/// The same for a body whose tokens are only counted.
///
/// # Errors
/// As [`translate`].
pub fn translate_to_count(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    Ok(chat(parse(body)?)?.to_string().into_bytes())
}

fn chat(body: Messages) -> Result<Value, ApiError> {
    for (name, given) in [
        ("mcp_servers", body.mcp_servers),
        ("context_management", body.context_management),
    ] {
        if given.0 {
            let message = format!("`{name}` is not supported by this server; leave it out");
            return Err(ApiError::unsupported(name, message));
        }
    }
    let mut messages = Vec::new();
    if let Some(system) = body.system {
        messages.push(json!({"role": "system", "content": texts("system", system)?}));
    }
    let mut last_role = String::new();
    for (n, message) in body.messages.0.into_iter().enumerate() {
        last_role.clone_from(&message.role);
        add_message(&mut messages, n, message)?;
    }
    let mut chat = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            chat.insert(name.to_owned(), value);
        }
    };
    put("model", json!(body.model));
    put("messages", messages.into());
    put("max_tokens", json!(body.max_tokens));
    put("stop", json!(body.stop_sequences.map(|stops| stops.0)));
    put("stream", json!(body.stream));
    put(
        "stream_options",
        match body.stream {
            Some(true) => json!({"include_usage": true}),
            _ => Value::Null,
        },
    );
    put("temperature", json!(body.temperature));
    put("top_p", json!(body.top_p));
    put("top_k", json!(body.top_k));
    // A last message of the assistant's is the beginning of the answer.
    if last_role == "assistant" {
        put("continue_final_message", json!(true));
        put("add_generation_prompt", json!(false));
    }
    if let Some(tools) = body.tools {
        let tools = tools.0.into_iter().enumerate().map(|(n, it)| tool(n, it));
        put("tools", Value::Array(tools.collect::<Result<_, _>>()?));
    }
    if let Some(choice) = body.tool_choice {
        let parallel = choice.disable_parallel_tool_use.map(|disabled| !disabled);
        put("parallel_tool_calls", json!(parallel));
        put("tool_choice", tool_choice(choice)?);
    }
    if let Some(thinking) = body.thinking {
        if thinking
            .display
            .is_some_and(|display| display != "summarized")
        {
            let message =
                "thinking: thoughts cannot be hidden here and shown again later; leave display out";
            return Err(ApiError::unsupported("thinking.display", message));
        }
        let enabled = match thinking.kind.as_str() {
            "enabled" | "adaptive" => true,
            "disabled" => false,
            kind => {
                let message =
                    format!("thinking: type {kind:?} is none of enabled, adaptive, disabled");
                return Err(ApiError::parameter("thinking.type", message));
            }
        };
        put("chat_template_kwargs", json!({"enable_thinking": enabled}));
    }
    let (effort, format) = match body.output_config {
        Some(config) => (config.effort, config.format.or(body.output_format)),
        None => (None, body.output_format),
    };
    put("reasoning_effort", json!(effort));
    if let Some(format) = format {
        let schema = format.schema.filter(|_| format.kind == "json_schema");
        let schema = schema.ok_or_else(|| {
            let message = "an output format is a json_schema with its schema";
            ApiError::parameter("output_format", message)
        })?;
        let schema = json!({"name": "output", "schema": schema, "strict": true});
        put(
            "response_format",
            json!({"type": "json_schema", "json_schema": schema}),
        );
    }
    Ok(chat.into())
}

/// Adds what a message becomes: its tools' results come first, as messages of their own.
fn add_message(messages: &mut Vec<Value>, n: usize, message: Message) -> Result<(), ApiError> {
    let role = message.role.as_str();
    if role != "user" && role != "assistant" {
        let message =
            format!("role {role:?} is none of user, assistant; system is a field of its own");
        return Err(ApiError::parameter(format!("messages[{n}].role"), message));
    }
    let blocks = match message.content {
        TextOr::Text(text) => {
            messages.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        TextOr::List(blocks) => blocks,
    };
    let place = format!("messages[{n}].content");
    let (mut text, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        let missing = |field: &str| {
            let message = format!("{place}: a block of type {:?} has no {field}", block.kind);
            ApiError::parameter(&place, message)
        };
        match (block.kind.as_str(), role) {
            ("tool_use", "assistant") => {
                let id = block.id.as_ref().ok_or_else(|| missing("id"))?;
                let name = block.name.as_ref().ok_or_else(|| missing("name"))?;
                let input = block.input.as_ref().ok_or_else(|| missing("input"))?;
                calls.push(json!({
                    "id": id, "type": "function",
                    "function": {"name": name, "arguments": input.to_string()},
                }));
            }
            ("tool_result", "user") => {
                let id = block.tool_use_id.as_ref();
                let id = id.ok_or_else(|| missing("tool_use_id"))?.clone();
                let content = block
                    .content
                    .map_or(Ok(String::new()), |it| texts(&place, it))?;
                let result = json!({"role": "tool", "tool_call_id": id, "content": content});
                messages.push(result);
            }
            ("thinking", "assistant") => {
                let thought = block.thinking.as_ref();
                thoughts.push(thought.ok_or_else(|| missing("thinking"))?.clone());
            }
            _ => text.push(one_text(&place, block)?),
        }
    }
    if text.is_empty() && calls.is_empty() && thoughts.is_empty() {
        return Ok(());
    }
    let mut whole = json!({"role": role, "content": text.join("\n")});
    if !calls.is_empty() {
        whole["tool_calls"] = calls.into();
    }
    if !thoughts.is_empty() {
        whole["reasoning_content"] = thoughts.join("\n").into();
    }
    messages.push(whole);
    Ok(())
}

fn texts(place: &str, content: TextOr<Block, MOST_BLOCKS>) -> Result<String, ApiError> {
    match content {
        TextOr::Text(text) => Ok(text),
        TextOr::List(blocks) => {
            let texts = blocks.into_iter().map(|block| one_text(place, block));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
    }
}

fn one_text(place: &str, block: Block) -> Result<String, ApiError> {
    let refused = |what: &str| {
        let message = format!("{place}: {what} are not read here; this server reads text");
        Err(ApiError::unsupported(place, message))
    };
    if block.citations.0 {
        return refused("citations");
    }
    match (block.kind.as_str(), block.text, block.source) {
        ("text", Some(text), _) => Ok(text),
        (
            "document",
            _,
            Some(Source {
                kind,
                data: Some(data),
            }),
        ) if kind == "text" => {
            let parts = [block.title, block.context, Some(data)];
            Ok(parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n"))
        }
        (kind, ..) => {
            let kind: String = kind.chars().take(100).collect();
            refused(&format!("blocks of type {kind:?} in this place"))
        }
    }
}

fn tool(n: usize, tool: Tool) -> Result<Value, ApiError> {
    if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
        let message =
            format!("tools[{n}]: tools of type {kind:?} run on Anthropic's servers, not here");
        return Err(ApiError::unsupported(format!("tools[{n}].type"), message));
    }
    let mut function = json!({"name": tool.name});
    if let Some(description) = tool.description {
        function["description"] = description.into();
    }
    if let Some(schema) = tool.input_schema {
        function["parameters"] = schema;
    }
    if let Some(strict) = tool.strict {
        function["strict"] = strict.into();
    }
    Ok(json!({"type": "function", "function": function}))
}

fn tool_choice(choice: ToolChoice) -> Result<Value, ApiError> {
    match (choice.kind.as_str(), choice.name) {
        ("auto", _) => Ok(json!("auto")),
        ("any", _) => Ok(json!("required")),
        ("none", _) => Ok(json!("none")),
        ("tool", Some(name)) => Ok(json!({"type": "function", "function": {"name": name}})),
        (kind, _) => {
            let message = format!(
                "tool_choice: type {kind:?} is none of auto, any, none, or tool with a name"
            );
            Err(ApiError::parameter("tool_choice", message))
        }
    }
}

//! From a body of Ollama's to one of OpenAI's.

use crate::api::error::ApiError;
use crate::api::fields::{Few, Given, TextOr};
use crate::api::numbers::{count_or_all, whole};
use crate::api::schema::parse;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

const MOST_MESSAGES: usize = 4096;
const MOST_CALLS: usize = 256;

/// A body of `/api/chat` or `/api/generate`; each refuses what belongs to the other.
#[derive(Debug, Deserialize)]
struct Asked {
    model: Option<String>,
    messages: Option<Few<Message, MOST_MESSAGES>>,
    #[serde(default)]
    tools: Option<Value>,
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Value>,
    logprobs: Option<bool>,
    #[serde(default)]
    template: Given,
    #[serde(default)]
    context: Given,
    #[serde(default)]
    images: Given,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Few<Call, MOST_CALLS>>,
    tool_name: Option<String>,
    name: Option<String>,
    tool_call_id: Option<String>,
    #[serde(default)]
    images: Given,
}

#[derive(Debug, Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    arguments: Option<Value>,
}

/// How an answer is generated.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    temperature: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    #[serde(default, deserialize_with = "count_or_all")]
    top_k: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    seed: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    num_predict: Option<i64>,
    /// The server's context grows with the request, up to its own limit.
    #[serde(default, deserialize_with = "whole")]
    num_ctx: Option<usize>,
    stop: Option<TextOr<String, 16>>,
    repeat_penalty: Option<f32>,
    /// All tokens are penalised, as with -1.
    #[serde(default, deserialize_with = "whole")]
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    // How a model is loaded is said when the server is started.
    #[serde(default, rename = "num_keep")]
    _num_keep: IgnoredAny,
    #[serde(default, rename = "num_batch")]
    _num_batch: IgnoredAny,
    #[serde(default, rename = "num_gpu")]
    _num_gpu: IgnoredAny,
    #[serde(default, rename = "main_gpu")]
    _main_gpu: IgnoredAny,
    #[serde(default, rename = "num_thread")]
    _num_thread: IgnoredAny,
    #[serde(default, rename = "use_mmap")]
    _use_mmap: IgnoredAny,
    #[serde(default, rename = "use_mlock")]
    _use_mlock: IgnoredAny,
    #[serde(default, rename = "low_vram")]
    _low_vram: IgnoredAny,
    #[serde(default, rename = "numa")]
    _numa: IgnoredAny,
}

/// What a body of `/api/generate` asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// That the model be loaded.
    Nothing {
        /// Its name.
        model: String,
    },
    /// An answer to a message.
    Message,
    /// What follows a text, or fills a gap.
    Raw,
}

/// The body of a chat that means the same as one of `/api/chat`.
///
/// # Errors
/// What is wrong with it, or has no counterpart.
pub fn chat(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut asked: Asked = parse(body)?;
    refuse(
        "messages",
        &[
            ("prompt", asked.prompt.is_some()),
            ("suffix", asked.suffix.is_some()),
            ("system", asked.system.is_some()),
            ("raw", asked.raw.is_some()),
            ("template", asked.template.0),
            ("context", asked.context.0),
            ("images", asked.images.0),
        ],
    )?;
    let messages = asked
        .messages
        .take()
        .map_or(Vec::new(), |messages| messages.0);
    let mut known: Vec<(String, String)> = Vec::new();
    let messages = messages.into_iter().enumerate();
    let messages = messages.map(|(n, message)| read_message(n, message, &mut known));
    let messages: Vec<Value> = messages.collect::<Result<_, _>>()?;
    finish(asked, Some(("messages", messages.into())))
}

/// What a body of `/api/generate` asks for, and the body again.
///
/// # Errors
/// As [`chat`].
pub fn kind(body: &[u8]) -> Result<(Vec<u8>, Kind), ApiError> {
    let asked: Asked = parse(body)?;
    let kind = match asked.prompt {
        None => Kind::Nothing {
            model: asked.model.unwrap_or_default(),
        },
        Some(prompt) if prompt.is_empty() => Kind::Nothing {
            model: asked.model.unwrap_or_default(),
        },
        Some(_) if asked.raw == Some(true) || asked.suffix.is_some() => Kind::Raw,
        Some(_) => Kind::Message,
    };
    Ok((body.to_vec(), kind))
}

/// The body of a chat that means the same as one of `/api/generate` with a template.
///
/// # Errors
/// As [`chat`].
pub fn message(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut asked = read_prompt(body)?;
    let message =
        |role: &str, text: Option<String>| text.map(|text| json!({"role": role, "content": text}));
    let messages = [
        message(
            "system",
            asked.system.take().filter(|text| !text.is_empty()),
        ),
        message("user", asked.prompt.take()),
    ];
    let messages: Value = messages.into_iter().flatten().collect();
    finish(asked, Some(("messages", messages)))
}

/// The body of a completion that means the same as one of `/api/generate` with a raw prompt.
///
/// # Errors
/// As [`chat`].
pub fn raw(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut asked = read_prompt(body)?;
    refuse(
        "a raw prompt",
        &[(
            "system",
            asked.system.as_ref().is_some_and(|text| !text.is_empty()),
        )],
    )?;
    let prompt = json!(asked.prompt.take());
    finish(asked, Some(("prompt", prompt)))
}

fn read_prompt(body: &[u8]) -> Result<Asked, ApiError> {
    let asked: Asked = parse(body)?;
    refuse(
        "prompt",
        &[
            ("messages", asked.messages.is_some()),
            (
                "tools",
                asked
                    .tools
                    .as_ref()
                    .is_some_and(|tools| *tools != json!([])),
            ),
            ("template", asked.template.0),
            ("context", asked.context.0),
            ("images", asked.images.0),
        ],
    )?;
    Ok(asked)
}

fn refuse(beside: &str, fields: &[(&str, bool)]) -> Result<(), ApiError> {
    match fields.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            let message = format!("`{name}` is not supported here beside {beside}; leave it out");
            Err(ApiError::unsupported(*name, message))
        }
        None => Ok(()),
    }
}

/// A message; `known` has the names and ids of tools that were called before it.
fn read_message(
    n: usize,
    message: Message,
    known: &mut Vec<(String, String)>,
) -> Result<Value, ApiError> {
    if message.images.0 {
        let name = format!("messages[{n}].images");
        let text = format!("{name}: images are not read here; this server reads text");
        return Err(ApiError::unsupported(name, text));
    }
    let mut read = json!({"role": message.role, "content": message.content.unwrap_or_default()});
    if let Some(thinking) = message.thinking.filter(|text| !text.is_empty()) {
        read["reasoning_content"] = thinking.into();
    }
    if let Some(Few(calls)) = message.tool_calls.filter(|calls| !calls.0.is_empty()) {
        let calls = calls.into_iter().map(|call| {
            // Ollama's calls may have no ids.
            let id = call.id.unwrap_or_else(|| format!("call_{}", known.len()));
            let Function { name, arguments } = call.function;
            known.push((name.clone(), id.clone()));
            let arguments = match arguments {
                Some(Value::String(text)) => text,
                Some(value) => value.to_string(),
                None => "{}".to_owned(),
            };
            json!({
                "id": id, "type": "function", "function": {"name": name, "arguments": arguments},
            })
        });
        read["tool_calls"] = calls.collect();
    }
    if message.role == "tool" {
        let name = message.tool_name.or(message.name);
        let called = |(known, _): &&(String, String)| name.as_ref().is_none_or(|it| it == known);
        let found = known.iter().rev().find(called).map(|(_, id)| id.clone());
        let id = message
            .tool_call_id
            .or(found)
            .unwrap_or_else(|| "call_0".to_owned());
        read["tool_call_id"] = id.into();
    }
    Ok(read)
}

/// The body with what both have in common.
fn finish(asked: Asked, more: Option<(&str, Value)>) -> Result<Vec<u8>, ApiError> {
    let options = asked.options.unwrap_or_default();
    if options.repeat_last_n.is_some_and(|last| last != -1) {
        let message =
            "options.repeat_last_n: penalties count all tokens here, as with -1; leave it out";
        return Err(ApiError::unsupported("options.repeat_last_n", message));
    }
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    if let Some((name, value)) = more {
        put(name, value);
    }
    put("model", json!(asked.model));
    put("tools", json!(asked.tools));
    put("suffix", json!(asked.suffix));
    // Ollama's streams are the default.
    let stream = asked.stream.unwrap_or(true);
    put("stream", json!(stream));
    if stream {
        put("stream_options", json!({"include_usage": true}));
    }
    put("temperature", json!(options.temperature));
    put("top_p", json!(options.top_p));
    put("min_p", json!(options.min_p));
    put("top_k", json!(options.top_k));
    put("seed", json!(options.seed));
    put("repetition_penalty", json!(options.repeat_penalty));
    put("presence_penalty", json!(options.presence_penalty));
    put("frequency_penalty", json!(options.frequency_penalty));
    // -2 fills the context, and so does -1.
    put(
        "max_tokens",
        json!(options.num_predict.map(|most| most.max(-1))),
    );
    put(
        "stop",
        match options.stop {
            Some(TextOr::Text(text)) => json!(text),
            Some(TextOr::List(texts)) => json!(texts),
            None => Value::Null,
        },
    );
    put(
        "response_format",
        match asked.format {
            None => Value::Null,
            Some(Value::String(text)) if text.is_empty() => Value::Null,
            Some(Value::String(text)) if text == "json" => json!({"type": "json_object"}),
            Some(schema @ Value::Object(_)) => json!({
                "type": "json_schema", "json_schema": {"name": "format", "schema": schema},
            }),
            Some(_) => {
                let message = "format is \"json\" or a JSON schema";
                return Err(ApiError::parameter("format", message));
            }
        },
    );
    match asked.think {
        None => {}
        Some(Value::Bool(think)) => put("chat_template_kwargs", json!({"enable_thinking": think})),
        Some(Value::String(effort)) => put("reasoning_effort", effort.into()),
        Some(_) => {
            let message = "think is true, false, or how much: low, medium, high";
            return Err(ApiError::parameter("think", message));
        }
    }
    if asked.logprobs == Some(true) {
        let message = "logprobs are not reported in Ollama's shape; use /v1/chat/completions";
        return Err(ApiError::unsupported("logprobs", message));
    }
    // What the context cannot hold is refused with the prompt; a smaller one than the server's is no
    // limit of ours.
    let _ = options.num_ctx;
    Ok(Value::Object(body).to_string().into_bytes())
}

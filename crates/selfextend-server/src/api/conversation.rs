//! From the messages of a chat to what its template is given.

use super::error::ApiError;
use super::fields::TextOr;
use super::schema::{ChatMessage, Completion, ContentPart, ToolCallIn};
use super::style::ChatStyle;
use super::tools::{Call, ToolSet, write_calls};
use selfextend::chat_template::{ChatTemplate, Conversation, Ending, NotData, RESERVED};
use serde_json::{Map, Value, json};

/// A chat that was read.
pub struct Dialogue {
    pub conversation: Conversation,
    pub tools: ToolSet,
    /// Whether the model continues the last message.
    pub continues: bool,
    /// Bytes of its texts.
    pub bytes: usize,
}

/// Reads the messages, tools and settings of a chat for a template.
///
/// # Errors
/// The field that is wrong, or that the template makes nothing of.
pub fn read(
    body: &mut Completion,
    template: &ChatTemplate,
    style: &ChatStyle,
) -> Result<Dialogue, ApiError> {
    let tools = body.tools.take().map_or(Vec::new(), |tools| tools.0);
    let choice = body.tool_choice.take();
    let tools = ToolSet::read(&tools, choice.as_deref(), body.parallel_tool_calls)?;
    let messages = body.messages.take().map_or(Vec::new(), |all| all.0);
    if messages.is_empty() {
        return Err(ApiError::parameter(
            "messages",
            "messages must hold at least one message",
        ));
    }
    let ending = ending(body, &messages)?;
    let continues = ending == Ending::Inside;
    let mut read: Vec<Value> = Vec::with_capacity(messages.len());
    for (n, message) in messages.into_iter().enumerate() {
        let message = read_message(n, message, style)?;
        add(&mut read, message);
    }
    let mut shown = Vec::new();
    if tools.is_active() {
        shown.extend(tools.tools.iter().map(|tool| &tool.shown));
        if !style.abilities.tools {
            instruct(&mut read, &instructions(&shown, style), style);
            shown.clear();
        }
    }
    let bytes = read.iter().chain(shown.iter().copied()).map(length).sum();
    let mut conversation = Conversation::new(read)
        .and_then(|it| it.with_tools(shown))
        .map_err(not_data)?
        .with_ending(ending);
    for (name, value) in variables(body, template, style)? {
        conversation = conversation.with_variable(name, value).map_err(not_data)?;
    }
    Ok(Dialogue {
        conversation,
        tools,
        continues,
        bytes,
    })
}

fn not_data(error: NotData) -> ApiError {
    ApiError::bad_request(error.to_string())
}

/// Bytes of the texts of a value.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(pairs) => pairs.iter().map(|(key, it)| key.len() + length(it)).sum(),
        _ => 1,
    }
}

fn ending(body: &Completion, messages: &[ChatMessage]) -> Result<Ending, ApiError> {
    let (inside, answer) = (body.continue_final_message, body.add_generation_prompt);
    if !inside.unwrap_or(false) {
        return Ok(match answer.unwrap_or(true) {
            true => Ending::Answer,
            false => Ending::LastMessage,
        });
    }
    let wrong = |message| Err(ApiError::parameter("continue_final_message", message));
    if answer == Some(true) {
        return wrong(
            "continue_final_message and add_generation_prompt exclude each other: leave the second out",
        );
    }
    match messages.last() {
        Some(last) if last.role == "assistant" && last.tool_calls.is_none() => Ok(Ending::Inside),
        _ => wrong(
            "continue_final_message needs a last message of role assistant with content and no tool_calls",
        ),
    }
}

/// Variables of the template that the request sets.
fn variables(
    body: &mut Completion,
    template: &ChatTemplate,
    style: &ChatStyle,
) -> Result<Map<String, Value>, ApiError> {
    let mut variables = match body.chat_template_kwargs.take() {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => {
            let message = "chat_template_kwargs must be an object";
            return Err(ApiError::parameter("chat_template_kwargs", message));
        }
    };
    for name in variables.keys() {
        let path: String = format!("chat_template_kwargs.{name}")
            .chars()
            .take(100)
            .collect();
        if RESERVED.contains(&name.as_str()) {
            let message = format!("{path} is set by the request's own fields");
            return Err(ApiError::parameter(path, message));
        }
        if !template.reads(name) {
            let message =
                format!("{path}: the model's chat template has no such variable; leave it out");
            return Err(ApiError::unsupported(path, message));
        }
    }
    let Some(effort) = body.reasoning_effort.take() else {
        return Ok(variables);
    };
    let levels = ["none", "minimal", "low", "medium", "high", "xhigh"];
    if !levels.contains(&effort.as_str()) {
        let message = format!(
            "reasoning_effort {effort:?} is none of {}",
            levels.join(", ")
        );
        return Err(ApiError::parameter("reasoning_effort", message));
    }
    if template.reads("reasoning_effort") {
        variables.insert("reasoning_effort".to_owned(), effort.into());
    } else if template.reads("enable_thinking") && effort == "none" {
        let thinks = variables.entry("enable_thinking");
        thinks.or_insert(Value::Bool(false));
    } else if style.thinking.is_some() || effort != "none" {
        let message =
            "reasoning_effort: the model's chat template knows no such setting; leave it out";
        return Err(ApiError::unsupported("reasoning_effort", message));
    }
    Ok(variables)
}

/// Adds a message; results of calls that are told as a user's words are one message together.
fn add(messages: &mut Vec<Value>, message: Told) {
    let Told { value, is_result } = message;
    let last = messages.last_mut();
    if let Some(last) = last.filter(|last| is_result && last["role"] == "user") {
        let before = last["content"].as_str().unwrap_or_default();
        if before.ends_with(RESULT[1]) {
            let content = value["content"].as_str().unwrap_or_default();
            last["content"] = format!("{before}\n{content}").into();
            return;
        }
    }
    messages.push(value);
}

/// Around the result of a call, for templates without a role for it.
const RESULT: [&str; 2] = ["<tool_response>\n", "\n</tool_response>"];

/// A message as the template gets it.
struct Told {
    value: Value,
    /// Whether it is a call's result in a user's words.
    is_result: bool,
}

fn read_message(n: usize, message: ChatMessage, style: &ChatStyle) -> Result<Told, ApiError> {
    message.refuse_unread(n)?;
    let role = message.known_role(n)?;
    let calls = match message.tool_calls {
        Some(calls) if role == "assistant" => read_calls(n, calls.0)?,
        _ => Vec::new(),
    };
    let content = match message.content {
        Some(content) => Some(text_of(n, content)?),
        // Only an assistant may have said nothing.
        None if role == "assistant" => None,
        None => {
            let name = format!("messages[{n}].content");
            let message = format!("a message of role {role:?} has no content");
            return Err(ApiError::parameter(name, message));
        }
    };
    if role == "tool" && !style.abilities.tool_results {
        let content = content.unwrap_or_default();
        let content = [RESULT[0], &content, RESULT[1]].concat();
        return Ok(Told {
            value: json!({"role": "user", "content": content}),
            is_result: true,
        });
    }
    let mut value = Map::new();
    let mut put = |name: &str, it: Value| value.insert(name.to_owned(), it);
    put("role", role.into());
    let called = !calls.is_empty();
    put(
        "content",
        match content {
            Some(content) if called && !style.abilities.tool_calls => {
                written(&content, &calls, style).into()
            }
            None if called && !style.abilities.tool_calls => written("", &calls, style).into(),
            None if called && !style.abilities.text_content => Value::Null,
            content => content.unwrap_or_default().into(),
        },
    );
    if called && style.abilities.tool_calls {
        let calls = calls
            .iter()
            .map(|(id, call)| show_call(id.as_deref(), call, style));
        put("tool_calls", calls.collect());
    }
    // For templates that show what was thought; most leave it out of earlier answers.
    let reasoning = message.reasoning_content.or(message.reasoning);
    if let Some(reasoning) = reasoning.filter(|text| role == "assistant" && !text.is_empty()) {
        put("reasoning_content", reasoning.into());
    }
    if let Some(id) = message.tool_call_id.filter(|_| role == "tool") {
        put("tool_call_id", id.into());
    }
    if let Some(name) = message.name.filter(|_| role == "tool") {
        put("name", name.into());
    }
    Ok(Told {
        value: value.into(),
        is_result: false,
    })
}

fn text_of(n: usize, content: TextOr<ContentPart, 1024>) -> Result<String, ApiError> {
    let parts = match content {
        TextOr::Text(text) => return Ok(text),
        TextOr::List(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        match part.text.filter(|_| part.kind == "text") {
            Some(text) => texts.push(text),
            None => {
                return Err(ApiError::unsupported(
                    format!("messages[{n}].content"),
                    format!(
                        "content parts of type {:?} are not supported; this server reads text",
                        part.kind
                    ),
                ));
            }
        }
    }
    Ok(texts.join("\n"))
}

/// A call with its identifier.
type Identified = (Option<String>, Call);

fn read_calls(n: usize, calls: Vec<ToolCallIn>) -> Result<Vec<Identified>, ApiError> {
    let read = |(k, call): (usize, ToolCallIn)| {
        let place = format!("messages[{n}].tool_calls[{k}]");
        if call.kind.as_ref().is_some_and(|kind| kind != "function") {
            let message = format!("{place}.type: only calls of functions are supported");
            return Err(ApiError::unsupported(format!("{place}.type"), message));
        }
        let name = format!("{place}.function.arguments");
        let wrong = |what: &str| ApiError::parameter(&*name, format!("{name} {what}"));
        let arguments = match call.function.arguments {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
            Some(Value::String(text)) => serde_json::from_str(&text)
                .map_err(|error| wrong(&format!("are no JSON: {error}")))?,
            Some(value) => value,
        };
        if !arguments.is_object() {
            return Err(wrong("must be a JSON object"));
        }
        let call_read = Call {
            name: call.function.name,
            arguments: arguments.to_string(),
        };
        Ok((call.id, call_read))
    };
    calls.into_iter().enumerate().map(read).collect()
}

fn show_call(id: Option<&str>, call: &Call, style: &ChatStyle) -> Value {
    let arguments: Value = if style.abilities.text_arguments {
        call.arguments.clone().into()
    } else {
        serde_json::from_str(&call.arguments).unwrap_or_default()
    };
    let mut shown = json!({"type": "function",
        "function": {"name": call.name, "arguments": arguments}});
    if let Some(id) = id {
        shown["id"] = id.into();
    }
    shown
}

/// An answer with calls, for templates that show its content alone.
fn written(content: &str, calls: &[Identified], style: &ChatStyle) -> String {
    let calls: Vec<Call> = calls.iter().map(|(_, call)| call.clone()).collect();
    let calls = write_calls(style.format, &calls);
    match content {
        "" => calls,
        content => format!("{content}\n{calls}"),
    }
}

/// What a model is told of functions where its template does not: in the words of Hermes and Qwen.
fn instructions(shown: &[&Value], style: &ChatStyle) -> String {
    let tools: Vec<String> = shown.iter().map(|tool| tool.to_string()).collect();
    let example = Call {
        name: "NAME".to_owned(),
        arguments: "{\"PARAMETER\": \"VALUE\"}".to_owned(),
    };
    let how = match style.format {
        crate::tool_format::ToolFormat::Hermes => "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>".to_owned(),
        format => format!("To call a function, answer in this form:\n{}", write_calls(format, &[example])),
    };
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\n{how}",
        tools.join("\n")
    )
}

/// Tells it in the system message, or in the first message where there can be none.
fn instruct(messages: &mut Vec<Value>, text: &str, style: &ChatStyle) {
    let first = messages.first_mut();
    let joined = |first: &Value| {
        let content = first["content"].as_str().unwrap_or_default();
        match first["role"] == "system" {
            true => format!("{content}\n\n{text}"),
            false => format!("{text}\n\n{content}"),
        }
    };
    match first {
        Some(first) if first["role"] == "system" || !style.abilities.system => {
            first["content"] = joined(first).into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": text})),
    }
}

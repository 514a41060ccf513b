//! Replies in Anthropic's shapes.

use crate::api::completions::Started;
use crate::api::error::ApiError;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// What is known of a reply before anything is generated.
#[derive(Debug, Clone)]
pub struct Read {
    pub id: String,
    pub model: String,
    prompt: usize,
    cached: usize,
}

impl Read {
    pub fn new(started: &Started) -> Self {
        let info = &started.submission.info;
        Self {
            id: info.id.replace("chatcmpl-", "msg_"),
            model: info.model.clone(),
            prompt: info.prompt_tokens,
            cached: started.admitted.cached_tokens,
        }
    }

    #[cfg(test)]
    pub fn for_test(prompt: usize, cached: usize) -> Self {
        Self {
            id: "msg_1".into(),
            model: "m".into(),
            prompt,
            cached,
        }
    }

    /// The usage with so many tokens of answer. What was in the cache is not counted as input.
    pub fn usage(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.prompt - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": output,
        })
    }

    /// A message with some content.
    pub fn message(&self, content: Vec<Value>, output: u64) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": self.usage(output),
        })
    }
}

/// The whole message, from a whole chat completion.
pub fn message(whole: &Value, read: &Read) -> Value {
    let choice = &whole["choices"][0];
    let said = &choice["message"];
    let mut content = Vec::new();
    let text = |name: &str| said[name].as_str().filter(|text| !text.is_empty());
    if let Some(thinking) = text("reasoning_content") {
        content.push(json!({"type": "thinking", "thinking": thinking, "signature": ""}));
    }
    if let Some(text) = text("content") {
        content.push(json!({"type": "text", "text": text}));
    }
    for call in said["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().unwrap_or("{}");
        let input = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
        content.push(json!({
            "type": "tool_use", "id": call["id"], "name": function["name"], "input": input,
        }));
    }
    let output = whole["usage"]["completion_tokens"].as_u64().unwrap_or(0);
    let mut message = read.message(content, output);
    let (reason, sequence) = stop_reason(choice);
    message["stop_reason"] = reason;
    message["stop_sequence"] = sequence;
    message
}

/// Why a choice ended, and the text that ended it.
pub fn stop_reason(choice: &Value) -> (Value, Value) {
    let sequence = &choice["stop_reason"];
    let reason = match choice["finish_reason"].as_str() {
        Some("length") => "max_tokens",
        Some("tool_calls") => "tool_use",
        _ if sequence.is_string() => "stop_sequence",
        _ => "end_turn",
    };
    (json!(reason), sequence.clone())
}

/// An error.
pub fn error(error: &ApiError) -> Value {
    let kind = match error.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message()}})
}

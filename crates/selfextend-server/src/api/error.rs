//! Errors as HTTP responses, in the shape that OpenAI's clients expect.

use crate::scheduler::Failure;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::time::Duration;

/// A response that says what was wrong.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A parameter has a value that cannot be used.
    pub fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = Some(param.into());
        Self {
            param,
            code: Some("invalid_value"),
            ..Self::bad_request(message)
        }
    }

    /// A parameter that this server does not support.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::parameter(param, message)
        }
    }

    /// More tokens than the largest context.
    pub fn context_length(context: usize, prompt: usize, answer: usize) -> Self {
        let total = prompt.saturating_add(answer);
        let message = format!(
            "This model's maximum context length is {context} tokens. However, you requested {total} tokens ({prompt} in the prompt, {answer} in the completion). Please reduce the length of either one."
        );
        Self {
            code: Some("context_length_exceeded"),
            ..Self::parameter("messages", message)
        }
    }

    /// A key is missing or wrong.
    pub fn unauthorized() -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "invalid_request_error",
                "Incorrect API key provided: send one of the server's keys as `Authorization: Bearer KEY` or `x-api-key: KEY`",
            )
        }
    }

    /// The request names a host that is not this server.
    pub fn foreign_host(host: &str) -> Self {
        let message = format!(
            "requests for the host {host:?} are refused; use this server's address, or allow the host when the server is started"
        );
        Self {
            code: Some("host_not_allowed"),
            ..Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message)
        }
    }

    /// A web page of another origin asked.
    pub fn foreign_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            "requests from pages of other origins are refused, unless the origin is allowed when the server is started",
        )
    }

    /// Nothing is served under this name.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", what)
    }

    /// A response that is not kept.
    pub fn not_kept(param: &str, message: impl Into<String>) -> Self {
        Self {
            code: Some("previous_response_not_found"),
            param: Some(param.to_owned()),
            ..Self::not_found(message)
        }
    }

    /// A model that is not served here.
    pub fn no_such_model(model: &str, served: &str) -> Self {
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::not_found(format!(
                "The model `{model}` does not exist here; this server runs `{served}`"
            ))
        }
    }

    /// The path is served, but not for this method.
    pub fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            "this path is not served for that method",
        )
    }

    /// A body beyond the limit.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            format!("the request body is larger than {limit} bytes, the most this server takes"),
        )
    }

    /// A body that is compressed in a way that is not read.
    pub fn encoded(coding: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            format!(
                "the request body has Content-Encoding {coding:?}; send it as gzip or deflate, or uncompressed"
            ),
        )
    }

    /// A body that came too slowly.
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            "the request body did not arrive in time",
        )
    }

    /// The text is longer than any that fits the largest context.
    pub fn text_length(param: &str, context: usize, least: usize) -> Self {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, your text has at least {least} tokens. Please reduce its length."
        );
        Self {
            code: Some("context_length_exceeded"),
            ..Self::parameter(param, message)
        }
    }

    /// Too much is being received and parsed at this moment.
    pub fn busy() -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "the server is reading too many large requests; try again in 1 s",
            )
        }
    }

    /// The server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The same of a request that calls the field `from` by another name.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        if let Some(param) = &mut self.param
            && param.starts_with(from)
        {
            param.replace_range(..from.len(), to);
        }
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What was wrong, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error as JSON.
    pub fn json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::QueueFull { retry_after, .. } | Failure::NoMemory { retry_after, .. } => {
                Self {
                    code: Some("rate_limit_exceeded"),
                    retry_after: Some(retry_after),
                    ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                }
            }
            Failure::TooLarge { .. } => Self {
                code: Some("kv_memory_exceeded"),
                ..Self::bad_request(message)
            },
            Failure::Timeout(_) => Self {
                code: Some("timeout"),
                ..Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message)
            },
            Failure::ShuttingDown => Self {
                code: Some("shutting_down"),
                retry_after: Some(Duration::from_secs(5)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
            },
            Failure::Engine(_) | Failure::Panicked => Self::internal(message),
            Failure::Empty => Self::bad_request(message),
            Failure::SlowReader => Self {
                code: Some("slow_reader"),
                ..Self::bad_request(message)
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        response.extensions_mut().insert(self.clone());
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        let retry_after = Duration::from_secs(3);
        let busy = Failure::QueueFull {
            queued: 1,
            retry_after,
        };
        let full = Failure::NoMemory {
            reason: "none left".into(),
            retry_after,
        };
        for failure in [busy, full] {
            let response = ApiError::from(failure).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        }
    }
}

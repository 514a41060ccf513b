//! Errors in the shape of the dialect that their path belongs to.

use super::error::ApiError;
use super::{anthropic, ollama};
use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Rewrites an error's body where its path is not of OpenAI's API.
pub async fn shape_errors(request: Request, next: Next) -> Response {
    let shape: fn(&ApiError) -> Value = match request.uri().path() {
        path if path.starts_with("/v1/messages") => anthropic::error,
        path if path.starts_with("/api/") => ollama::error,
        _ => return next.run(request).await,
    };
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<ApiError>() else {
        return response;
    };
    let body = Json(shape(error)).into_response();
    let (mut parts, _) = response.into_parts();
    for (name, value) in body.headers() {
        parts.headers.insert(name, value.clone());
    }
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into_body())
}

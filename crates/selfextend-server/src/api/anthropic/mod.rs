//! Anthropic's Messages API: `/v1/messages` and `/v1/messages/count_tokens`. A request becomes one of
//! OpenAI's chats, and the reply is written in Anthropic's shape.

mod reply;
mod request;
mod stream;

pub use reply::error;

use super::app::SharedApp;
use super::completions::start;
use super::error::ApiError;
use super::submission::{Endpoint, count_tokens};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::time::Duration;

/// `/v1/messages`: the next message of a conversation.
pub async fn messages(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    let started = start(app, Endpoint::Chat, body, Some(request::translate)).await?;
    let headers = started.headers.clone();
    let read = reply::Read::new(&started);
    if !started.submission.info.stream {
        let whole = started.collect().await?;
        return Ok((headers, Json(reply::message(&whole, &read))).into_response());
    }
    let ping = Event::default().event("ping").data(r#"{"type": "ping"}"#);
    let keep_alive = KeepAlive::new()
        .interval(Duration::from_secs(15))
        .event(ping);
    let events = stream::events(started.chunks(), read);
    Ok((headers, Sse::new(events).keep_alive(keep_alive)).into_response())
}

/// `/v1/messages/count_tokens`: the tokens that a conversation would be read as.
pub async fn count(State(app): State<SharedApp>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = app.intake.receive(body).await?;
    let tokens = count_tokens(&app, body, request::translate_to_count).await?;
    Ok(Json(json!({"input_tokens": tokens})))
}

/// Reads a body as the route would.
#[cfg(any(test, feature = "unstable"))]
pub fn read(body: &[u8]) {
    let _ = request::translate(body);
    let _ = request::translate_to_count(body);
}

#[cfg(test)]
mod tests;

//! Ollama's API: `/api/chat`, `/api/generate`, `/api/tags`, `/api/show`, `/api/ps` and `/api/version`. A
//! request becomes one of OpenAI's, and the reply is written as Ollama's lines of JSON.

mod models;
mod reply;
mod request;

pub use models::{ps, show, tags, version};
pub use reply::error;

use super::app::SharedApp;
use super::completions::{Chunk, start};
use super::error::ApiError;
use super::submission::{Endpoint, Translate};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use reply::{Shape, Writer};
use std::convert::Infallible;
use std::time::Instant;

/// `/api/chat`: the next message of a conversation.
pub async fn chat(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    answer(app, Shape::Chat, Endpoint::Chat, body, request::chat).await
}

/// `/api/generate`: an answer to a prompt, or what follows a raw one.
pub async fn generate(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    // Whether a template is used is known when the body is read.
    let body = app.intake.receive(body).await?;
    let (body, kind) = app
        .intake
        .parse(body, |bytes, _| request::kind(bytes))
        .await?;
    let (endpoint, translate): (_, Translate) = match kind {
        request::Kind::Nothing { model } => {
            app.check_model(Some(&model))?;
            return Ok(Json(reply::loaded(&app.config.model)).into_response());
        }
        request::Kind::Message => (Endpoint::Chat, request::message),
        request::Kind::Raw => (Endpoint::Completions, request::raw),
    };
    answer(app, Shape::Generate, endpoint, Body::from(body), translate).await
}

async fn answer(
    app: SharedApp,
    shape: Shape,
    endpoint: Endpoint,
    body: Body,
    translate: Translate,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let started = start(app, endpoint, body, Some(translate)).await?;
    let headers = started.headers.clone();
    let info = &started.submission.info;
    let mut writer = Writer::new(shape, info.model.clone(), info.prompt_tokens, begun);
    if !info.stream {
        let whole = started.collect().await?;
        return Ok((headers, Json(writer.whole(&whole))).into_response());
    }
    let lines = started.chunks().flat_map(move |chunk| {
        let lines = match chunk {
            Chunk::Part(part) => writer.part(&part),
            Chunk::Failed(failure) => {
                writer.fail();
                vec![error(&failure)]
            }
            Chunk::End => writer.end(),
        };
        stream::iter(lines)
    });
    let lines = lines.map(|line| Ok::<_, Infallible>(format!("{line}\n")));
    let kind = HeaderValue::from_static("application/x-ndjson");
    let mut response = (headers, Body::from_stream(lines)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Reads a body as each of the routes would.
#[cfg(any(test, feature = "unstable"))]
pub fn read(body: &[u8]) {
    let _ = request::chat(body);
    let _ = request::kind(body);
    let _ = request::message(body);
    let _ = request::raw(body);
}

#[cfg(test)]
mod tests;

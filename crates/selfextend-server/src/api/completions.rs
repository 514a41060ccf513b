//! `/v1/chat/completions` and `/v1/completions`, whole or streamed.

use super::generation::{Generation, Kind, lost, start};
use super::reply::{Answer, Reply};
use super::{Shared, whole};
use crate::error::ApiError;
use crate::scheduler::Event;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// The next message of a conversation.
pub async fn chat(State(app): State<Shared>, body: Body) -> Result<Response, ApiError> {
    complete(app, Kind::Chat, body).await
}

/// What follows a text.
pub async fn plain(State(app): State<Shared>, body: Body) -> Result<Response, ApiError> {
    complete(app, Kind::Plain, body).await
}

async fn complete(app: Shared, kind: Kind, body: Body) -> Result<Response, ApiError> {
    let body = whole(&app, body).await?;
    let mut generation = start(&app, kind, body).await?;
    let admitted = generation.admitted().await?;
    let headers = generation.headers(admitted);
    let mut reply = Reply::new(generation.common.clone(), app.clone());
    reply.admitted(admitted);
    if generation.common.stream {
        let stream = Sse::new(events(generation, reply));
        let stream = stream.keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
        return Ok((headers, stream).into_response());
    }
    Ok((headers, Json(collect(generation, reply).await?)).into_response())
}

/// Waits for everything.
async fn collect(mut generation: Generation, mut reply: Reply) -> Result<Value, ApiError> {
    let common = &generation.common;
    let mut answers: Vec<Answer> = (0..common.prompts * common.n)
        .map(|n| Answer::new(common.echo.get(n / common.n).cloned().unwrap_or_default()))
        .collect();
    loop {
        match generation.events.recv().await.ok_or_else(lost)? {
            Event::Admitted(admitted) => reply.admitted(admitted),
            Event::Text(piece) => answers[piece.choice].push(piece),
            Event::Finished { choice, finish } => answers[choice].finish = Some(finish),
            Event::Done { completion_tokens } => {
                if reply.done(completion_tokens) {
                    return Ok(reply.whole(&answers));
                }
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
}

/// Where a stream is.
struct Streaming {
    generation: Generation,
    reply: Reply,
    ready: VecDeque<sse::Event>,
    ended: bool,
}

/// The answers as they come. An error after the first word is told in the stream, as its last.
fn events(
    generation: Generation,
    reply: Reply,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let ready = reply.openings().iter().map(event).collect();
    let state = Streaming {
        generation,
        reply,
        ready,
        ended: false,
    };
    stream::unfold(state, async |mut state| {
        while state.ready.is_empty() {
            if state.ended {
                return None;
            }
            let next = state.generation.events.recv().await;
            state.take(next.unwrap_or_else(|| Event::Failed(lost())));
        }
        state.ready.pop_front().map(|event| (Ok(event), state))
    })
}

impl Streaming {
    fn take(&mut self, next: Event) {
        let reply = &mut self.reply;
        match next {
            Event::Admitted(admitted) => reply.admitted(admitted),
            Event::Text(piece) => self.ready.push_back(event(&reply.piece(&piece))),
            Event::Finished { choice, finish } => {
                self.ready
                    .push_back(event(&reply.finished(choice, &finish)));
            }
            Event::Done { completion_tokens } => {
                if reply.done(completion_tokens) {
                    self.ready.extend(reply.closing().as_ref().map(event));
                    self.end();
                }
            }
            Event::Failed(failure) => {
                self.ready.push_back(event(&ApiError::from(failure).json()));
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.ready.push_back(sse::Event::default().data("[DONE]"));
        self.ended = true;
    }
}

fn event(value: &Value) -> sse::Event {
    sse::Event::default().data(value.to_string())
}

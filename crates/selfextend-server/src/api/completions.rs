//! `/v1/chat/completions` and `/v1/completions`, whole or streamed.

use super::app::SharedApp;
use super::error::ApiError;
use super::reply::{Answer, Reply};
use super::submission::{Endpoint, Submission, Translate, submit};
use crate::scheduler::{Admitted, Event, Failure};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// `/v1/chat/completions`: the next message of a conversation.
pub async fn chat(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    complete(app, Endpoint::Chat, body).await
}

/// `/v1/completions`: what follows a text.
pub async fn plain(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    complete(app, Endpoint::Completions, body).await
}

async fn complete(app: SharedApp, endpoint: Endpoint, body: Body) -> Result<Response, ApiError> {
    let started = start(app, endpoint, body, None).await?;
    let headers = started.headers.clone();
    if started.submission.info.stream {
        let stream = started
            .chunks()
            .map(|chunk| Ok::<_, Infallible>(event(chunk)));
        let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
        return Ok((headers, Sse::new(stream).keep_alive(keep_alive)).into_response());
    }
    Ok((headers, Json(started.collect().await?)).into_response())
}

/// A request that runs.
pub struct Started {
    pub submission: Submission,
    pub headers: HeaderMap,
    pub admitted: Admitted,
    reply: Reply,
}

/// Reads a request and waits until it runs. Its body may be another dialect's, with what translates it.
pub async fn start(
    app: SharedApp,
    endpoint: Endpoint,
    body: Body,
    translate: Option<Translate>,
) -> Result<Started, ApiError> {
    let body = app.intake.receive(body).await?;
    let mut submission = submit(&app, endpoint, body, translate).await?;
    let admitted = submission.admitted().await?;
    let mut reply = Reply::new(submission.info.clone(), app.clone());
    reply.admitted(admitted);
    Ok(Started {
        headers: submission.headers(admitted),
        submission,
        admitted,
        reply,
    })
}

impl Started {
    /// The whole reply.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn collect(self) -> Result<Value, ApiError> {
        collect(self.submission, self.reply).await
    }

    /// The reply in chunks.
    pub fn chunks(self) -> impl Stream<Item = Chunk> {
        chunks(self.submission, self.reply)
    }
}

/// A part of a stream.
pub enum Chunk {
    /// A part of the answers.
    Part(Value),
    /// They failed.
    Failed(ApiError),
    /// Nothing follows.
    End,
}

/// Waits until all answers are complete.
async fn collect(mut submission: Submission, mut reply: Reply) -> Result<Value, ApiError> {
    let info = &submission.info;
    let mut answers: Vec<Answer> = (0..info.prompts * info.n)
        .map(|n| reply.answer(n))
        .collect();
    loop {
        match submission.events.recv().await.ok_or_else(Failure::ended)? {
            Event::Admitted(admitted) => reply.admitted(admitted),
            Event::Prompt {
                first_choice,
                logprobs,
            } => {
                for answer in &mut answers[first_choice..][..reply.choices()] {
                    answer.echoed(&logprobs);
                }
            }
            Event::Text(piece) => answers[piece.choice].push(piece),
            Event::Finished { choice, finish } => answers[choice].end(finish),
            Event::Done { completion_tokens } => {
                if reply.done(completion_tokens) {
                    return Ok(reply.whole(&answers));
                }
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
}

/// The state of a stream.
struct Streaming {
    submission: Submission,
    reply: Reply,
    ready: VecDeque<Chunk>,
    ended: bool,
}

/// The answers as they come. An error after the start of the stream is its last part.
fn chunks(submission: Submission, reply: Reply) -> impl Stream<Item = Chunk> {
    let ready = reply.openings().into_iter().map(Chunk::Part).collect();
    let state = Streaming {
        submission,
        reply,
        ready,
        ended: false,
    };
    stream::unfold(state, async |mut state| {
        while state.ready.is_empty() {
            if state.ended {
                return None;
            }
            let next = state.submission.events.recv().await;
            state.take(next.unwrap_or_else(|| Event::Failed(Failure::ended())));
        }
        state.ready.pop_front().map(|chunk| (chunk, state))
    })
}

impl Streaming {
    fn take(&mut self, next: Event) {
        let reply = &mut self.reply;
        match next {
            Event::Admitted(admitted) => reply.admitted(admitted),
            Event::Prompt {
                first_choice,
                logprobs,
            } => {
                let chunks = reply.echoed(first_choice, &logprobs);
                self.ready.extend(chunks.into_iter().map(Chunk::Part));
            }
            Event::Text(piece) => {
                let chunks = reply.piece(&piece);
                self.ready.extend(chunks.into_iter().map(Chunk::Part));
            }
            Event::Finished { choice, finish } => {
                let chunks = reply.finished(choice, &finish);
                self.ready.extend(chunks.into_iter().map(Chunk::Part));
            }
            Event::Done { completion_tokens } => {
                if reply.done(completion_tokens) {
                    self.ready.extend(reply.closing().map(Chunk::Part));
                    self.end();
                }
            }
            Event::Failed(failure) => {
                self.ready.push_back(Chunk::Failed(failure.into()));
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.ready.push_back(Chunk::End);
        self.ended = true;
    }
}

fn event(chunk: Chunk) -> sse::Event {
    sse::Event::default().data(match chunk {
        Chunk::Part(value) => value.to_string(),
        Chunk::Failed(error) => error.json().to_string(),
        Chunk::End => "[DONE]".to_owned(),
    })
}

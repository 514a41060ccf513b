//! `/v1/chat/completions` and `/v1/completions`, whole or streamed.

use super::app::SharedApp;
use super::error::ApiError;
use super::output::Output;
use super::reply::{Answer, Reply};
use super::submission::{Endpoint, Submission, submit};
use crate::scheduler::{Event, Failure};
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

/// `/v1/chat/completions`: the next message of a conversation.
pub async fn chat(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    complete(app, Endpoint::Chat, body).await
}

/// `/v1/completions`: what follows a text.
pub async fn plain(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    complete(app, Endpoint::Completions, body).await
}

async fn complete(app: SharedApp, endpoint: Endpoint, body: Body) -> Result<Response, ApiError> {
    let body = app.intake.receive(body).await?;
    let mut submission = submit(&app, endpoint, body).await?;
    let admitted = submission.admitted().await?;
    let headers = submission.headers(admitted);
    let mut reply = Reply::new(submission.info.clone(), app.clone());
    reply.admitted(admitted);
    if submission.info.stream {
        let stream = Sse::new(events(submission, reply));
        let stream = stream.keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
        return Ok((headers, stream).into_response());
    }
    Ok((headers, Json(collect(submission, reply).await?)).into_response())
}

/// Waits until all answers are complete.
async fn collect(mut submission: Submission, mut reply: Reply) -> Result<Value, ApiError> {
    let info = &submission.info;
    let mut answers: Vec<Answer> = (0..info.prompts * info.n)
        .map(|n| {
            let text = info.echo.get(n / info.n).cloned().unwrap_or_default();
            Answer::new(text, Output::new(&info.output))
        })
        .collect();
    loop {
        match submission.events.recv().await.ok_or_else(Failure::ended)? {
            Event::Admitted(admitted) => reply.admitted(admitted),
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
    ready: VecDeque<sse::Event>,
    ended: bool,
}

/// The answers as they come. An error after the start of the stream is its last event.
fn events(
    submission: Submission,
    reply: Reply,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let ready = reply.openings().iter().map(event).collect();
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
        state.ready.pop_front().map(|event| (Ok(event), state))
    })
}

impl Streaming {
    fn take(&mut self, next: Event) {
        let reply = &mut self.reply;
        match next {
            Event::Admitted(admitted) => reply.admitted(admitted),
            Event::Text(piece) => {
                self.ready.extend(reply.piece(&piece).iter().map(event));
            }
            Event::Finished { choice, finish } => {
                self.ready
                    .extend(reply.finished(choice, &finish).iter().map(event));
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

//! The routes: a new response, whole or streamed; one that is kept.

use super::request::{ResponseRequest, Translated};
use super::store::Kept;
use super::turns::Turn;
use super::writer::{End, Usage, Writer};
use crate::api::app::SharedApp;
use crate::api::body::Client;
use crate::api::error::ApiError;
use crate::api::output::{Message, Output};
use crate::api::schema;
use crate::api::submission::{self, Endpoint, ParsedRequest, Submission};
use crate::scheduler::{Admitted, Event, Failure};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use selfextend::Finish;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `POST /v1/responses`: the answer to an input.
pub async fn create(State(app): State<SharedApp>, body: Body) -> Result<Response, ApiError> {
    let body = app.intake.receive(body).await?;
    let arrived = Instant::now();
    let reader = app.clone();
    let work = move |body: &[u8], client: &Client| {
        client.check()?;
        let request: ResponseRequest = schema::parse(body)?;
        let translated = request.translate(&reader.kept)?;
        let Translated {
            completion,
            said,
            previous,
            turns,
            store,
            stream,
        } = translated;
        let parsed = submission::read(&reader, Endpoint::Chat, completion, client);
        let mut parsed = parsed.map_err(in_words_of_responses)?;
        parsed.info.id = format!("resp_{:032x}", rand::random::<u128>());
        let info = &parsed.info;
        let writer = Writer::new(&info.id, info.created, &info.model, said);
        let keep = store.then_some((previous, turns));
        Ok((parsed, writer, keep, stream))
    };
    let (parsed, writer, keep, stream) = app.intake.parse(body, work).await?;
    respond(app, parsed, writer, keep, stream, arrived).await
}

/// Errors name the fields of a response's request.
fn in_words_of_responses(error: ApiError) -> ApiError {
    error
        .renamed("messages", "input")
        .renamed("max_completion_tokens", "max_output_tokens")
        .renamed("response_format.json_schema", "text.format")
        .renamed("response_format", "text.format")
        .renamed("reasoning_effort", "reasoning.effort")
}

/// The conversation before a request, and its turns, where its response is kept.
type Keep = Option<(Option<Arc<Kept>>, Vec<Turn>)>;

async fn respond(
    app: SharedApp,
    parsed: ParsedRequest,
    writer: Writer,
    keep: Keep,
    stream: bool,
    arrived: Instant,
) -> Result<Response, ApiError> {
    let submission = submission::queue(&app, parsed, arrived).await;
    let mut submission = submission.map_err(in_words_of_responses)?;
    let admitted = submission.admitted().await?;
    let headers = submission.headers(admitted);
    let mut making = Making {
        output: Output::new(&submission.info.output),
        message: Message::default(),
        usage: Usage {
            input: submission.info.prompt_tokens,
            ..Usage::default()
        },
        end: End::Completed,
        writer,
        keep,
        submission,
        app,
        ready: VecDeque::new(),
        ended: false,
    };
    making.admitted(admitted);
    if stream {
        let stream = Sse::new(events(making));
        let stream = stream.keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
        return Ok((headers, stream).into_response());
    }
    Ok((headers, Json(making.whole().await?)).into_response())
}

/// A response while it is made.
struct Making {
    app: SharedApp,
    submission: Submission,
    output: Output,
    /// All of the answer so far.
    message: Message,
    writer: Writer,
    usage: Usage,
    end: End,
    keep: Keep,
    ready: VecDeque<Value>,
    ended: bool,
}

impl Making {
    fn admitted(&mut self, admitted: Admitted) {
        self.usage.cached = admitted.cached_tokens;
    }

    /// Takes what happened; the response, once it is complete.
    fn take(&mut self, next: Event) -> Result<Option<Value>, Failure> {
        let deltas = match next {
            Event::Admitted(admitted) => {
                self.admitted(admitted);
                return Ok(None);
            }
            // Nobody asks for the probabilities of a prompt here.
            Event::Prompt { .. } => return Ok(None),
            Event::Text(piece) => self.output.push(&piece),
            Event::Finished { finish, .. } => {
                if matches!(finish, Finish::MaxTokens | Finish::ContextFull) {
                    self.end = End::Incomplete;
                }
                self.output.finish()
            }
            Event::Done { completion_tokens } => {
                self.usage.output = completion_tokens;
                self.usage.reasoning = self.output.reasoning_tokens;
                let (events, response) = self.writer.finish(self.end, self.usage);
                self.ready.extend(events);
                self.store(&response);
                return Ok(Some(response));
            }
            Event::Failed(failure) => return Err(failure),
        };
        self.message.extend(deltas.clone());
        self.ready.extend(self.writer.push(deltas));
        Ok(None)
    }

    fn store(&mut self, response: &Value) {
        let Some((previous, mut turns)) = self.keep.take() else {
            return;
        };
        let message = std::mem::take(&mut self.message);
        if !message.reasoning.is_empty() {
            turns.push(Turn::Reasoning(message.reasoning));
        }
        if !message.content.is_empty() {
            turns.push(Turn::Message {
                role: "assistant".to_owned(),
                text: message.content,
            });
        }
        turns.extend(message.calls.into_iter().map(|call| Turn::Call {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }));
        let id = &self.submission.info.id;
        self.app.kept.put(id, previous, turns, response.clone());
    }

    async fn whole(mut self) -> Result<Value, ApiError> {
        loop {
            let next = self.submission.events.recv().await;
            let next = next.ok_or_else(Failure::ended)?;
            let response = self.take(next)?;
            self.ready.clear();
            if let Some(response) = response {
                return Ok(response);
            }
        }
    }
}

/// The events as they come. A failure after the start of the stream is its last event.
fn events(mut making: Making) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let openings = making.writer.openings();
    making.ready.extend(openings);
    stream::unfold(making, async |mut making| {
        while making.ready.is_empty() {
            if making.ended {
                return None;
            }
            let next = making.submission.events.recv().await;
            match making.take(next.unwrap_or_else(|| Event::Failed(Failure::ended()))) {
                Ok(response) => making.ended = response.is_some(),
                Err(failure) => {
                    let last = making.writer.fail(&failure.to_string());
                    making.ready.push_back(last);
                    making.ended = true;
                }
            }
        }
        let event = making.ready.pop_front()?;
        let name = event["type"].as_str().unwrap_or_default();
        let event = sse::Event::default().event(name).data(event.to_string());
        Some((Ok(event), making))
    })
}

/// `GET /v1/responses/ID`: a response that is kept.
pub async fn retrieve(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let kept = app.kept.get(&id).ok_or_else(|| not_kept(&id))?;
    Ok(Json(kept.body.clone()))
}

/// `DELETE /v1/responses/ID`: forgets it.
pub async fn delete(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if !app.kept.remove(&id) {
        return Err(not_kept(&id));
    }
    Ok(Json(
        json!({"id": id, "object": "response", "deleted": true}),
    ))
}

fn not_kept(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::not_kept(
        "response_id",
        format!("the response {id:?} is not kept here"),
    )
}

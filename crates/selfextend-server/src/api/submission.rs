//! From a request's body to requests in the scheduler's queue.

use super::app::{App, SharedApp, now};
use super::body::off_thread;
use super::error::ApiError;
use super::schema::{self, Completion, Prompt};
use crate::constrain::Constraint;
use crate::ladder::Rung;
use crate::scheduler::{Admitted, Event, Failure, Request};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use selfextend::{GenerateOptions, tokenizer::SpecialTokens};
use std::time::Instant;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// Which of the two kinds of completions is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// What all answers of a request have in common.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    pub endpoint: Endpoint,
    pub id: String,
    pub created: u64,
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    /// Prompts of the request; each has `n` answers.
    pub prompts: usize,
    pub n: usize,
    pub prompt_tokens: usize,
    /// Texts to put before the answers, one for each prompt, where `echo` asks for them.
    pub echo: Vec<String>,
    /// The rung of the longest prompt.
    pub rung: Rung,
    pub trained_window: usize,
}

/// A request whose prompts are queued.
pub struct Submission {
    pub info: RequestInfo,
    pub events: UnboundedReceiver<Event>,
}

/// A request that was read and checked.
struct ParsedRequest {
    info: RequestInfo,
    prompts: Vec<Vec<u32>>,
    rungs: Vec<usize>,
    options: Vec<GenerateOptions>,
    logprobs: Option<usize>,
    constraint: Option<Constraint>,
}

/// Reads a body and queues its prompts.
pub async fn submit(
    app: &SharedApp,
    endpoint: Endpoint,
    body: Bytes,
) -> Result<Submission, ApiError> {
    let arrived = Instant::now();
    let reader = app.clone();
    let parsed = off_thread(move || read(&reader, endpoint, &body)).await?;
    let (sender, events) = mpsc::unbounded_channel();
    let prompts = parsed
        .prompts
        .into_iter()
        .zip(parsed.rungs)
        .zip(parsed.options);
    for (number, ((prompt, rung), options)) in prompts.enumerate() {
        app.scheduler.submit(Request {
            id: parsed.info.id.clone(),
            prompt,
            rung,
            first_choice: number * parsed.info.n,
            choices: parsed.info.n,
            options,
            logprobs: parsed.logprobs,
            constraint: parsed.constraint.as_ref().map(Constraint::fork),
            arrived,
            deadline: arrived + app.config.http.request_time,
            events: sender.clone(),
        })?;
    }
    Ok(Submission {
        info: parsed.info,
        events,
    })
}

fn read(app: &App, endpoint: Endpoint, body: &[u8]) -> Result<ParsedRequest, ApiError> {
    let mut body: Completion = schema::parse(body)?;
    let config = &app.config;
    if let Some(asked) = body.model.as_ref().filter(|asked| **asked != config.model) {
        return Err(ApiError::no_such_model(asked, &config.model));
    }
    body.refuse_unsupported()?;
    let n = body.n.unwrap_or(1);
    let most = config.scheduler.parallel;
    if !(1..=most).contains(&n) {
        let message = format!("n must be between 1 and {most} on this server, not {n}");
        return Err(ApiError::parameter("n", message));
    }
    let sampling = body.sampling(app.text.model.config().vocab)?;
    let logprobs = body.top_logprobs(endpoint == Endpoint::Chat)?;
    let (stop, asked) = (body.stops()?, body.max_tokens()?);
    let schema = body.schema()?;
    let constraint = schema.map(|schema| app.constraint(schema)).transpose()?;
    let prompts = match endpoint {
        Endpoint::Chat => vec![chat_prompt(app, &mut body)?],
        Endpoint::Completions => plain_prompts(app, &body)?,
    };
    let echo = echo(app, &body, endpoint, &prompts, logprobs)?;
    let (mut rungs, mut options) = (Vec::new(), Vec::new());
    for prompt in &prompts {
        let (rung, max_tokens) = place(app, prompt.len(), asked)?;
        rungs.push(rung);
        options.push(
            GenerateOptions::new()
                .with_max_tokens(max_tokens)
                .with_stop(stop.clone())
                .with_sampling(sampling.clone()),
        );
    }
    let prefix = match endpoint {
        Endpoint::Chat => "chatcmpl",
        Endpoint::Completions => "cmpl",
    };
    let longest = rungs.iter().copied().max().unwrap_or(0);
    let info = RequestInfo {
        endpoint,
        id: format!("{prefix}-{:032x}", rand::random::<u128>()),
        created: now(),
        model: config.model.clone(),
        stream: body.stream.unwrap_or(false),
        include_usage: body
            .stream_options
            .and_then(|o| o.include_usage)
            .unwrap_or(false),
        prompts: prompts.len(),
        n,
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        echo,
        rung: app.ladder.rung(longest).clone(),
        trained_window: app.ladder.trained(),
    };
    if config.log_prompts {
        for prompt in &prompts {
            let text = app
                .text
                .tokenizer
                .decode(prompt, SpecialTokens::Show)
                .unwrap_or_default();
            tracing::info!(request = info.id, text, "prompt");
        }
    }
    Ok(ParsedRequest {
        info,
        prompts,
        rungs,
        options,
        logprobs,
        constraint,
    })
}

/// The number of the rung a prompt runs under, and the most tokens of its answer.
fn place(app: &App, prompt: usize, asked: Option<usize>) -> Result<(usize, usize), ApiError> {
    let context = app.ladder.context();
    let room = context.saturating_sub(prompt);
    let wanted = asked.unwrap_or(app.config.default_max_tokens.min(room.max(1)));
    let rung = app.ladder.rung_for(prompt.saturating_add(wanted));
    let rung = rung.ok_or_else(|| ApiError::context_length(context, prompt, wanted))?;
    Ok((rung, wanted))
}

fn chat_prompt(app: &App, body: &mut Completion) -> Result<Vec<u32>, ApiError> {
    if body.prompt.is_some() {
        let message = "prompt belongs to /v1/completions; send messages here";
        return Err(ApiError::parameter("prompt", message));
    }
    let messages = body.conversation()?;
    let ids = app.text.encode_chat(&messages);
    // Templates refuse conversations that they cannot render.
    let ids = ids.map_err(|error| ApiError::parameter("messages", error.to_string()))?;
    ids.ok_or_else(|| ApiError::bad_request("this model has no chat template: use /v1/completions"))
}

/// The most prompts of one request.
const MOST_PROMPTS: usize = 64;

fn plain_prompts(app: &App, body: &Completion) -> Result<Vec<Vec<u32>>, ApiError> {
    let encode = |text: &String| {
        let ids = app.text.encode(text);
        ids.map_err(|error| ApiError::parameter("prompt", error.to_string()))
    };
    let prompts: Vec<Vec<u32>> = match &body.prompt {
        None if body.messages.is_some() => {
            let message = "messages belong to /v1/chat/completions; send a prompt here";
            return Err(ApiError::parameter("messages", message));
        }
        None => return Err(ApiError::parameter("prompt", "prompt is missing")),
        Some(Prompt::Text(text)) => vec![encode(text)?],
        Some(Prompt::Texts(texts)) => texts.iter().map(encode).collect::<Result<_, _>>()?,
        Some(Prompt::Ids(ids)) => vec![ids.clone()],
        Some(Prompt::ManyIds(many)) => many.clone(),
    };
    let vocab = app.text.model.config().vocab;
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS || prompts.iter().any(Vec::is_empty) {
        let message = format!("send 1 to {MOST_PROMPTS} prompts of at least one token each");
        return Err(ApiError::parameter("prompt", message));
    }
    if let Some(id) = prompts.iter().flatten().find(|id| **id as usize >= vocab) {
        let message = format!("token id {id} is outside the vocabulary of {vocab} tokens");
        return Err(ApiError::parameter("prompt", message));
    }
    Ok(prompts)
}

fn echo(
    app: &App,
    body: &Completion,
    endpoint: Endpoint,
    prompts: &[Vec<u32>],
    logprobs: Option<usize>,
) -> Result<Vec<String>, ApiError> {
    if !body.echo.unwrap_or(false) || endpoint == Endpoint::Chat {
        return Ok(Vec::new());
    }
    if logprobs.is_some() {
        let message = "echo together with logprobs is not supported";
        return Err(ApiError::unsupported("echo", message));
    }
    let text = |ids: &Vec<u32>| {
        let text = app.text.tokenizer.decode(ids, SpecialTokens::Skip);
        text.map_err(|error| ApiError::parameter("prompt", error.to_string()))
    };
    prompts.iter().map(text).collect()
}

impl Submission {
    /// Waits until the first prompt is admitted. A failure before that is the whole reply.
    pub async fn admitted(&mut self) -> Result<Admitted, ApiError> {
        match self.events.recv().await {
            Some(Event::Admitted(admitted)) => Ok(admitted),
            Some(Event::Failed(failure)) => Err(failure.into()),
            _ => Err(Failure::ended().into()),
        }
    }

    /// Headers with the map it runs under and the prompt tokens that were cached.
    pub fn headers(&self, admitted: Admitted) -> HeaderMap {
        let rung = &self.info.rung;
        let settings = format!(
            "group_size={}; neighbor_window={}; trained_window={}",
            rung.group_size, rung.neighbor_window, self.info.trained_window
        );
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("x-request-id", self.info.id.clone());
        put("x-selfextend", settings);
        put(
            "x-selfextend-cached-tokens",
            admitted.cached_tokens.to_string(),
        );
        if admitted.reread_tokens > 0 {
            put(
                "x-selfextend-reread-tokens",
                admitted.reread_tokens.to_string(),
            );
        }
        headers
    }
}

//! From a request's body to answers that are on their way.

use super::schema::{Completion, Prompt};
use super::{App, Shared, now, service};
use crate::constrain::Constraint;
use crate::error::ApiError;
use crate::ladder::Rung;
use crate::scheduler::{Admitted, Event, Failure, Request};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use selfextend::{GenerateOptions, tokenizer::SpecialTokens};
use std::time::Instant;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// Which of the two APIs is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Plain,
}

/// What a request's answers have in common.
#[derive(Debug, Clone)]
pub struct Common {
    pub kind: Kind,
    pub id: String,
    pub created: u64,
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    /// Prompts of the request; each has `n` answers.
    pub prompts: usize,
    pub n: usize,
    pub prompt_tokens: usize,
    /// Texts to be put before the answers, one for each prompt, where they were asked for.
    pub echo: Vec<String>,
    /// The map of the longest prompt.
    pub rung: Rung,
    pub trained_window: usize,
}

/// Answers on their way.
pub struct Generation {
    pub common: Common,
    pub events: UnboundedReceiver<Event>,
}

/// A request that was read and found good.
struct Ready {
    common: Common,
    prompts: Vec<Vec<u32>>,
    steps: Vec<usize>,
    options: Vec<GenerateOptions>,
    logprobs: Option<usize>,
    constraint: Option<Constraint>,
}

/// Reads a body and queues what it asks for.
pub async fn start(app: &Shared, kind: Kind, body: Bytes) -> Result<Generation, ApiError> {
    let arrived = Instant::now();
    let reader = app.clone();
    let ready = service::off_thread(move || read(&reader, kind, &body)).await?;
    let (sender, events) = mpsc::unbounded_channel();
    let parts = ready
        .prompts
        .into_iter()
        .zip(ready.steps)
        .zip(ready.options);
    for (number, ((prompt, step), options)) in parts.enumerate() {
        app.scheduler.submit(Request {
            id: ready.common.id.clone(),
            prompt,
            step,
            first_choice: number * ready.common.n,
            choices: ready.common.n,
            options,
            logprobs: ready.logprobs,
            constraint: ready.constraint.as_ref().map(Constraint::fork),
            arrived,
            deadline: arrived + app.config.http.request_time,
            events: sender.clone(),
        })?;
    }
    Ok(Generation {
        common: ready.common,
        events,
    })
}

fn read(app: &App, kind: Kind, body: &[u8]) -> Result<Ready, ApiError> {
    let mut body: Completion = super::schema::parse(body)?;
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
    let logprobs = body.top_logprobs(kind == Kind::Chat)?;
    let (stop, asked) = (body.stops()?, body.max_tokens()?);
    let schema = body.schema()?;
    let constraint = schema.map(|schema| app.constraint(schema)).transpose()?;
    let prompts = match kind {
        Kind::Chat => vec![chat_prompt(app, &mut body)?],
        Kind::Plain => plain_prompts(app, &body)?,
    };
    let echo = echo(app, &body, kind, &prompts, logprobs)?;
    let (mut steps, mut options) = (Vec::new(), Vec::new());
    for prompt in &prompts {
        let (step, max_tokens) = place(app, prompt.len(), asked)?;
        steps.push(step);
        options.push(
            GenerateOptions::new()
                .with_max_tokens(max_tokens)
                .with_stop(stop.clone())
                .with_sampling(sampling.clone()),
        );
    }
    let prefix = match kind {
        Kind::Chat => "chatcmpl",
        Kind::Plain => "cmpl",
    };
    let longest = steps.iter().copied().max().unwrap_or(0);
    let common = Common {
        kind,
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
            tracing::info!(request = common.id, text, "prompt");
        }
    }
    Ok(Ready {
        common,
        prompts,
        steps,
        options,
        logprobs,
        constraint,
    })
}

/// The step a prompt runs under, and the most tokens of its answer.
fn place(app: &App, prompt: usize, asked: Option<usize>) -> Result<(usize, usize), ApiError> {
    let context = app.ladder.context();
    let room = context.saturating_sub(prompt);
    let wanted = asked.unwrap_or(app.config.default_max_tokens.min(room.max(1)));
    let step = app.ladder.step_for(prompt.saturating_add(wanted));
    let step = step.ok_or_else(|| ApiError::context_length(context, prompt, wanted))?;
    Ok((step, wanted))
}

fn chat_prompt(app: &App, body: &mut Completion) -> Result<Vec<u32>, ApiError> {
    if body.prompt.is_some() {
        let message = "prompt belongs to /v1/completions; send messages here";
        return Err(ApiError::parameter("prompt", message));
    }
    let messages = body.conversation()?;
    let ids = app.text.encode_chat(&messages);
    // Templates refuse conversations they cannot write.
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
    kind: Kind,
    prompts: &[Vec<u32>],
    logprobs: Option<usize>,
) -> Result<Vec<String>, ApiError> {
    if !body.echo.unwrap_or(false) || kind == Kind::Chat {
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

impl Generation {
    /// Waits until the first prompt runs; what fails before is no answer but an error.
    pub async fn admitted(&mut self) -> Result<Admitted, ApiError> {
        match self.events.recv().await {
            Some(Event::Admitted(admitted)) => Ok(admitted),
            Some(Event::Failed(failure)) => Err(failure.into()),
            _ => Err(lost().into()),
        }
    }

    /// Headers that say under which map it runs, and what it took.
    pub fn headers(&self, admitted: Admitted) -> HeaderMap {
        let rung = &self.common.rung;
        let settings = format!(
            "group_size={}; neighbor_window={}; trained_window={}",
            rung.group_size, rung.neighbor_window, self.common.trained_window
        );
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("x-request-id", self.common.id.clone());
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

/// The scheduler ended without a word.
pub fn lost() -> Failure {
    Failure::Engine("the scheduler has ended; see the log".into())
}

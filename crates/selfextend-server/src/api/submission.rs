//! From a request's body to requests in the scheduler's queue.

use super::app::{App, SharedApp, now};
use super::body::{Client, Received};
use super::conversation;
use super::error::ApiError;
use super::fields::{MOST_PROMPTS, Prompts};
use super::fim;
use super::numbers::AS_MANY_AS_FIT;
use super::output::OutputSpec;
use super::schema::{self, Completion};
use super::tools::{Wanted, grammar, is_held};
use crate::constrain::{Constraint, Grammar};
use crate::ladder::Rung;
use crate::scheduler::{Admitted, Event, Failure, Request, channel};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use selfextend::chat_template::ChatTemplate;
use selfextend::{GenerateOptions, tokenizer::SpecialTokens};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

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
    /// The most tokens of an answer, where the request asked for more than there was room for.
    pub clamped: Option<usize>,
    /// Texts to put before the answers, one for each prompt, where `echo` asks for them.
    pub echo: Vec<String>,
    /// How the answers are to be read.
    pub output: OutputSpec,
    /// The first token of each prompt, where the probabilities of those after it are asked for.
    pub first_tokens: Vec<u32>,
    /// The rung of the longest prompt.
    pub rung: Rung,
    pub trained_window: usize,
}

/// A request whose prompts are queued.
pub struct Submission {
    pub info: RequestInfo,
    pub events: Receiver<Event>,
}

/// A request that was read and checked.
pub struct ParsedRequest {
    pub info: RequestInfo,
    prompts: Vec<Vec<u32>>,
    rungs: Vec<usize>,
    options: Vec<GenerateOptions>,
    logprobs: Option<usize>,
    /// Whether those of the prompts' tokens are asked for too.
    prompt_logprobs: bool,
    /// What answers are held to, and the field that says so.
    grammar: Option<(&'static str, Grammar)>,
}

/// Turns the body of another dialect into one of OpenAI's.
pub type Translate = fn(&[u8]) -> Result<Vec<u8>, ApiError>;

/// Reads a body and queues its prompts.
pub async fn submit(
    app: &SharedApp,
    endpoint: Endpoint,
    body: Received,
    translate: Option<Translate>,
) -> Result<Submission, ApiError> {
    let arrived = Instant::now();
    let reader = app.clone();
    let work = move |body: &[u8], client: &Client| {
        client.check()?;
        let body = match translate {
            None => schema::parse(body)?,
            Some(translate) => schema::parse(&translate(body)?)?,
        };
        read(&reader, endpoint, body, client)
    };
    let parsed = app.intake.parse(body, work).await?;
    queue(app, parsed, arrived).await
}

/// Queues the prompts of a request that was read.
pub async fn queue(
    app: &SharedApp,
    mut parsed: ParsedRequest,
    arrived: Instant,
) -> Result<Submission, ApiError> {
    let constraint = match parsed.grammar.take() {
        Some((name, grammar)) => Some(make_constraint(app, name, grammar).await?),
        None => None,
    };
    let answers = parsed.prompts.len() * parsed.info.n;
    let unread = if parsed.info.stream {
        // No more answers than this are generated at once.
        let parallel = app.config.scheduler.parallel;
        app.config.http.unread.saturating_mul(answers.min(parallel))
    } else {
        // They are collected here as they come.
        usize::MAX
    };
    // For each prompt its admission, its probabilities and its end, and the ends of its answers.
    let reserve = parsed.prompts.len() * (3 + parsed.info.n);
    let deadline = arrived.checked_add(app.config.http.request_time);
    let deadline = deadline.unwrap_or(arrived + A_YEAR);
    let (sender, events) = channel(unread, reserve);
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
            prompt_logprobs: parsed.logprobs.filter(|_| parsed.prompt_logprobs),
            constraint: constraint.as_ref().map(Constraint::fork),
            arrived,
            deadline,
            events: sender.clone(),
        })?;
    }
    Ok(Submission {
        info: parsed.info,
        events,
    })
}

/// Deadline of requests whose limit is beyond what the clock can tell.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Compiling a schema may take long for one that asks for it.
async fn make_constraint(
    app: &SharedApp,
    name: &'static str,
    grammar: Grammar,
) -> Result<Constraint, ApiError> {
    let compiler = app.clone();
    let work = move |_: &Client| compiler.constraint(name, grammar);
    app.intake.run_long(work).await
}

/// The tokens of the prompt that a chat's body makes.
///
/// # Errors
/// As [`submit`].
pub async fn count_tokens(
    app: &SharedApp,
    body: Received,
    translate: Translate,
) -> Result<usize, ApiError> {
    let reader = app.clone();
    let work = move |body: &[u8], client: &Client| {
        let mut body: Completion = schema::parse(&translate(body)?)?;
        reader.check_model(body.model.as_deref())?;
        body.refuse_unsupported()?;
        let (prompt, _) = chat_prompt(&reader, &mut body, client)?;
        Ok(prompt.len())
    };
    app.intake.parse(body, work).await
}

/// Checks a request and makes its prompts.
pub fn read(
    app: &App,
    endpoint: Endpoint,
    mut body: Completion,
    client: &Client,
) -> Result<ParsedRequest, ApiError> {
    let config = &app.config;
    app.check_model(body.model.as_deref())?;
    body.refuse_unsupported()?;
    let n = body.n.unwrap_or(1);
    let most = config.scheduler.parallel;
    if !(1..=most).contains(&n) {
        let message = format!("n must be between 1 and {most} on this server, not {n}");
        return Err(ApiError::parameter("n", message));
    }
    let mut sampling = body.sampling(app.text.model.config().vocab, config.sampling.clone())?;
    if body.ignore_eos == Some(true) {
        // As llama.cpp's server does it.
        let ends = app.text.tokenizer.end_tokens().iter();
        sampling
            .bias
            .extend(ends.map(|id| (*id, f32::NEG_INFINITY)));
    }
    let logprobs = body.top_logprobs(endpoint == Endpoint::Chat)?;
    let (mut stop, asked) = (body.stops()?, body.max_tokens(endpoint == Endpoint::Chat)?);
    let schema = body.schema()?;
    let (prompts, output) = match endpoint {
        Endpoint::Chat => {
            let (prompt, output) = chat_prompt(app, &mut body, client)?;
            (vec![prompt], output)
        }
        Endpoint::Completions => {
            body.refuse_chat()?;
            (
                plain_prompts(app, &mut body, client)?,
                OutputSpec::default(),
            )
        }
    };
    let grammar = held(app, &mut body, &output, schema)?;
    if endpoint == Endpoint::Completions && body.suffix().is_some() {
        stop.extend(fim::stops(&app.text.tokenizer));
    }
    client.check()?;
    let echo = echo(app, &body, endpoint, &prompts)?;
    let prompt_logprobs = logprobs.is_some() && !echo.is_empty();
    let shown = output.shown(&app.style);
    let (mut rungs, mut options) = (Vec::new(), Vec::new());
    let mut clamped = false;
    for prompt in &prompts {
        let (rung, max_tokens) = place(app, prompt.len(), asked)?;
        clamped |= asked.is_some_and(|asked| asked > max_tokens && asked != AS_MANY_AS_FIT);
        rungs.push(rung);
        options.push(
            GenerateOptions::new()
                .with_max_tokens(max_tokens)
                .with_stop(stop.clone())
                .with_sampling(sampling.clone())
                .with_speculate(config.speculate)
                .with_shown(shown.clone()),
        );
    }
    let stream = body.stream.unwrap_or(false);
    let tokens = options
        .iter()
        .map(|options| options.max_tokens)
        .sum::<usize>();
    if logprobs.is_some() && !stream && tokens.saturating_mul(n) > MOST_LOGPROBS {
        let message = format!(
            "log-probabilities of more than {MOST_LOGPROBS} tokens are only streamed; set stream to true, or lower max_tokens or n"
        );
        return Err(ApiError::parameter("stream", message));
    }
    let prompt_tokens = prompts.iter().map(Vec::len).sum::<usize>();
    if prompt_logprobs && prompt_tokens.saturating_mul(n) > MOST_LOGPROBS {
        let message = format!(
            "echo reports the log-probabilities of at most {MOST_LOGPROBS} prompt tokens in one request; send fewer prompts at once"
        );
        return Err(ApiError::parameter("echo", message));
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
        stream,
        include_usage: body
            .stream_options
            .and_then(|o| o.include_usage)
            .unwrap_or(false),
        prompts: prompts.len(),
        n,
        prompt_tokens,
        clamped: clamped.then(|| options.iter().map(|it| it.max_tokens).min().unwrap_or(0)),
        echo,
        output,
        first_tokens: match prompt_logprobs {
            true => prompts.iter().map(|prompt| prompt[0]).collect(),
            false => Vec::new(),
        },
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
        prompt_logprobs,
        grammar,
    })
}

/// The number of the rung a prompt runs under, and the most tokens of its answer.
fn place(app: &App, prompt: usize, asked: Option<usize>) -> Result<(usize, usize), ApiError> {
    let context = app.ladder.context();
    let room = context.saturating_sub(prompt);
    let wanted = match asked {
        None => app.config.default_max_tokens.min(room.max(1)),
        Some(AS_MANY_AS_FIT) => room.max(1),
        Some(asked) if app.config.clamp_max_tokens && room > 0 => asked.min(room),
        Some(asked) => asked,
    };
    let rung = app.ladder.rung_for(prompt.saturating_add(wanted));
    let rung = rung.ok_or_else(|| ApiError::context_length(context, prompt, wanted))?;
    Ok((rung, wanted))
}

/// What answers are held to: calls of functions, a schema, or both; or another grammar alone.
fn held(
    app: &App,
    body: &mut Completion,
    output: &OutputSpec,
    schema: Option<serde_json::Value>,
) -> Result<Option<(&'static str, Grammar)>, ApiError> {
    let tools = output.tools.as_ref();
    let has_schema = schema.is_some();
    let own = if let (Some(schema), None, None) = (&schema, tools, output.thinking) {
        Some(("response_format", Grammar::Json(schema.clone())))
    } else {
        let text = grammar(&Wanted {
            tools: tools.map(|(tools, format, _)| (tools.as_ref(), *format)),
            content: schema.as_ref(),
            thinking: output.thinking,
            token: &|text| app.style.token(text),
        });
        let name = match tools {
            Some((tools, ..)) if is_held(tools) => "tools",
            _ => "response_format",
        };
        text.map(|text| (name, Grammar::Lark(text)))
    };
    if own.is_some() && body.ignore_eos == Some(true) {
        let message =
            "ignore_eos would let an answer that is held to a grammar never end; leave one out";
        return Err(ApiError::parameter("ignore_eos", message));
    }
    match (own, body.grammar()?) {
        (Some((own, _)), Some((name, _))) => {
            let own = if has_schema { "response_format" } else { own };
            let message = format!("an answer cannot be held to both {own} and {name}");
            Err(ApiError::parameter(name, message))
        }
        (own, guided) => Ok(own.or(guided)),
    }
}

fn chat_prompt(
    app: &App,
    body: &mut Completion,
    client: &Client,
) -> Result<(Vec<u32>, OutputSpec), ApiError> {
    if body.suffix().is_some() {
        let message = "suffix belongs to /v1/completions";
        return Err(ApiError::unsupported("suffix", message));
    }
    if body.prompt.is_some() {
        let message = "prompt belongs to /v1/completions; send messages here";
        return Err(ApiError::parameter("prompt", message));
    }
    let none = ChatTemplate::of_model("", "", "");
    let template = app.text.template.as_ref().unwrap_or(&none);
    let dialogue = conversation::read(body, template, &app.style)?;
    app.check_length("messages", dialogue.bytes)?;
    client.check()?;
    let ids = app.text.encode_conversation(&dialogue.conversation);
    let ids = ids.map_err(|error| {
        let message = error.to_string();
        if error.blames_template() {
            ApiError::internal(message)
        } else {
            // Templates refuse conversations that they cannot render.
            ApiError::parameter("messages", message)
        }
    })?;
    let ids = ids.ok_or_else(|| {
        ApiError::bad_request("this model has no chat template: use /v1/completions")
    })?;
    if ids.is_empty() {
        let message = "the model's chat template makes an empty prompt of these messages; send a user message";
        return Err(ApiError::parameter("messages", message));
    }
    check_ids(app, "messages", &ids)?;
    let end = &ids[ids.len().saturating_sub(LONGEST_END)..];
    let end = app.text.tokenizer.decode(end, SpecialTokens::Show);
    let end = end.unwrap_or_default();
    let thinking = app
        .style
        .thinking
        .map(|thinking| (thinking, thinking.is_open(&end)));
    let tools = dialogue.tools;
    let output = OutputSpec {
        // The rest of a message has no thoughts of its own, unless it is they that go on.
        thinking: thinking.filter(|(_, opened)| *opened || !dialogue.continues),
        hide_reasoning: body.include_reasoning == Some(false),
        tools: tools.is_active().then(|| {
            let held = is_held(&tools);
            (Arc::new(tools), app.style.format, held)
        }),
    };
    Ok((ids, output))
}

/// Tokens at the end of a prompt in which a marker of thoughts is looked for.
const LONGEST_END: usize = 32;

/// The most tokens of a request whose log-probabilities are collected for one response: in JSON they
/// take up to 4 KB each.
const MOST_LOGPROBS: usize = 32 << 10;

/// Refuses tokens that the model has no embedding for: tokenizers may know more tokens.
fn check_ids(app: &App, name: &str, ids: &[u32]) -> Result<(), ApiError> {
    let vocab = app.text.model.config().vocab;
    let Some(id) = ids.iter().find(|id| **id as usize >= vocab) else {
        return Ok(());
    };
    let text = app.text.tokenizer.token_text(*id);
    let text = text.map_or(String::new(), |text| format!(" ({text:?})"));
    let message =
        format!("token id {id}{text} is outside the model's vocabulary of {vocab} tokens");
    Err(ApiError::parameter(name, message))
}

fn plain_prompts(
    app: &App,
    body: &mut Completion,
    client: &Client,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let special = body.parse_special.unwrap_or(true);
    let encode = |text: &String| {
        client.check()?;
        app.check_length("prompt", text.len())?;
        let ids = app.encode(text, true, special);
        ids.map_err(|error| ApiError::parameter("prompt", error.to_string()))
    };
    let prompts: Vec<Vec<u32>> = match body.prompt.take() {
        None if body.messages.is_some() => {
            let message = "messages belong to /v1/chat/completions; send a prompt here";
            return Err(ApiError::parameter("messages", message));
        }
        None => return Err(ApiError::parameter("prompt", "prompt is missing")),
        Some(Prompts::Texts(texts)) => texts.iter().map(encode).collect::<Result<_, _>>()?,
        Some(Prompts::Ids(ids)) => ids,
    };
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS || prompts.iter().any(Vec::is_empty) {
        let message = format!("send 1 to {MOST_PROMPTS} prompts of at least one token each");
        return Err(ApiError::parameter("prompt", message));
    }
    for ids in &prompts {
        check_ids(app, "prompt", ids)?;
    }
    match body.suffix() {
        None => Ok(prompts),
        Some(suffix) => {
            client.check()?;
            app.check_length("suffix", suffix.len())?;
            let after = app.encode(suffix, false, special);
            let after = after.map_err(|error| ApiError::parameter("suffix", error.to_string()))?;
            check_ids(app, "suffix", &after)?;
            let prompt = |before: &Vec<u32>| fim::prompt(&app.text.tokenizer, before, &after);
            prompts.iter().map(prompt).collect()
        }
    }
}

fn echo(
    app: &App,
    body: &Completion,
    endpoint: Endpoint,
    prompts: &[Vec<u32>],
) -> Result<Vec<String>, ApiError> {
    if !body.echo.unwrap_or(false) || endpoint == Endpoint::Chat {
        return Ok(Vec::new());
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

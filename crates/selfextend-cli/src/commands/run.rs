//! `selfextend run`: one prompt, one answer.

use super::answer::{Answer, SpeculatedReport, answer, finish_in_json, for_model, options};
use crate::args::run::RunArgs;
use crate::error::{CliError, Result};
use crate::setup::{SettingsReport, Setup, TextCache};
use crate::{input, output};
use selfextend::chat_template::Message;
use selfextend::speculate::Draft;
use selfextend::{Finish, Session, TextModel};
use serde::Serialize;
use std::path::Path;

/// Answers the prompt.
pub fn run(args: &RunArgs) -> Result<()> {
    let options = options(&args.generate)?;
    let prompt = prompt(args)?;
    let setup = Setup::new(&args.model)?;
    let options = for_model(options, &args.generate, &setup.source)?;
    let (model, draft) = setup.source.load_with(args.generate.draft.as_deref())?;
    let mut draft = draft.as_ref().map(Draft::new);
    let tokens = encode(args, &model, &prompt)?;
    let mut session = session(args, &setup, &model, tokens.len())?;
    let cache = TextCache::new(&args.cache, &setup.source);
    let mut ends_line = true;
    let answer = answer(
        &mut session,
        &model.tokenizer,
        &tokens,
        &options,
        draft.as_mut(),
        Some(&cache),
        &mut |piece| {
            ends_line = piece.ends_with('\n');
            if args.json {
                Ok(())
            } else {
                output::text(piece)
            }
        },
    )?;
    if args.json {
        output::json(&Report::new(&setup, &answer, &session))?;
    } else if !ends_line {
        output::text("\n")?;
    }
    if answer.generation.finish == Finish::ContextFull && args.model.context.is_none() {
        let window = session.context();
        output::note(&format!(
            "note: the answer ends where the window of {window} tokens is full; --context {} leaves room for more",
            tokens.len() + args.generate.max_tokens
        ));
    }
    output::note(&answer.statistics(&session));
    Ok(())
}

/// The whole prompt, in the order file, stdin, argument.
fn prompt(args: &RunArgs) -> Result<String> {
    let dash = Some("-");
    let file_is_stdin = args.file.as_deref() == Some(Path::new("-"));
    let argument = args
        .prompt
        .as_deref()
        .filter(|_| args.prompt.as_deref() != dash);
    let both = args.file.is_some() && args.prompt.is_some();
    let wants_stdin = args.prompt.as_deref() == dash || (!both && input::stdin_is_piped());
    let mut parts = Vec::new();
    if let Some(file) = &args.file {
        parts.push(input::file(file)?);
    }
    if wants_stdin && !file_is_stdin {
        let text = input::stdin()?;
        // The line end that `echo` adds is not part of a message. A raw prompt is what it is.
        let message = text.strip_suffix('\n').filter(|_| !args.raw);
        let message = message.map(|line| line.strip_suffix('\r').unwrap_or(line));
        parts.push(message.unwrap_or(&text).to_owned());
    }
    parts.extend(argument.map(str::to_owned));
    parts.retain(|part| !part.trim().is_empty());
    let Some(last) = parts.pop() else {
        return Err(CliError::usage(
            "the prompt is empty: give one as an argument, with --file or on stdin",
        ));
    };
    let before = parts.iter().map(|part| part.trim_end());
    Ok(before.chain([&*last]).collect::<Vec<_>>().join("\n\n"))
}

fn encode(args: &RunArgs, model: &TextModel, prompt: &str) -> Result<Vec<u32>> {
    if !args.raw {
        let message = |role: &str, content: &str| Message {
            role: role.into(),
            content: content.into(),
        };
        let system = args.system.iter().map(|text| message("system", text));
        let messages: Vec<_> = system.chain([message("user", prompt)]).collect();
        if let Some(tokens) = model.encode_chat(&messages)? {
            return Ok(tokens);
        }
        if args.system.is_some() {
            return Err(CliError::usage(
                "the model has no chat template, so --system cannot be used",
            ));
        }
        output::note("note: the model has no chat template: it continues the text, as with --raw");
    }
    // As llama.cpp and vLLM read a raw prompt. Without a template a prompt is text.
    let tokens = if args.raw && !args.special_as_text {
        model.encode_with_special(prompt)?
    } else {
        model.encode(prompt)?
    };
    if tokens.is_empty() {
        return Err(CliError::usage(
            "the prompt is empty: the model's vocabulary has none of its characters",
        ));
    }
    Ok(tokens)
}

/// A session with room for the prompt, and for the answer if that does not change how the prompt is
/// read: only a prompt that does not fit extends the window automatically.
fn session(args: &RunArgs, setup: &Setup, model: &TextModel, prompt: usize) -> Result<Session> {
    let trained = model.model.config().trained_window;
    let wanted = prompt + args.generate.max_tokens;
    let needed = match (args.model.context, args.model.group_size) {
        (Some(context), _) if prompt < context => wanted.min(context),
        (None, None) if prompt < trained => prompt,
        _ => wanted,
    };
    let what = if prompt < trained {
        "the prompt and its answer do"
    } else {
        "the prompt does"
    };
    let why = format!("{what} not fit ({prompt} tokens of prompt)");
    setup.session(model, needed, &why)
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: usize,
    ids: &'a [u32],
    finish: &'static str,
    prompt_tokens: usize,
    /// Those of them that were in the cache of long texts.
    cached_tokens: usize,
    prefill_s: f64,
    prefill_tok_s: f64,
    decode_s: f64,
    decode_tok_s: f64,
    /// With --speculate or --draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    speculated: Option<SpeculatedReport>,
    context_used: usize,
    settings: SettingsReport,
}

impl<'a> Report<'a> {
    fn new(setup: &Setup, answer: &'a Answer, session: &Session) -> Self {
        let Answer {
            generation,
            prefill_tokens,
            cached_tokens,
            prefill_s,
            decode_s,
        } = answer;
        let tokens = generation.tokens.len();
        Self {
            text: &generation.text,
            tokens,
            ids: &generation.tokens,
            finish: finish_in_json(&generation.finish),
            prompt_tokens: *prefill_tokens + *cached_tokens,
            cached_tokens: *cached_tokens,
            prefill_s: output::rounded(*prefill_s, 3),
            prefill_tok_s: output::rounded(output::rate(*prefill_tokens, *prefill_s), 1),
            decode_s: output::rounded(*decode_s, 3),
            decode_tok_s: output::rounded(output::rate(tokens, *decode_s), 1),
            speculated: generation.speculated.map(SpeculatedReport::from),
            context_used: session.len(),
            settings: SettingsReport::new(setup, session),
        }
    }
}

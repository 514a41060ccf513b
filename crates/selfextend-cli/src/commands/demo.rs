//! `selfextend demo`: a passkey hidden in a long text, asked for in two ways.

use super::answer::answer;
use crate::args::demo::DemoArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::setup::{SettingsReport, Setup};
use selfextend::{Extension, GenerateOptions, PositionMap, TextModel};
use selfextend_eval::tasks::Prompter;
use selfextend_eval::tasks::passkey::{Passkey, Wording};
use selfextend_eval::{EvalError, Speed};
use serde::Serialize;

/// Digits of a key, as in the paper.
const KEY_DIGITS: usize = 5;

/// Enough for the key and a few words.
const ANSWER_TOKENS: usize = 12;

/// Asks with plain attention, then with SelfExtend.
pub fn demo(args: &DemoArgs) -> Result<()> {
    if !(0.0..=1.0).contains(&args.depth) {
        return Err(CliError::usage(format!(
            "--depth {} is not between 0 and 1",
            args.depth
        )));
    }
    let setup = Setup::new(&args.model)?;
    let model = setup.source.load()?;
    let trained = model.model.config().trained_window;
    let prompter = Prompter::new(&model, false)?;
    let wording = Wording::Authors;
    let passkey = Passkey::new(
        &prompter,
        args.tokens,
        args.depth,
        KEY_DIGITS,
        args.seed,
        wording,
    )
    .map_err(|error| match error {
        EvalError::Settings(reason) => {
            CliError::usage(format!("--tokens {} is too short: {reason}", args.tokens))
        }
        other => other.into(),
    })?;
    let needed = passkey.tokens.len() + ANSWER_TOKENS;
    let extended = setup.choice.for_text(needed, trained)?.extension;
    introduce(args, &passkey, trained);
    if !extended.extends() {
        output::note(&if needed <= trained {
            format!(
                "note: {needed} tokens fit the trained window of {trained}, so both ways are plain attention; use a larger --tokens to see the difference"
            )
        } else {
            "note: plain attention was asked for, so both ways are the same".to_owned()
        });
    }
    let plain = Extension::plain(trained, extended.context());
    announce(args, &model, passkey.tokens.len())?;
    let plain = ask(&setup, &model, &passkey, plain)?;
    let extended = ask(&setup, &model, &passkey, extended)?;
    if args.json {
        return output::json(&Report::new(args, &passkey, plain, extended));
    }
    output::text(&table(&passkey, &plain, &extended))
}

fn introduce(args: &DemoArgs, passkey: &Passkey, trained: usize) {
    output::note(&format!(
        "The passkey {} is hidden at {:.0}% of a text of {} tokens (token {}). {} was trained on {} tokens.",
        passkey.key,
        args.depth * 100.0,
        output::grouped(passkey.tokens.len()),
        output::grouped(passkey.position),
        args.model.load.model,
        output::grouped(trained),
    ));
}

/// Says how long it will take: in a pipe, nothing else shows that it works.
fn announce(args: &DemoArgs, model: &TextModel, tokens: usize) -> Result<()> {
    let speed = Speed::measure(&model.model, args.model.load.chunk)?;
    let seconds = 2.0 * speed.prefill_seconds(0..tokens);
    output::note(&format!(
        "reading {} tokens twice, about {}",
        output::grouped(tokens),
        output::duration(seconds),
    ));
    args.limit.check(seconds, "a smaller --tokens")
}

/// One way of asking, and its outcome.
#[derive(Debug, Serialize)]
struct Outcome {
    answer: String,
    found: bool,
    prefill_s: f64,
    prefill_tok_s: f64,
    decode_s: f64,
    decode_tok_s: f64,
    settings: SettingsReport,
    #[serde(skip)]
    extension: Extension,
}

fn ask(
    setup: &Setup,
    model: &TextModel,
    passkey: &Passkey,
    extension: Extension,
) -> Result<Outcome> {
    let mut session = model.model.session(setup.source.options(extension))?;
    let generate = GenerateOptions::new().with_max_tokens(ANSWER_TOKENS);
    output::note(&format!("asking with {} ...", session.extension()));
    let result = answer(
        &mut session,
        &model.tokenizer,
        &passkey.tokens,
        &generate,
        &mut |_| Ok(()),
    )?;
    let (tokens, generated) = (passkey.tokens.len(), result.generation.tokens.len());
    let answer = result.generation.text.trim().to_owned();
    Ok(Outcome {
        found: passkey.is_in(&answer),
        answer,
        prefill_s: output::rounded(result.prefill_s, 2),
        prefill_tok_s: output::rounded(output::rate(tokens, result.prefill_s), 1),
        decode_s: output::rounded(result.decode_s, 2),
        decode_tok_s: output::rounded(output::rate(generated, result.decode_s), 1),
        settings: SettingsReport::new(setup, &session),
        extension: session.extension().clone(),
    })
}

/// An extension at the head of a column.
fn heading(outcome: &Outcome) -> String {
    match outcome.extension.map() {
        PositionMap::SelfExtend(map) => format!(
            "SelfExtend G={} W={}",
            map.group_size(),
            map.neighbor_window()
        ),
        _ => outcome.extension.title().to_owned(),
    }
}

/// Both outcomes side by side, and which of them found the key.
fn table(passkey: &Passkey, plain: &Outcome, extended: &Outcome) -> String {
    let cell = |text: String| -> String {
        let short: String = text.chars().take(40).collect();
        format!("{short:<42}")
    };
    let row = |name: &str, value: &dyn Fn(&Outcome) -> String| {
        let line = format!("{name:<16}{}{}", cell(value(plain)), cell(value(extended)));
        format!("{}\n", line.trim_end())
    };
    let yes = |found: bool| if found { "yes" } else { "no" };
    let mut text = format!(
        "\n{:<16}{}{}\n",
        "",
        cell(heading(plain)),
        heading(extended)
    );
    text += &row("answer", &|it| format!("{:?}", it.answer));
    text += &row("found the key", &|it| yes(it.found).to_owned());
    text += &row("read the text", &|it| {
        format!("{:.1} s, {:.0} tok/s", it.prefill_s, it.prefill_tok_s)
    });
    text += &row("answered", &|it| {
        format!("{:.2} s, {:.1} tok/s", it.decode_s, it.decode_tok_s)
    });
    text + &format!("\n{}\n", verdict(passkey, plain, extended))
}

fn verdict(passkey: &Passkey, plain: &Outcome, extended: &Outcome) -> String {
    let (key, name) = (&passkey.key, extended.extension.title());
    match (plain.found, extended.found) {
        _ if !extended.extension.extends() => {
            format!("Both ways are plain attention here; the key was {key}.")
        }
        (false, true) => format!("{name} found the key {key}; plain attention did not."),
        (true, true) => format!("Both found the key {key}."),
        (true, false) => format!("Plain attention found the key {key}; {name} did not."),
        (false, false) => format!("Neither found the key {key}."),
    }
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report {
    passkey: String,
    tokens: usize,
    position: usize,
    depth: f64,
    seed: u64,
    plain: Outcome,
    selfextend: Outcome,
}

impl Report {
    fn new(args: &DemoArgs, passkey: &Passkey, plain: Outcome, selfextend: Outcome) -> Self {
        Self {
            passkey: passkey.key.clone(),
            tokens: passkey.tokens.len(),
            position: passkey.position,
            depth: args.depth,
            seed: args.seed,
            plain,
            selfextend,
        }
    }
}

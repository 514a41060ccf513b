//! `selfextend demo`: passkeys hidden in a long text, asked for in two ways.

use super::answer::answer;
use crate::args::demo::DemoArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::setup::{SettingsReport, Setup};
use selfextend::{Extension, GenerateOptions, PositionMap, Session, TextModel};
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
    if let Some(depth) = args.depths.iter().find(|it| !(0.0..=1.0).contains(*it)) {
        return Err(CliError::usage(format!(
            "--depths {depth} is not between 0 and 1"
        )));
    }
    let setup = Setup::new(&args.model)?;
    let model = setup.source.load()?;
    let trained = model.model.config().trained_window;
    let hidden = hide(args, &model)?;
    let longest = hidden.iter().map(|it| it.passkey.tokens.len()).max();
    let needed = longest.unwrap_or_default() + ANSWER_TOKENS;
    let extended = setup.choice.for_text(needed, trained)?.extension;
    introduce(args, &hidden, needed - ANSWER_TOKENS, trained);
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
    announce(args, &model, &hidden)?;
    let plain = ask(&setup, &model, &hidden, plain)?;
    let extended = ask(&setup, &model, &hidden, extended)?;
    if args.json {
        return output::json(&Report::new(args, &hidden, plain, extended));
    }
    output::text(&table(&hidden, &plain, &extended))
}

/// A passkey and where in its text it is hidden.
struct Hidden {
    depth: f64,
    passkey: Passkey,
}

/// A text for each depth, the deepest first: each has most of its beginning from the one before.
fn hide(args: &DemoArgs, model: &TextModel) -> Result<Vec<Hidden>> {
    let prompter = Prompter::new(model, false)?;
    let mut depths = args.depths.clone();
    depths.sort_by(|a, b| b.total_cmp(a));
    depths.dedup();
    let hide = |(seed, depth)| {
        let seed = args.seed.wrapping_add(seed);
        let wording = Wording::Authors;
        let passkey = Passkey::new(&prompter, args.tokens, depth, KEY_DIGITS, seed, wording)
            .map_err(|error| match error {
                EvalError::Settings(reason) => {
                    CliError::usage(format!("--tokens {} is too short: {reason}", args.tokens))
                }
                other => other.into(),
            })?;
        Ok(Hidden { depth, passkey })
    };
    (0..).zip(depths).map(hide).collect()
}

/// The tokens of each text that the one before does not begin with.
fn new_tokens(hidden: &[Hidden]) -> impl Iterator<Item = std::ops::Range<usize>> {
    hidden.iter().enumerate().map(|(n, it)| {
        let tokens = &it.passkey.tokens;
        let before = n
            .checked_sub(1)
            .map_or(&[][..], |n| &hidden[n].passkey.tokens);
        let both = tokens.iter().zip(before);
        both.take_while(|(ours, theirs)| ours == theirs).count()..tokens.len()
    })
}

fn introduce(args: &DemoArgs, hidden: &[Hidden], tokens: usize, trained: usize) {
    let keys = match hidden {
        [one] => format!("The passkey {} is hidden", one.passkey.key),
        all => format!("{} passkeys are hidden, one after another,", all.len()),
    };
    output::note(&format!(
        "{keys} in a text of {} tokens. {} was trained on {} tokens.",
        output::grouped(tokens),
        args.model.load.model,
        output::grouped(trained),
    ));
}

/// Says how long it will take: in a pipe, nothing else shows that it works.
fn announce(args: &DemoArgs, model: &TextModel, hidden: &[Hidden]) -> Result<()> {
    let speed = Speed::measure(&model.model, args.model.load.chunk)?;
    let seconds = 2.0
        * new_tokens(hidden)
            .map(|it| speed.prefill_seconds(it))
            .sum::<f64>();
    let tokens: usize = new_tokens(hidden).map(|it| it.len()).sum();
    output::note(&format!(
        "reading {} tokens twice, about {}",
        output::grouped(tokens),
        output::duration(seconds),
    ));
    args.limit
        .check(seconds, "a smaller --tokens or fewer --depths")
}

/// One way of asking, and its outcome.
#[derive(Debug, Serialize)]
struct Outcome {
    /// In the order of the keys.
    answers: Vec<Answered>,
    found: usize,
    prefill_s: f64,
    prefill_tok_s: f64,
    decode_s: f64,
    decode_tok_s: f64,
    settings: SettingsReport,
    #[serde(skip)]
    extension: Extension,
}

#[derive(Debug, Serialize)]
struct Answered {
    answer: String,
    found: bool,
}

fn ask(
    setup: &Setup,
    model: &TextModel,
    hidden: &[Hidden],
    extension: Extension,
) -> Result<Outcome> {
    let mut session = model.model.session(setup.source.options(extension))?;
    output::note(&format!("asking with {} ...", session.extension()));
    let (mut answers, mut read, mut generated) = (Vec::new(), 0, 0);
    let (mut prefill_s, mut decode_s) = (0.0, 0.0);
    for (Hidden { passkey, .. }, new) in hidden.iter().zip(new_tokens(hidden)) {
        let result = one(&mut session, model, passkey, new.start)?;
        read += result.prefill_tokens;
        generated += result.generation.tokens.len();
        prefill_s += result.prefill_s;
        decode_s += result.decode_s;
        let answer = result.generation.text.trim().to_owned();
        let found = passkey.is_in(&answer);
        answers.push(Answered { answer, found });
    }
    Ok(Outcome {
        found: answers.iter().filter(|it| it.found).count(),
        answers,
        prefill_s: output::rounded(prefill_s, 2),
        prefill_tok_s: output::rounded(output::rate(read, prefill_s), 1),
        decode_s: output::rounded(decode_s, 2),
        decode_tok_s: output::rounded(output::rate(generated, decode_s), 1),
        settings: SettingsReport::new(setup, &session),
        extension: session.extension().clone(),
    })
}

/// Asks for one key; the session keeps its first `known` tokens.
fn one(
    session: &mut Session,
    model: &TextModel,
    passkey: &Passkey,
    known: usize,
) -> Result<super::answer::Answer> {
    let options = GenerateOptions::new().with_max_tokens(ANSWER_TOKENS);
    // A method that forgets may keep fewer: `answer` reads what is missing.
    let _ = session.truncate(known);
    let (tokenizer, tokens) = (&model.tokenizer, &passkey.tokens);
    answer(
        session,
        tokenizer,
        tokens,
        &options,
        None,
        None,
        &mut |_| Ok(()),
    )
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

/// Both outcomes side by side, and which of them found more.
fn table(hidden: &[Hidden], plain: &Outcome, extended: &Outcome) -> String {
    let cell = |text: String| -> String {
        let short: String = text.chars().take(36).collect();
        format!("{short:<38}")
    };
    let row = |name: &str, value: &dyn Fn(&Outcome) -> String| {
        let line = format!("{name:<16}{}{}", cell(value(plain)), cell(value(extended)));
        format!("{}\n", line.trim_end())
    };
    let mut text = format!(
        "\n{:<16}{}{}\n",
        "key, depth",
        cell(heading(plain)),
        heading(extended)
    );
    for (n, Hidden { depth, passkey }) in hidden.iter().enumerate().rev() {
        let name = format!("{}, {:.0}%", passkey.key, 100.0 * depth);
        text += &row(&name, &|it| {
            let Answered { answer, found } = &it.answers[n];
            let mark = if *found { "found" } else { "no   " };
            format!("{mark}  {answer:?}")
        });
    }
    text += &row("keys found", &|it| {
        format!("{} of {}", it.found, hidden.len())
    });
    text += &row("read the text", &|it| {
        format!("{:.1} s, {:.0} tok/s", it.prefill_s, it.prefill_tok_s)
    });
    text += &row("answered", &|it| {
        format!("{:.2} s, {:.1} tok/s", it.decode_s, it.decode_tok_s)
    });
    text + &format!("\n{}\n", verdict(hidden, plain, extended))
}

fn verdict(hidden: &[Hidden], plain: &Outcome, extended: &Outcome) -> String {
    let name = extended.extension.title();
    if !extended.extension.extends() {
        return "Both ways are plain attention here.".to_owned();
    }
    format!(
        "{name} found {} of {} keys, plain attention {}.",
        extended.found,
        hidden.len(),
        plain.found
    )
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report {
    tokens: usize,
    seed: u64,
    keys: Vec<Key>,
    plain: Outcome,
    selfextend: Outcome,
}

#[derive(Debug, Serialize)]
struct Key {
    passkey: String,
    depth: f64,
    position: usize,
    tokens: usize,
}

impl Report {
    fn new(args: &DemoArgs, hidden: &[Hidden], plain: Outcome, selfextend: Outcome) -> Self {
        let key = |Hidden { depth, passkey }: &Hidden| Key {
            passkey: passkey.key.clone(),
            depth: *depth,
            position: passkey.position,
            tokens: passkey.tokens.len(),
        };
        Self {
            tokens: args.tokens,
            seed: args.seed,
            keys: hidden.iter().map(key).collect(),
            plain,
            selfextend,
        }
    }
}

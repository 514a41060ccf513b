//! `selfextend chat`: a conversation that keeps its KV cache between turns.

mod conversation;
mod reader;

use crate::args::chat::ChatArgs;
use crate::error::{CliError, Result};
use crate::setup::Setup;
use crate::{input, interrupt, output};
use conversation::Conversation;
use reader::Reader;
use selfextend::speculate::Draft;
use std::path::Path;

const HELP: &str = "\
/file PATH   attach a text file to the next message
/reset       forget the conversation
/stats       show how much of the context is used, and the speed so far
/help        show this list
/quit        leave, like Ctrl-D and Ctrl-C (during an answer, Ctrl-C stops the answer)";

/// Talks until the input ends.
pub fn chat(args: &ChatArgs) -> Result<()> {
    let options = super::answer::options(&args.generate)?;
    let attached = args.file.as_deref().map(input::file).transpose()?;
    let setup = Setup::new(&args.model)?;
    let options = super::answer::for_model(options, &args.generate, &setup.source)?;
    let (model, draft) = setup.source.load_with(args.generate.draft.as_deref())?;
    let draft = draft.as_ref().map(Draft::new);
    let mut conversation = Conversation::new(args, &setup, &model, draft, options)?;
    if let Some(text) = attached {
        conversation.attach(text);
    }
    let mut reader = Reader::new()?;
    if reader.is_interactive() {
        output::note(&format!(
            "{}: type a message, or /help.",
            args.model.load.model
        ));
    }
    while let Some(line) = reader.line()? {
        match step(&mut conversation, &line, reader.is_interactive()) {
            Ok(true) => {}
            Ok(false) => break,
            // In a pipe, the lines after an error would answer something else.
            Err(error @ (CliError::Usage(_) | CliError::Failure(_))) if reader.is_interactive() => {
                output::error(&error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Handles a line; returns whether to go on.
fn step(conversation: &mut Conversation, line: &str, interactive: bool) -> Result<bool> {
    let line = line.trim();
    match line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(word, rest)| (word, rest.trim()))
    {
        ("", _) => {}
        ("/quit" | "/exit", _) => return Ok(false),
        ("/help", _) => output::note(HELP),
        ("/reset", _) => {
            conversation.reset()?;
            output::note("note: the conversation was forgotten");
        }
        ("/stats", _) => output::note(&conversation.statistics()),
        ("/file", "") => return Err(CliError::usage("/file needs the path of a text file")),
        ("/file", path) => attach(conversation, path)?,
        (command, _) if command.starts_with('/') && !command[1..].contains('/') => {
            return Err(CliError::usage(format!(
                "unknown command {command}; /help lists the commands"
            )));
        }
        _ => say(conversation, line, interactive)?,
    }
    Ok(true)
}

fn attach(conversation: &mut Conversation, path: &str) -> Result<()> {
    let text = input::file(Path::new(path))?;
    output::note(&format!(
        "note: {path} ({} characters) goes with the next message",
        text.chars().count()
    ));
    conversation.attach(text);
    Ok(())
}

/// One turn. Ctrl-C at a terminal ends the turn, in a pipe the process.
fn say(conversation: &mut Conversation, message: &str, interactive: bool) -> Result<()> {
    let mode = if interactive {
        interrupt::Mode::Ask
    } else {
        interrupt::Mode::Exit
    };
    let _scope = interrupt::scope(mode);
    let mut ends_line = true;
    let turn = conversation.turn(message, &mut |piece| {
        ends_line = piece.ends_with('\n');
        output::text(piece)
    });
    if !ends_line {
        output::text("\n")?;
    }
    match turn {
        Ok(statistics) => output::note(&statistics),
        Err(CliError::Interrupted) if interactive => {
            output::note("\nnote: stopped; the message was forgotten")
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

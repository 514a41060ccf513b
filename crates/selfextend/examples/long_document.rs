//! Asks about a text of any length: `long_document FILE [QUESTION] [MODEL]`. A text beyond the
//! trained window is read under SelfExtend, with settings chosen for its length.

use selfextend::hub::DEFAULT_MODEL;
use selfextend::{ContextRequest, GenerateOptions, TextModel};
use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a text file")?;
    let question = arguments.next().unwrap_or("Summarise this.".into());
    let model = arguments.next().unwrap_or(DEFAULT_MODEL.into());
    ask(&model, &file, &question, &mut stdout())
}

/// Reads the file, asks, and streams the answer.
pub fn ask(
    model: &str,
    file: &str,
    question: &str,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let model = TextModel::open(model)?;
    let text = std::fs::read_to_string(file)?;
    let prompt = model.encode_prompt(&format!("{text}\n\n{question}"))?;
    let options = GenerateOptions::new().with_max_tokens(200);

    let request = ContextRequest::new().with_needed(prompt.len() + options.max_tokens);
    let extension = request.resolve(model.model.config().trained_window)?;
    eprintln!("{} tokens: {extension}", prompt.len());

    let mut session = model.model.session(extension)?;
    // All but the last token with a word about the progress; a callback may also stop the work.
    let (last, read) = prompt.split_last().ok_or("an empty prompt")?;
    session.append_with(read, |done| {
        eprint!("\r{done} of {} tokens read", prompt.len());
        Ok(())
    })?;
    eprintln!();
    for piece in model.answer_tokens(&mut session, &[*last], &options)? {
        write!(out, "{}", piece?)?;
        out.flush()?;
    }
    writeln!(out)?;
    Ok(())
}

//! Answers a question: `answer [MODEL] [QUESTION]`, the model by path, known name or hub id.

use selfextend::hub::DEFAULT_MODEL;
use selfextend::{GenerateOptions, TextModel};
use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or(DEFAULT_MODEL.into());
    let question = arguments.next().unwrap_or("Why is the sky blue?".into());
    answer(&model, &question, &mut stdout())
}

/// Streams the answer.
pub fn answer(model: &str, question: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let model = TextModel::open(model)?;
    let mut session = model.session(model.model.config().trained_window)?;
    for piece in model.answer(&mut session, question, &GenerateOptions::default())? {
        write!(out, "{}", piece?)?;
        out.flush()?;
    }
    writeln!(out)?;
    Ok(())
}

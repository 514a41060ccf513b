//! Where the lines of a conversation come from.

use crate::error::{CliError, Result};
use crate::{input, output};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;

/// A terminal with line editing, or a pipe.
pub enum Reader {
    /// A terminal.
    Terminal {
        /// The line editor, which owns the terminal only while a line is read.
        editor: Box<Editor<(), FileHistory>>,
        /// The file of the history, if there is one.
        history: Option<PathBuf>,
    },
    /// A pipe or a file.
    Pipe,
}

impl Reader {
    /// The reader for the present stdin.
    pub fn new() -> Result<Self> {
        if input::stdin_is_piped() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_config(config)
            .map_err(|error| CliError::failure(format!("no terminal: {error}")))?;
        let history = history_file();
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    /// Whether a person types.
    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; `None` at the end.
    pub fn line(&mut self) -> Result<Option<String>> {
        match self {
            Self::Pipe => piped_line(),
            Self::Terminal { editor, history } => match editor.readline("> ") {
                Ok(line) => {
                    if let Some(path) = history {
                        // A conversation goes on without its history.
                        let _ = editor.append_history(path);
                    }
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(CliError::failure(format!(
                    "cannot read the terminal: {error}"
                ))),
            },
        }
    }
}

fn piped_line() -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let count = io::stdin().lock().read_until(b'\n', &mut bytes);
    match count.map_err(|error| CliError::failure(format!("cannot read stdin: {error}")))? {
        0 => Ok(None),
        _ => input::checked(bytes, "a line of stdin").map(Some),
    }
}

/// The history in the user's data directory, which is created if missing.
fn history_file() -> Option<PathBuf> {
    let dir = dirs::data_dir()?.join("selfextend");
    if let Err(error) = fs::create_dir_all(&dir) {
        output::note(&format!(
            "note: no history is kept: {}: {error}",
            dir.display()
        ));
        return None;
    }
    Some(dir.join("history.txt"))
}

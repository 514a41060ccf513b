//! The tasks: each makes [`Sample`](crate::Sample)s for a model from its settings.

pub mod ablation;
pub mod choice;
pub mod compare;
pub mod leval;
pub mod longbench;
pub mod needle;
pub mod passkey;
pub mod perplexity;
pub mod ruler;

use crate::error::{EvalError, Result};
use selfextend::TextModel;
use selfextend::chat_template::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// From text to the tokens a model is asked with.
pub struct Prompter<'a> {
    model: &'a TextModel,
    chat: bool,
}

impl<'a> Prompter<'a> {
    /// With `chat`, texts become a user's message under the model's chat template.
    ///
    /// # Errors
    /// `chat` with a model that has no chat template.
    pub fn new(model: &'a TextModel, chat: bool) -> Result<Self> {
        if chat && model.template.is_none() {
            return Err(EvalError::settings(
                "the model has no chat template: leave --chat away",
            ));
        }
        Ok(Self { model, chat })
    }

    /// The model.
    pub fn model(&self) -> &TextModel {
        self.model
    }

    /// The tokens of a text, and of the words with which the answer begins.
    ///
    /// # Errors
    /// Text the tokenizer cannot take, a conversation the template refuses.
    pub fn tokens(&self, text: &str, answer_prefix: &str) -> Result<Vec<u32>> {
        if !self.chat {
            return Ok(self.model.encode(&format!("{text}{answer_prefix}"))?);
        }
        let message = Message {
            role: "user".into(),
            content: text.into(),
        };
        let mut tokens = self.model.encode_chat(&[message])?.unwrap_or_default();
        if !answer_prefix.is_empty() {
            // The template ends where a word begins.
            let prefix = self.model.tokenizer.encode(answer_prefix.trim_start());
            tokens.extend(prefix.map_err(selfextend::Error::from)?);
        }
        Ok(tokens)
    }
}

/// A text of as many units as fit into `limit` tokens.
pub(crate) struct Fitted<T> {
    pub(crate) made: T,
    pub(crate) tokens: Vec<u32>,
}

/// Finds the largest text of at most `limit` tokens, to within a few tokens or one unit:
/// `make(units)` gives the text of so many units and its tokens, which grow with them.
///
/// # Errors
/// What `make` returns, and a limit that not even the text of no units keeps.
pub(crate) fn fit<T>(
    limit: usize,
    what: &str,
    mut make: impl FnMut(usize) -> Result<(T, Vec<u32>)>,
) -> Result<Fitted<T>> {
    let (made, tokens) = make(0)?;
    if tokens.len() > limit {
        return Err(EvalError::settings(format!(
            "{what} takes {} tokens at least, more than the {limit} there are",
            tokens.len()
        )));
    }
    let mut best = (0, Fitted { made, tokens });
    let close = (limit / 500).max(2);
    let mut too_many = usize::MAX;
    // Units per token, from what was tried last; low at first, so that the first text is not one
    // that some generator cannot make.
    let mut slope = 0.1;
    let mut tried = (0, best.1.tokens.len());
    while limit - best.1.tokens.len() > close && too_many - best.0 > 1 {
        let room = limit as f64 - tried.1 as f64;
        let guess = tried.0 as f64 + room * slope;
        // Never outside what is known, and never the same again.
        let units = (guess.max(0.0) as usize).clamp(best.0 + 1, (too_many - 1).min(1 << 40));
        let (made, tokens) = make(units)?;
        if tokens.len() != tried.1 && units != tried.0 {
            slope = (units as f64 - tried.0 as f64) / (tokens.len() as f64 - tried.1 as f64);
        } else {
            slope *= 2.0;
        }
        tried = (units, tokens.len());
        if tokens.len() <= limit {
            best = (units, Fitted { made, tokens });
        } else {
            too_many = units;
            if too_many - best.0 > 1 && slope <= 0.0 {
                slope = 1.0;
            }
        }
    }
    Ok(best.1)
}

/// A text file's contents.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or is empty.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| EvalError::Read {
        path: path.into(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        EvalError::file(path, format!("not UTF-8 at byte {at}"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(EvalError::file(path, "there is no text in it"));
    }
    Ok(text.to_owned())
}

/// The files given, with folders replaced by the files in them that end in `.extension`, by name.
///
/// # Errors
/// What is not there, and folders without such files.
pub fn files(paths: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let read = |source| EvalError::Read {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(path).map_err(read)?.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(read)?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()).map_err(read));
        let mut inside = entries.collect::<Result<Vec<_>>>()?;
        inside.retain(|file| file.extension().is_some_and(|found| found == extension));
        inside.sort();
        if inside.is_empty() {
            let reason = format!("no .{extension} files in this folder");
            return Err(EvalError::file(path, reason));
        }
        found.append(&mut inside);
    }
    match found.is_empty() {
        true => Err(EvalError::settings("no files given")),
        false => Ok(found),
    }
}

/// The name of a file without its extension.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// One line of a JSON-lines file.
pub(crate) struct Line<'a> {
    path: &'a Path,
    /// From 1.
    number: usize,
    value: Value,
}

/// The objects of a JSON-lines file; empty lines are passed over.
pub(crate) fn json_lines(path: &Path) -> Result<Vec<Line<'_>>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let number = n + 1;
            let value: Value = serde_json::from_str(line)
                .map_err(|error| EvalError::line(path, number, format!("broken JSON: {error}")))?;
            match value.is_object() {
                true => Ok(Line {
                    path,
                    number,
                    value,
                }),
                false => Err(EvalError::line(path, number, "not a JSON object")),
            }
        })
        .collect()
}

impl Line<'_> {
    pub(crate) fn error(&self, reason: impl Into<String>) -> EvalError {
        EvalError::line(self.path, self.number, reason)
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn field<T>(&self, name: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let Some(value) = self.value.get(name) else {
            return Err(self.error(format!("the field {name:?} is missing")));
        };
        read(value).ok_or_else(|| self.error(format!("the field {name:?} is not {kind}")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<String> {
        self.field(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn index(&self, name: &str, below: usize) -> Result<usize> {
        let index = self.field(name, "a whole number", Value::as_u64)? as usize;
        match index < below {
            true => Ok(index),
            false => Err(self.error(format!("{name} is {index}, but there are only {below}"))),
        }
    }

    /// A list of texts, not empty.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let texts: Vec<String> = self.field(name, "a list of texts", |value| {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect()
        })?;
        match texts.is_empty() {
            true => Err(self.error(format!("the list {name:?} is empty"))),
            false => Ok(texts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Units of uneven length, as words are.
        #[test]
        fn texts_fill_their_limit(
            limit in 50usize..5000,
            fixed in 0usize..50,
            sizes in prop::collection::vec(1usize..4, 7),
        ) {
            let size = |units: usize| {
                fixed + (0..units).map(|n| sizes[n % sizes.len()]).sum::<usize>()
            };
            let mut tries = 0;
            let found = fit(limit, "it", |units| {
                tries += 1;
                Ok((units, vec![0; size(units)]))
            }).unwrap();
            let close = (limit / 500).max(2);
            prop_assert!(found.tokens.len() <= limit);
            prop_assert!(limit - found.tokens.len() <= close || size(found.made + 1) > limit);
            prop_assert!(tries < 40, "{}", tries);
        }
    }

    /// As RULER's lists of words, of which there are only so many.
    #[test]
    fn no_text_is_asked_for_far_beyond_the_limit() {
        let most = |units: usize| match units {
            0..4000 => Ok((units, vec![0; 12 * units])),
            _ => Err(EvalError::settings("no such words")),
        };
        assert_eq!(fit(16384, "it", most).unwrap().made, 16384 / 12);
    }

    #[test]
    fn a_limit_nothing_keeps_is_refused() {
        let error = fit(5, "the question", |_| Ok(((), vec![0; 9])))
            .err()
            .unwrap();
        assert!(error.to_string().contains("takes 9 tokens"), "{error}");
    }

    #[test]
    fn broken_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"a\": \"x\"}\n\n{\"a\": \n").unwrap();
        let error = json_lines(&path).err().unwrap().to_string();
        assert!(error.contains("a.jsonl, line 3: broken JSON"), "{error}");
        std::fs::write(&path, "{\"a\": 1}\n").unwrap();
        let lines = json_lines(&path).unwrap();
        let error = lines[0].text("a").unwrap_err().to_string();
        assert!(
            error.contains("line 1: the field \"a\" is not a text"),
            "{error}"
        );
        let error = lines[0].texts("b").unwrap_err().to_string();
        assert!(error.contains("\"b\" is missing"), "{error}");
        std::fs::write(&path, " \n").unwrap();
        assert!(
            json_lines(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("no text")
        );
    }
}

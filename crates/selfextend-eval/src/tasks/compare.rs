//! Every method at every length: perplexity of texts, and passkeys.

use super::data::{read_text, stem};
use super::haystack::check_depths;
use super::passkey;
use super::perplexity::{Mode, Perplexity};
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::sample::Sample;
use selfextend::method::table::{Kind, METHODS};
use selfextend::{Extension, Method};
use std::path::PathBuf;

/// The name of the task in results.
pub const TASK: &str = "compare";
/// The tag of samples whose perplexity is measured.
pub(crate) const TEXT: &str = "text";
/// The tag of samples that ask for a passkey.
pub(crate) const PASSKEY: &str = "passkey";

/// What methods are compared on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Compare {
    /// Texts whose perplexity is measured.
    pub files: Vec<PathBuf>,
    /// Segments of each length from each file.
    pub segments: usize,
    /// Tokens of context.
    pub lengths: Vec<usize>,
    /// Passkeys at these lengths; the sweep's own lengths are ignored.
    pub passkey: Option<passkey::Sweep>,
}

impl Compare {
    /// Passkeys alone, as [`passkey::Sweep::new`] asks for them; add texts to measure perplexity.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self {
            files: Vec::new(),
            segments: 1,
            passkey: Some(passkey::Sweep::new(lengths.clone())),
            lengths,
        }
    }

    /// The samples, and notes on what was left out because a text or a length is too short.
    ///
    /// # Errors
    /// Files that cannot be read, depths outside 0 to 1, and no samples at all.
    pub fn samples(&self, prompter: &Prompter) -> Result<(Vec<Sample>, Vec<String>)> {
        let (mut samples, mut left_out) = (Vec::new(), Vec::new());
        for path in &self.files {
            let tokens = prompter.model().encode(&read_text(path)?)?.len();
            let (fit, too_long): (Vec<_>, Vec<_>) =
                self.lengths.iter().partition(|&&length| length <= tokens);
            if !too_long.is_empty() {
                left_out.push(format!(
                    "{} has {tokens} tokens, too few for {}",
                    stem(path),
                    in_words(&too_long)
                ));
            }
            let segments = self.segments;
            let mode = Mode::Single { segments };
            let text = Perplexity::new(vec![path.clone()], fit, mode);
            samples.extend(tagged(text.samples(prompter.model())?, TEXT));
        }
        if let Some(sweep) = &self.passkey {
            check_depths(&sweep.depths)?;
            for &length in &self.lengths {
                let sweep = passkey::Sweep {
                    lengths: vec![length],
                    ..sweep.clone()
                };
                match sweep.samples(prompter) {
                    Ok(some) => samples.extend(tagged(some, PASSKEY)),
                    Err(EvalError::Settings(reason)) => {
                        left_out.push(format!("no passkey at {length} tokens: {reason}"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if samples.is_empty() {
            if left_out.is_empty() {
                left_out.push("there are neither texts nor passkeys".into());
            }
            let reason = format!("nothing to compare methods on: {}", left_out.join("; "));
            return Err(EvalError::settings(reason));
        }
        Ok((samples, left_out))
    }
}

fn tagged(samples: Vec<Sample>, task: &'static str) -> impl Iterator<Item = Sample> {
    samples.into_iter().map(move |mut sample| {
        sample.id = format!("{task}/{}", sample.id);
        sample.tags.insert("task".into(), task.into());
        sample
    })
}

fn in_words(lengths: &[usize]) -> String {
    let words: Vec<_> = lengths.iter().map(usize::to_string).collect();
    words.join(", ")
}

/// The lengths that are compared by default: the trained window, doubled as often as it stays
/// below `context`, and `context` itself (four trained windows if not given).
pub fn default_lengths(trained: usize, context: Option<usize>) -> Vec<usize> {
    let context = context.unwrap_or(4 * trained);
    let doubled = std::iter::successors(Some(trained), |length| length.checked_mul(2));
    let mut lengths: Vec<_> = doubled.take_while(|&length| length < context).collect();
    lengths.push(context);
    lengths
}

/// Every method that works with its automatic settings alone, and notes on those that are left
/// out: methods that need a file, and methods that are the same as an earlier one at all lengths.
///
/// # Errors
/// None in practice: names that no method has.
pub fn default_methods(trained: usize, lengths: &[usize]) -> Result<(Vec<Method>, Vec<String>)> {
    let mut methods: Vec<(Method, Vec<Option<Extension>>)> = Vec::new();
    let mut left_out = Vec::new();
    for entry in METHODS {
        if entry.keys.iter().any(|key| key.kind == Kind::Numbers) {
            left_out.push(format!(
                "{} needs numbers found for the model: name it with its scales",
                entry.name
            ));
            continue;
        }
        if entry.keys.iter().any(|key| key.kind == Kind::File) {
            left_out.push(format!(
                "{} needs a file: name it with its factors",
                entry.name
            ));
            continue;
        }
        let method: Method = entry.name.parse()?;
        let at = |&length: &usize| method.resolve(trained, length).ok();
        let extensions: Vec<_> = lengths.iter().map(at).collect();
        let is_same = |theirs: &[Option<Extension>]| {
            let mut both = theirs.iter().zip(&extensions);
            both.all(|pair| matches!(pair, (Some(a), Some(b)) if a.runs_like(b)))
        };
        match methods.iter().find(|(_, theirs)| is_same(theirs)) {
            Some((same, _)) => left_out.push(format!(
                "{} is the same as {same} at these lengths",
                entry.name
            )),
            None => methods.push((method, extensions)),
        }
    }
    let methods = methods.into_iter().map(|(method, _)| method).collect();
    Ok((methods, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_double_up_to_the_context() {
        assert_eq!(default_lengths(2048, None), [2048, 4096, 8192]);
        assert_eq!(default_lengths(2048, Some(6000)), [2048, 4096, 6000]);
        assert_eq!(default_lengths(2048, Some(1000)), [1000]);
    }

    #[test]
    fn methods_that_are_the_same_run_once() {
        let (methods, left_out) = default_methods(512, &[512, 1024, 2048]).unwrap();
        let names: Vec<_> = methods.iter().map(Method::to_string).collect();
        assert!(names.len() >= 13 && names[0] == "plain", "{names:?}");
        assert!(!names.iter().any(|name| name == "dynamic-ntk"), "{names:?}");
        let said = |words: &str| left_out.iter().any(|line| line.contains(words));
        assert!(said("longrope needs a file"), "{left_out:?}");
        assert!(said("dynamic-ntk is the same as ntk"), "{left_out:?}");
    }
}

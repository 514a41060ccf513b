//! Perplexity of text files at given lengths (the paper's table 1).

use super::data::{read_text, stem};
use crate::error::{EvalError, Result};
use crate::sample::{Ask, Sample, Tags};
use selfextend::TextModel;
use std::path::PathBuf;

/// What is measured.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Perplexity {
    /// The texts.
    pub files: Vec<PathBuf>,
    /// Tokens of context.
    pub lengths: Vec<usize>,
    /// How much of a file is scored.
    pub mode: Mode,
}

/// How much of a file is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Segments of the length, one after another from the start of the file, each scored from its
    /// second token on.
    Single {
        /// The most segments of a file.
        segments: usize,
    },
    /// A window of the length slides by `stride` tokens; each window is scored where the one
    /// before ended (Press et al., arXiv 2108.12409, as the paper's table 1).
    Sliding {
        /// Tokens from one window to the next.
        stride: usize,
        /// The most windows of a file.
        windows: usize,
    },
}

impl Perplexity {
    /// These texts at these lengths.
    pub fn new(files: Vec<PathBuf>, lengths: Vec<usize>, mode: Mode) -> Self {
        Self {
            files,
            lengths,
            mode,
        }
    }

    /// The samples, file by file, the shortest length first.
    ///
    /// # Errors
    /// Files that cannot be read or are shorter than a length.
    pub fn samples(&self, model: &TextModel) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for path in &self.files {
            let text = model.encode(&read_text(path)?)?;
            let name = stem(path);
            for &length in &self.lengths {
                if text.len() < length || length < 2 {
                    let reason = format!(
                        "a text of {} tokens is too short for the length {length}",
                        text.len()
                    );
                    return Err(EvalError::file(path, reason));
                }
                for (n, (start, from)) in self.windows(text.len(), length).enumerate() {
                    samples.push(Sample {
                        id: format!("{name}/{length}/{n}"),
                        tags: Tags::from([
                            ("text".into(), name.clone().into()),
                            ("length".into(), length.into()),
                        ]),
                        context: length,
                        ask: Ask::Likelihood {
                            tokens: text[start..start + length].to_vec(),
                            from,
                        },
                    });
                }
            }
        }
        Ok(samples)
    }

    /// The start of each window and the first token of it that counts.
    fn windows(&self, text: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
        let (step, count) = match self.mode {
            Mode::Single { segments } => (length, segments),
            Mode::Sliding { stride, windows } => (stride.clamp(1, length), windows),
        };
        let is_sliding = matches!(self.mode, Mode::Sliding { .. });
        let starts = (0..).map(move |n| n * step);
        let starts = starts.take_while(move |start| start + length <= text);
        starts.take(count.max(1)).map(move |start| {
            let from = if is_sliding && start > 0 {
                length - step
            } else {
                1
            };
            (start, from.max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(mode: Mode, text: usize, length: usize) -> Vec<(usize, usize)> {
        let task = Perplexity::new(Vec::new(), Vec::new(), mode);
        task.windows(text, length).collect()
    }

    #[test]
    fn windows_score_every_token_once() {
        let sliding = Mode::Sliding {
            stride: 3,
            windows: 99,
        };
        assert_eq!(windows(sliding, 17, 10), [(0, 1), (3, 7), (6, 7)]);
        let single = Mode::Single { segments: 2 };
        assert_eq!(windows(single, 35, 10), [(0, 1), (10, 1)]);
    }
}

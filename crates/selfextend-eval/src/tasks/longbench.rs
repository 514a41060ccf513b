//! Tasks in LongBench's format (Bai et al., arXiv 2308.14508), with its prompts, answer lengths
//! and scores. Its data files are named after their tasks; the prompts and lengths are read from
//! its `dataset2prompt.json` and `dataset2maxlen.json`.

use super::data::{Line, first, json_lines, read_json, stem};
use super::fit::fit;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::{
    chinese_f1, chinese_rouge_l, classification, code_similarity, count_accuracy,
    retrieval_accuracy, rouge_l, token_f1,
};
use crate::sample::{Ask, Sample, Score, Tags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Data files, and how they are asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LongBench {
    /// The `.jsonl` files, named after their tasks.
    pub files: Vec<PathBuf>,
    /// `dataset2prompt.json`.
    pub prompts: PathBuf,
    /// `dataset2maxlen.json`.
    pub max_lengths: PathBuf,
    /// The most items of a file, from its start; 0 for all.
    pub items: usize,
}

/// How an answer is scored.
type Metric = fn(&str, &str, &[String]) -> f64;

/// The authors' metric of a task, and whether they score only the first line of an answer.
fn metric(task: &str) -> Option<(Metric, bool)> {
    let f1: Metric = |answer, right, _| token_f1(answer, right);
    let rouge: Metric = |answer, right, _| rouge_l(answer, right);
    Some(match task {
        "narrativeqa" | "qasper" | "multifieldqa_en" | "hotpotqa" | "2wikimqa" | "musique" => {
            (f1, false)
        }
        "triviaqa" => (f1, true),
        "gov_report" | "qmsum" | "multi_news" => (rouge, false),
        "samsum" => (rouge, true),
        "multifieldqa_zh" => (|answer, right, _| chinese_f1(answer, right), false),
        "dureader" | "vcsum" => (|answer, right, _| chinese_rouge_l(answer, right), false),
        "trec" | "lsht" => (classification, true),
        "passage_count" => (|answer, right, _| count_accuracy(answer, right), false),
        "passage_retrieval_en" => (
            |answer, right, _| retrieval_accuracy(answer, right, "Paragraph "),
            false,
        ),
        "passage_retrieval_zh" => (
            |answer, right, _| retrieval_accuracy(answer, right, "段落"),
            false,
        ),
        "lcc" | "repobench-p" => (|answer, right, _| code_similarity(answer, right), false),
        _ => return None,
    })
}

/// Tasks that the authors ask without a chat template, even of chat models.
const NEVER_CHAT: [&str; 6] = ["trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"];

impl LongBench {
    /// All items of these files, with prompts and lengths from the authors' files.
    pub fn new(files: Vec<PathBuf>, prompts: PathBuf, max_lengths: PathBuf) -> Self {
        Self {
            files,
            prompts,
            max_lengths,
            items: 0,
        }
    }

    /// The samples, file by file.
    ///
    /// # Errors
    /// Data that is not in LongBench's format, with file and line; tasks without a prompt, a length
    /// or a metric.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let prompts: BTreeMap<String, String> = read_json(&self.prompts)?;
        let lengths: BTreeMap<String, usize> = read_json(&self.max_lengths)?;
        let mut samples = Vec::new();
        for path in &self.files {
            let task = stem(path);
            // LongBench-E's files hold the same tasks.
            let name = task.strip_suffix("_e").unwrap_or(&task).to_owned();
            let missing = |file: &Path, what: &str| {
                let reason = format!("there is no {what} for the task {name:?}");
                EvalError::file(file, reason)
            };
            let prompt = prompts.get(&name);
            let max_tokens = lengths.get(&name);
            let ask = Asked {
                name: &name,
                prompt: prompt.ok_or_else(|| missing(&self.prompts, "prompt"))?,
                max_tokens: *max_tokens.ok_or_else(|| missing(&self.max_lengths, "length"))?,
                metric: metric(&name).ok_or_else(|| missing(path, "metric"))?,
            };
            for line in first(&json_lines(path)?, self.items) {
                samples.push(ask.sample(prompter, line)?);
            }
        }
        Ok(samples)
    }
}

/// What the samples of a task have in common.
struct Asked<'a> {
    name: &'a str,
    prompt: &'a str,
    max_tokens: usize,
    metric: (Metric, bool),
}

impl Asked<'_> {
    fn sample(&self, prompter: &Prompter, line: &Line) -> Result<Sample> {
        let answers = line.texts("answers")?;
        let classes = if line.has("all_classes") {
            line.texts("all_classes")?
        } else {
            Vec::new()
        };
        let text = fill(self.prompt, &line.text("context")?, &line.text("input")?);
        let prompter = if NEVER_CHAT.contains(&self.name) {
            &Prompter::new(prompter.model(), false)?
        } else {
            prompter
        };
        let prompt = prompter.tokens(&text, "")?;
        let window = prompter.model().model.config().trained_window;
        let room = window.saturating_sub(self.max_tokens);
        let without_extension = if prompt.len() > room {
            Some(cut_middle(prompter, &text, room)?)
        } else {
            None
        };
        Ok(Sample {
            id: format!("{}/{}", self.name, line.number()),
            tags: Tags::from([("task".into(), self.name.into())]),
            context: prompt.len() + self.max_tokens,
            ask: Ask::Answer {
                prompt,
                without_extension,
                max_tokens: self.max_tokens,
                // The authors stop these at the end of a line, because models go on with the next
                // example.
                stop: if self.name == "samsum" {
                    vec!["\n".into()]
                } else {
                    Vec::new()
                },
                expected: answers.clone(),
                answer: Default::default(),
                score: self.score(answers, classes),
            },
        })
    }

    fn score(&self, answers: Vec<String>, classes: Vec<String>) -> Score {
        let (metric, first_line) = self.metric;
        Box::new(move |text| {
            let mut lines = text.trim_start_matches('\n').split('\n');
            let text = if first_line {
                lines.next().unwrap_or_default()
            } else {
                text
            };
            let scores = answers.iter().map(|answer| metric(text, answer, &classes));
            scores.fold(0.0, f64::max)
        })
    }
}

/// The prompt with its fields filled in, all at once: a context may contain `{input}`.
fn fill(prompt: &str, context: &str, input: &str) -> String {
    let mut text = String::with_capacity(prompt.len() + context.len() + input.len());
    let mut rest = prompt;
    while let Some(at) = rest.find('{') {
        text += &rest[..at];
        rest = &rest[at..];
        let fields = [("{context}", context), ("{input}", input)];
        match fields.iter().find(|(field, _)| rest.starts_with(field)) {
            Some((field, value)) => {
                text += value;
                rest = &rest[field.len()..];
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text + rest
}

/// The tokens of a text without its middle, as many as fit.
fn cut_middle(prompter: &Prompter, text: &str, room: usize) -> Result<Vec<u32>> {
    let chars: Vec<char> = text.chars().collect();
    let found = fit(room, "the prompt", |kept| {
        let kept = kept.min(chars.len());
        let half = kept / 2;
        let text: String = chars[..kept - half]
            .iter()
            .chain(&chars[chars.len() - half..])
            .collect();
        Ok(((), prompter.tokens(&text, "")?))
    })?;
    Ok(found.tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_filled_once() {
        assert_eq!(
            fill("a {context} b {input} {x}", "{input}", "{context}"),
            "a {input} b {context} {x}"
        );
    }

    #[test]
    fn the_best_of_several_answers_counts() {
        let score = |task: &'static str, text: &str, answers: &[&str], classes: &[&str]| {
            let owned = |texts: &[&str]| {
                texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>()
            };
            let asked = Asked {
                name: task,
                prompt: "",
                max_tokens: 1,
                metric: metric(task).unwrap(),
            };
            asked.score(owned(answers), owned(classes))(text)
        };
        assert_eq!(score("hotpotqa", "Paris", &["London", "Paris"], &[]), 1.0);
        assert_eq!(
            score("triviaqa", "\nParis\nand more words", &["Paris"], &[]),
            1.0
        );
        assert_eq!(score("trec", "Sport", &["Sport"], &["Sport", "Food"]), 1.0);
        assert_eq!(score("passage_count", "7", &["7"], &[]), 1.0);
        assert_eq!(
            score("passage_retrieval_en", "Paragraph 3", &["Paragraph 3"], &[]),
            1.0
        );
        assert_eq!(score("lcc", "x = 1", &["x = 1"], &[]), 1.0);
        assert_eq!(score("multifieldqa_zh", "北京。", &["北京"], &[]), 1.0);
        assert!(score("vcsum", "会议讨论预算", &["会议讨论预算"], &[]) > 0.999);
        assert!(metric("hotpotqa_zh").is_none());
    }
}

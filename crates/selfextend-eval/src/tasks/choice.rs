//! The short-context control: multiple choice by log-likelihood, as EleutherAI's
//! lm-evaluation-harness asks it (zero-shot; MMLU also with examples), and LAMBADA's last word.
//! Within the trained window SelfExtend must not hurt.

use super::data::{Line, json_lines, read_text, stem};
use crate::error::{EvalError, Result};
use crate::random::Random;
use crate::sample::{Ask, Choice, Sample, Tags};
use selfextend::TextModel;
use std::path::{Path, PathBuf};

/// Data files, and how many of their questions are asked.
///
/// A `.jsonl` file holds `query`, `choices` and `gold` (ARC, PIQA, OpenBookQA), `context_options`,
/// `continuation` and `gold` (Winogrande), or `context` and `continuation` (LAMBADA); a `.csv`
/// file MMLU's columns, the question, four choices and a letter; a `.txt` file HellaSwag's blocks
/// of six lines, the context, the number of the right ending, and four endings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChoiceTask {
    /// The files, one for each task.
    pub files: Vec<PathBuf>,
    /// The most questions of a file, drawn with the seed; 0 for all.
    pub items: usize,
    /// Seed of the draw.
    pub seed: u64,
    /// Tokens of context that methods are given; questions must fit.
    pub context: usize,
    /// Answered questions before each of MMLU's: the first of its subject's `_dev.csv`, which is
    /// looked for beside the file and in `../dev`. Its authors take five.
    pub shots: usize,
}

/// A question before it is tokens.
struct Item {
    /// A context and a continuation for each choice.
    choices: Vec<(String, String)>,
    gold: usize,
}

impl ChoiceTask {
    /// All questions of these files within a context, without examples.
    pub fn new(files: Vec<PathBuf>, context: usize) -> Self {
        Self {
            files,
            items: 0,
            seed: 0,
            context,
            shots: 0,
        }
    }

    /// The samples, file by file.
    ///
    /// # Errors
    /// Data that is not in the format, with file and line; questions longer than the context.
    pub fn samples(&self, model: &TextModel) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for path in &self.files {
            let items = read(path, self.shots)?;
            for index in self.drawn(items.len()) {
                samples.push(self.sample(model, path, index, &items[index])?);
            }
        }
        Ok(samples)
    }

    /// Which of so many questions are asked, in order.
    fn drawn(&self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        if self.items == 0 || self.items >= count {
            return all;
        }
        Random::new(self.seed).shuffle(&mut all);
        all.truncate(self.items);
        all.sort_unstable();
        all
    }

    fn sample(&self, model: &TextModel, path: &Path, index: usize, item: &Item) -> Result<Sample> {
        let name = stem(path);
        let choices = item.choices.iter();
        let choices = choices.map(|(context, continuation)| choice(model, context, continuation));
        let choices = choices.collect::<Result<Vec<_>>>()?;
        let longest = choices
            .iter()
            .map(|it| it.prompt.len() + it.continuation.len())
            .max();
        if let Some(tokens) = longest
            && tokens > self.context
        {
            let reason = format!(
                "question {} takes {tokens} tokens, more than the context of {}",
                index + 1,
                self.context
            );
            return Err(EvalError::file(path, reason));
        }
        Ok(Sample {
            id: format!("{name}/{index}"),
            tags: Tags::from([("task".into(), name.into())]),
            context: self.context,
            ask: Ask::Choice {
                choices,
                gold: item.gold,
            },
        })
    }
}

/// The tokens of context and continuation together, split where the context's own tokens end. White
/// space at the end of the context counts as the continuation's, as in lm-evaluation-harness:
/// tokens begin with spaces, few end with them.
fn choice(model: &TextModel, context: &str, continuation: &str) -> Result<Choice> {
    // Without the space that joins it to the context.
    let text = continuation.strip_prefix(' ').unwrap_or(continuation);
    let prompt = model.encode(context.trim_end())?;
    let whole = model.encode(&format!("{context}{continuation}"))?;
    let cut = prompt.len().clamp(1, whole.len().max(2) - 1);
    Ok(Choice {
        continuation: whole[cut..].to_vec(),
        prompt: whole[..cut].to_vec(),
        characters: text.chars().count(),
        bytes: text.len(),
    })
}

fn read(path: &Path, shots: usize) -> Result<Vec<Item>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => json_lines(path)?.iter().map(json_item).collect(),
        Some("txt") => hellaswag(path),
        Some("csv") => mmlu(path, shots),
        _ => Err(EvalError::file(
            path,
            "questions come in .jsonl, .txt (HellaSwag) or .csv (MMLU)",
        )),
    }
}

fn json_item(line: &Line) -> Result<Item> {
    if line.has("context_options") {
        let contexts = line.texts("context_options")?;
        let continuation = format!(" {}", line.text("continuation")?.trim_start());
        let gold = line.index("gold", contexts.len())?;
        let choices = contexts
            .into_iter()
            .map(|context| (context, continuation.clone()));
        return Ok(Item {
            choices: choices.collect(),
            gold,
        });
    }
    if line.has("query") {
        let (query, texts) = (line.text("query")?, line.texts("choices")?);
        let gold = line.index("gold", texts.len())?;
        let query = query.trim_end();
        // A statement to be continued has no answer to announce.
        let context = if query.starts_with("Question:") {
            format!("{query}\nAnswer:")
        } else {
            query.to_owned()
        };
        let choices = texts
            .iter()
            .map(|text| (context.clone(), format!(" {}", text.trim_start())));
        return Ok(Item {
            choices: choices.collect(),
            gold,
        });
    }
    let context = line.text("context")?.trim_end().to_owned();
    let continuation = format!(" {}", line.text("continuation")?.trim());
    if context.is_empty() || continuation.len() < 2 {
        return Err(line.error("the context or the continuation is empty"));
    }
    Ok(Item {
        choices: vec![(context, continuation)],
        gold: 0,
    })
}

/// Blocks of six lines, as klosax/hellaswag_text_data writes them.
fn hellaswag(path: &Path) -> Result<Vec<Item>> {
    let text = read_text(path)?;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let blocks = lines.chunks(6).enumerate();
    blocks
        .map(|(n, block)| {
            let at = n * 6 + 1;
            let [context, gold, endings @ ..] = block else {
                return Err(EvalError::line(path, at, "the file ends within a question"));
            };
            if endings.len() != 4 {
                return Err(EvalError::line(path, at, "the file ends within a question"));
            }
            let gold = gold.trim().parse::<usize>().ok().filter(|&gold| gold < 4);
            let gold = gold.ok_or_else(|| {
                EvalError::line(path, at + 1, "not the number of an ending, 0 to 3")
            })?;
            let choices = endings
                .iter()
                .map(|ending| ((*context).to_owned(), format!(" {}", ending.trim_start())));
            Ok(Item {
                choices: choices.collect(),
                gold,
            })
        })
        .collect()
}

/// MMLU's columns (Hendrycks et al., arXiv 2009.03300), with the authors' prompt.
fn mmlu(path: &Path, shots: usize) -> Result<Vec<Item>> {
    let name = stem(path);
    let ends = ["_test", "_val", "_dev"];
    let subject = ends.iter().find_map(|end| name.strip_suffix(end));
    let subject = subject.unwrap_or(&name);
    let mut start = format!(
        "The following are multiple choice questions (with answers) about {}.\n\n",
        subject.replace('_', " ")
    );
    if shots > 0 {
        let examples = examples(path, &format!("{subject}_dev.csv"))?;
        let rows = mmlu_rows(&examples)?;
        if rows.len() < shots {
            let reason = format!("{} questions, but {shots} are to be shown", rows.len());
            return Err(EvalError::file(&examples, reason));
        }
        for (question, gold) in &rows[..shots] {
            start += &format!("{question} {}\n\n", LETTERS[*gold]);
        }
    }
    let items = mmlu_rows(path)?.into_iter().map(|(question, gold)| {
        let choice = |letter| (format!("{start}{question}"), format!(" {letter}"));
        Item {
            choices: LETTERS.map(choice).to_vec(),
            gold,
        }
    });
    Ok(items.collect())
}

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// The file of a subject's examples: beside its questions, or as in the authors' folders.
fn examples(path: &Path, name: &str) -> Result<PathBuf> {
    let beside = path.with_file_name(name);
    let in_dev = path.with_file_name("..").join("dev").join(name);
    [beside, in_dev]
        .into_iter()
        .find(|place| place.exists())
        .ok_or_else(|| {
            let reason =
                format!("examples are to be shown, but there is no {name} beside it or in ../dev");
            EvalError::file(path, reason)
        })
}

/// Questions that end in "Answer:", and the indices of the right letters.
fn mmlu_rows(path: &Path) -> Result<Vec<(String, usize)>> {
    let text = read_text(path)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let rows = reader.records().map(|row| {
        let row = row.map_err(|error| EvalError::file(path, error.to_string()))?;
        let line = row.position().map_or(0, |place| place.line() as usize);
        let columns: Vec<&str> = row.iter().collect();
        let [question, a, b, c, d, answer] = columns[..] else {
            let reason = format!("{} columns instead of 6", columns.len());
            return Err(EvalError::line(path, line, reason));
        };
        let gold = LETTERS.iter().position(|letter| *letter == answer.trim());
        let gold = gold
            .ok_or_else(|| EvalError::line(path, line, "the answer is not a letter from A to D"))?;
        let question = question.trim();
        let text = format!("{question}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:");
        Ok((text, gold))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, contents: &str) -> Result<Vec<Item>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        read(&path, 0)
    }

    fn refused(name: &str, contents: &str) -> String {
        read_as(name, contents).err().unwrap().to_string()
    }

    #[test]
    fn every_format_is_read() {
        let items = read_as(
            "arc.jsonl",
            r#"{"query": "Question: Why?\n", "choices": ["a", "b"], "gold": 1}"#,
        )
        .unwrap();
        assert_eq!(
            items[0].choices[1],
            ("Question: Why?\nAnswer:".into(), " b".into())
        );
        assert_eq!(items[0].gold, 1);
        let items = read_as(
            "w.jsonl",
            r#"{"context_options": ["A so A", "A so B"], "continuation": "won.", "gold": 0}"#,
        )
        .unwrap();
        assert_eq!(items[0].choices[1], ("A so B".into(), " won.".into()));
        let items = read_as(
            "l.jsonl",
            r#"{"context": "I see the ", "continuation": "sea"}"#,
        )
        .unwrap();
        assert_eq!(items[0].choices, [("I see the".into(), " sea".into())]);
        let items = read_as("h.txt", "He sits\n2\na.\nb.\nc.\nd.\n").unwrap();
        assert_eq!((items[0].gold, &*items[0].choices[3].1), (2, " d."));
        let items = read_as("college_physics_test.csv", "\"What, then?\",1,2,3,4,C\n").unwrap();
        assert_eq!(items[0].gold, 2);
        assert!(
            items[0].choices[0]
                .0
                .contains("about college physics.\n\nWhat, then?\nA. 1\n")
        );
    }

    #[test]
    fn examples_come_from_the_subject() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        std::fs::create_dir(place("test")).unwrap();
        std::fs::create_dir(place("dev")).unwrap();
        let test = place("test/high_school_art_test.csv");
        std::fs::write(&test, "Last?,1,2,3,4,C\n").unwrap();
        let missing = read(&test, 1).err().unwrap().to_string();
        assert!(missing.contains("no high_school_art_dev.csv"), "{missing}");
        std::fs::write(
            place("dev/high_school_art_dev.csv"),
            "First?,a,b,c,d,B\nSecond?,e,f,g,h,D\n",
        )
        .unwrap();
        let items = read(&test, 2).unwrap();
        assert_eq!(
            items[0].choices[2],
            (
                "The following are multiple choice questions (with answers) about high school art.\n\n\
                 First?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n\
                 Second?\nA. e\nB. f\nC. g\nD. h\nAnswer: D\n\n\
                 Last?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
                    .into(),
                " C".into()
            )
        );
        let few = read(&test, 3).err().unwrap().to_string();
        assert!(few.contains("2 questions, but 3"), "{few}");
    }

    #[test]
    fn bad_data_is_named() {
        let error = refused(
            "a.jsonl",
            "{\"query\": \"q\", \"choices\": [\"a\"], \"gold\": 1}",
        );
        assert!(
            error.contains("line 1: gold is 1, but there are only 1"),
            "{error}"
        );
        let error = refused("a.jsonl", "{\"context\": \"c\"}");
        assert!(error.contains("\"continuation\" is missing"), "{error}");
        assert!(refused("h.txt", "He sits\n2\na.\n").contains("line 1: the file ends"));
        assert!(refused("h.txt", "He sits\n7\na.\nb.\nc.\nd.\n").contains("line 2"));
        assert!(refused("m.csv", "q,1,2,3,4,A\nq,1,2,3\n").contains("line 2: 4 columns"));
        assert!(refused("m.csv", "q,1,2,3,4,E\n").contains("line 1: the answer"));
        assert!(refused("x.json", "{}").contains(".jsonl"));
    }

    #[test]
    fn draws_are_reproducible_and_ordered() {
        let task = |items, seed| ChoiceTask {
            items,
            seed,
            ..ChoiceTask::new(Vec::new(), 512)
        };
        let drawn = task(5, 1).drawn(100);
        assert_eq!(drawn, task(5, 1).drawn(100));
        assert_ne!(drawn, task(5, 2).drawn(100));
        assert!(drawn.is_sorted() && drawn.len() == 5);
        assert_eq!(task(0, 1).drawn(3), [0, 1, 2]);
    }
}

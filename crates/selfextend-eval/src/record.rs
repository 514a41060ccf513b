//! Results as JSON lines: a header, then one line for each sample as it finishes.

use crate::error::{EvalError, Result};
use crate::sample::{Shard, Tags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The version of the file format.
const FORMAT: u32 = 1;

/// The first line of a results file: everything that must be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the file format.
    pub selfextend_eval: u32,
    /// The version of this crate.
    pub version: String,
    /// The task.
    pub task: String,
    /// Its settings and the model's.
    pub settings: Map<String, Value>,
    /// The methods, in the order in which they run.
    pub methods: Vec<String>,
    /// Samples of all shards together.
    pub samples: usize,
    /// A fingerprint of all samples.
    pub digest: String,
    /// Which part of the results this file holds.
    pub shard: Shard,
}

impl Header {
    pub(crate) const FORMAT: u32 = FORMAT;

    /// What is not the same in another header, in words.
    fn difference(&self, other: &Self) -> Option<String> {
        let (Ok(ours), Ok(theirs)) = (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Some("header".into());
        };
        let flat = |value: &Value| {
            let mut all = value.as_object().cloned().unwrap_or_default();
            if let Some(Value::Object(settings)) = all.remove("settings") {
                all.extend(settings);
            }
            all
        };
        let (ours, theirs) = (flat(&ours), flat(&theirs));
        let keys = ours.keys().chain(theirs.keys());
        // The fingerprint follows from the settings: it is named only where nothing else differs.
        let mut keys: Vec<_> = keys
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .collect();
        keys.sort_by_key(|key| (*key == "digest", *key == "samples"));
        let key = keys.first()?;
        let show = |map: &Map<String, Value>| {
            map.get(*key)
                .map_or("nothing".into(), |value| value.to_string())
        };
        Some(format!("{key} was {}, is {}", show(&ours), show(&theirs)))
    }
}

/// What came of one sample under one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sample's place among all samples of the task.
    pub index: usize,
    /// The sample.
    pub id: String,
    /// The method.
    pub method: String,
    /// What the sample is about.
    pub tags: Tags,
    /// Fingerprint of its tokens.
    pub prompt_hash: String,
    /// Its tokens, without the answer.
    pub tokens: usize,
    /// Tokens taken out of its middle, because they do not fit without extension.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// Tokens that were computed: those it does not share with the sample before.
    pub read: usize,
    /// Seconds they took.
    pub prefill_s: f64,
    /// Seconds the answer took.
    pub decode_s: f64,
    /// Bytes of keys and values at the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_bytes: usize,
    /// The most memory the process held meanwhile, weights included, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<usize>,
    /// What was measured.
    pub outcome: Outcome,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer as a text.
    Answer {
        /// The text.
        text: String,
        /// Its tokens.
        tokens: usize,
        /// What would be right.
        expected: Vec<String>,
        /// Between 0 and 1.
        score: f64,
    },
    /// Negative log-likelihoods of a text.
    Likelihood {
        /// Position of the first token that counts.
        from: usize,
        /// Tokens that count.
        count: usize,
        /// Their summed negative log-likelihood.
        nll: f64,
        /// Positions in a block: block `b` holds the positions `p` with `p / block == b`.
        block: usize,
        /// Tokens and summed negative log-likelihood of each block, from position 0.
        blocks: Vec<(usize, f64)>,
    },
    /// Log-likelihoods of continuations.
    Choice {
        /// The right one.
        gold: usize,
        /// Of each continuation.
        choices: Vec<ChoiceOutcome>,
    },
    /// The method cannot reach the sample's context; only where that was allowed.
    Unreachable {
        /// Why.
        reason: String,
    },
}

/// How likely a continuation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceOutcome {
    /// Summed log-likelihood.
    pub log_likelihood: f64,
    /// Its length in bytes.
    pub bytes: usize,
    /// Whether each of its tokens is the most probable one.
    pub greedy: bool,
}

impl Outcome {
    /// The score of an answer, or whether the most likely continuation is the right one; for a
    /// single continuation, whether it is what the model would say.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Answer { score, .. } => Some(*score),
            Self::Choice { choices, .. } if choices.len() == 1 => {
                Some(f64::from(u8::from(choices[0].greedy)))
            }
            Self::Choice { .. } => self.pick(|choice| choice.log_likelihood),
            _ => None,
        }
    }

    /// As [`score`](Self::score), with log-likelihoods divided by the continuation's bytes.
    pub fn normalised_score(&self) -> Option<f64> {
        match self {
            Self::Choice { choices, .. } if choices.len() > 1 => {
                self.pick(|choice| choice.log_likelihood / choice.bytes.max(1) as f64)
            }
            _ => None,
        }
    }

    fn pick(&self, value: impl Fn(&ChoiceOutcome) -> f64) -> Option<f64> {
        let Self::Choice { gold, choices } = self else {
            return None;
        };
        // The first of equals, as numpy's argmax.
        let best = (0..choices.len()).reduce(|best, n| {
            if value(&choices[n]) > value(&choices[best]) {
                n
            } else {
                best
            }
        })?;
        Some(f64::from(u8::from(best == *gold)))
    }
}

/// A results file in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    /// Its first line.
    pub header: Header,
    /// The lines after it.
    pub records: Vec<Record>,
}

impl RunFile {
    /// Reads a file. A last line that was cut off by an interrupt is left out.
    ///
    /// # Errors
    /// A file that cannot be read or is no results file, with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_whole_lines(path).map(|(run, _)| run)
    }

    /// Also returns the bytes of the lines that are whole.
    fn read_whole_lines(path: &Path) -> Result<(Self, usize)> {
        let text = fs::read(path).map_err(|source| EvalError::Read {
            path: path.into(),
            source,
        })?;
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&text[..whole])
            .map_err(|_| EvalError::file(path, "not UTF-8, so no results of selfextend"))?;
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else {
            return Err(EvalError::file(
                path,
                "no results of selfextend: no whole line",
            ));
        };
        let header: Header = serde_json::from_str(first)
            .map_err(|error| EvalError::line(path, 1, format!("no header of results: {error}")))?;
        if header.selfextend_eval != FORMAT {
            let reason = format!(
                "results in format {}, this version reads {FORMAT}",
                header.selfextend_eval
            );
            return Err(EvalError::line(path, 1, reason));
        }
        let records = lines.map(|(n, line)| {
            serde_json::from_str(line)
                .map_err(|error| EvalError::line(path, n + 1, format!("no result: {error}")))
        });
        Ok((Self::new(header, records.collect::<Result<_>>()?), whole))
    }

    /// A run with its records sorted.
    pub fn new(header: Header, records: Vec<Record>) -> Self {
        let mut run = Self { header, records };
        run.sort();
        run
    }

    /// Joins the parts of a sharded run.
    ///
    /// # Errors
    /// Files of different runs, and samples that are missing or there twice.
    pub fn merge(paths: &[PathBuf]) -> Result<Self> {
        let mut merged: Option<(Self, &PathBuf)> = None;
        for path in paths {
            let mut run = Self::read(path)?;
            run.header.shard = Shard::WHOLE;
            let Some((all, first)) = &mut merged else {
                merged = Some((run, path));
                continue;
            };
            if let Some(difference) = all.header.difference(&run.header) {
                let reason = format!("not of the same run as {}: {difference}", first.display());
                return Err(EvalError::file(path, reason));
            }
            all.records.append(&mut run.records);
        }
        let Some((mut run, _)) = merged else {
            return Err(EvalError::settings("no files to merge"));
        };
        run.sort();
        run.check_complete()?;
        Ok(run)
    }

    /// By method, then by sample: runs write in the order that computes least.
    fn sort(&mut self) {
        let methods = &self.header.methods;
        let place = |record: &Record| {
            let method = methods.iter().position(|method| *method == record.method);
            (method, record.index)
        };
        self.records.sort_by_key(place);
    }

    /// Refuses gaps and overlaps.
    fn check_complete(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for record in &self.records {
            if !seen.insert((&record.method, record.index)) {
                return Err(EvalError::settings(format!(
                    "{} under {} is there twice: the files overlap",
                    record.id, record.method
                )));
            }
        }
        let pairs = self
            .header
            .methods
            .iter()
            .flat_map(|method| (0..self.header.samples).map(move |index| (method, index)));
        let missing = pairs.filter(|pair| !seen.contains(pair));
        match missing.clone().next() {
            None => Ok(()),
            Some((method, index)) => Err(EvalError::settings(format!(
                "{} of {} results are missing, the first one is sample {index} under {method}: \
                 a shard is absent or unfinished",
                missing.count(),
                self.header.methods.len() * self.header.samples
            ))),
        }
    }

    /// The whole file as text.
    ///
    /// # Errors
    /// None in practice: numbers that JSON cannot write.
    pub fn to_json_lines(&self) -> Result<String> {
        let mut text = json_line(&self.header)?;
        for record in &self.records {
            text += &json_line(record)?;
        }
        Ok(text)
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| EvalError::settings(format!("cannot write a result: {error}")))?;
    Ok(text + "\n")
}

/// A results file that grows by a line at a time.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    file: File,
}

impl RunWriter {
    /// Begins a file, or opens one to go on where it stopped; returns the results it holds. A
    /// last line that was cut off is removed.
    ///
    /// # Errors
    /// A file of other settings, with what differs, or one that cannot be read or written.
    pub fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Record>)> {
        let failed = |source| EvalError::Write {
            path: path.into(),
            source,
        };
        let is_new = fs::metadata(path).map_or(true, |found| found.len() == 0);
        if is_new {
            let mut file = File::create(path).map_err(failed)?;
            file.write_all(json_line(header)?.as_bytes())
                .map_err(failed)?;
            let path = path.into();
            return Ok((Self { path, file }, Vec::new()));
        }
        let (run, whole) = RunFile::read_whole_lines(path)?;
        if let Some(difference) = run.header.difference(header) {
            return Err(EvalError::OtherRun {
                path: path.into(),
                difference,
            });
        }
        let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let path = path.into();
        Ok((Self { path, file }, run.records))
    }

    /// Appends a result.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        // One write, so that an interrupt cuts a line at most once.
        self.file
            .write_all(json_line(record)?.as_bytes())
            .map_err(|source| EvalError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

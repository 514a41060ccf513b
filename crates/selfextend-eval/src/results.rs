//! Results files: JSON lines, a header and then a record for each sample and method, written as
//! soon as it exists.

use crate::error::{EvalError, Result};
use crate::record::{Header, Record};
use crate::shard::Shard;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A results file in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    /// Its first line.
    pub header: Header,
    /// The lines after it.
    pub records: Vec<Record>,
}

impl RunFile {
    /// Reads a file. Leaves out a last line that an interrupt cut off.
    ///
    /// # Errors
    /// A file that cannot be read or is not a results file, with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_whole_lines(path).map(|(run, _)| run)
    }

    /// Also returns how many bytes the whole lines take.
    fn read_whole_lines(path: &Path) -> Result<(Self, usize)> {
        let text = fs::read(path).map_err(EvalError::reading(path))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<(Self, usize)> {
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&text[..whole]).map_err(|_| {
            EvalError::file(path, "not UTF-8, so it does not hold results of selfextend")
        })?;
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else {
            return Err(torn(path));
        };
        let format = serde_json::from_str::<Format>(first).map_err(|error| {
            EvalError::line(path, 1, format!("not a header of results: {error}"))
        })?;
        if format.selfextend_eval != Header::FORMAT {
            let reason = format!(
                "results in format {}; this version reads format {}: run it again with another \
                 file, or show these with the version that wrote them",
                format.selfextend_eval,
                Header::FORMAT
            );
            return Err(EvalError::line(path, 1, reason));
        }
        let header: Header = serde_json::from_str(first).map_err(|error| {
            EvalError::line(path, 1, format!("not a header of results: {error}"))
        })?;
        let records = lines.map(|(n, line)| {
            serde_json::from_str(line)
                .map_err(|error| EvalError::line(path, n + 1, format!("not a result: {error}")))
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
    /// Files of different runs, files that are being written, and results that are missing or
    /// present twice.
    pub fn merge(paths: &[PathBuf]) -> Result<Self> {
        let mut merged: Option<(Self, &PathBuf)> = None;
        for path in paths {
            let file = File::open(path).map_err(EvalError::reading(path))?;
            locked(path, file.try_lock_shared())?;
            let mut run = Self::read(path)?;
            run.header.shard = Shard::WHOLE;
            let Some((all, first)) = &mut merged else {
                merged = Some((run, path));
                continue;
            };
            if let Some(difference) = all.header.difference(&run.header) {
                let reason = format!("not from the same run as {}: {difference}", first.display());
                return Err(EvalError::file(path, reason));
            }
            all.records.append(&mut run.records);
        }
        let Some((mut run, _)) = merged else {
            return Err(EvalError::settings("there are no files to merge"));
        };
        run.sort();
        run.check_complete()?;
        Ok(run)
    }

    /// By method, then by sample: a run writes in the order that computes least.
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
                    "{} under {} is present twice: the files overlap",
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
                 a shard is missing or unfinished",
                missing.count(),
                self.header.methods.len() * self.header.samples
            ))),
        }
    }

    /// The whole file as text.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_json_lines(&self) -> Result<String> {
        let mut text = json_line(&self.header)?;
        for record in &self.records {
            text += &json_line(record)?;
        }
        Ok(text)
    }
}

/// The part of a header that says which version can read the rest.
#[derive(Deserialize)]
struct Format {
    selfextend_eval: u32,
}

/// The error of a file whose first line is not whole.
fn torn(path: &Path) -> EvalError {
    let reason = "the first line is cut off, or this is not a results file: no result can be read, \
                  so delete it or use another file";
    EvalError::file(path, reason)
}

/// The error of a file that is in use.
fn locked(path: &Path, lock: std::result::Result<(), TryLockError>) -> Result<()> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let reason =
                "another process is writing these results: wait for it, or use another file";
            Err(EvalError::file(path, reason))
        }
        Err(TryLockError::Error(error)) => Err(EvalError::writing(path)(error)),
    }
}

fn json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| EvalError::settings(format!("cannot write a result: {error}")))?;
    Ok(text + "\n")
}

/// A results file that grows line by line.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    file: File,
}

impl RunWriter {
    /// Creates a file, or opens one to continue it; returns the results it holds. Removes a last
    /// line that an interrupt cut off.
    ///
    /// # Errors
    /// A file of another run, with what differs; a file that cannot be read or written.
    pub fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Record>)> {
        let failed = EvalError::writing(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(&failed)?;
        // Held until the writer is dropped.
        locked(path, file.try_lock())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(EvalError::reading(path))?;
        let first = json_line(header)?;
        let (run, whole) = if text.contains(&b'\n') {
            RunFile::parse(path, &text)?
        } else if first.as_bytes().starts_with(&text) {
            // A new file, or one whose header an interrupt cut off: nothing is lost.
            file.set_len(0).map_err(&failed)?;
            file.rewind().map_err(&failed)?;
            file.write_all(first.as_bytes()).map_err(&failed)?;
            (RunFile::new(header.clone(), Vec::new()), first.len())
        } else {
            return Err(torn(path));
        };
        if let Some(difference) = run.header.difference(header) {
            return Err(EvalError::OtherRun {
                path: path.into(),
                difference,
            });
        }
        file.set_len(whole as u64).map_err(&failed)?;
        file.seek(SeekFrom::End(0)).map_err(&failed)?;
        let path = path.into();
        Ok((Self { path, file }, run.records))
    }

    /// Appends a result.
    ///
    /// # Errors
    /// The system's; a result that is not a number, which no report could read again.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        if !record.outcome.is_finite() {
            return Err(EvalError::settings(format!(
                "sample {} under {} gave a result that is not a number: the model computes no \
                 finite values",
                record.id, record.method
            )));
        }
        // One write, so that an interrupt cuts a line at most once.
        self.file
            .write_all(json_line(record)?.as_bytes())
            .map_err(EvalError::writing(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use serde_json::json;

    fn header(model: &str) -> Header {
        let mut settings = serde_json::Map::new();
        settings.insert("chunk".into(), json!(512));
        Header {
            selfextend_eval: Header::FORMAT,
            version: "0".into(),
            task: "passkey".into(),
            model: model.into(),
            settings,
            methods: vec!["plain".into()],
            samples: 2,
            digest: "d".into(),
            shard: Shard::WHOLE,
        }
    }

    fn record(index: usize, score: f64) -> Record {
        let outcome =
            json!({"answer": {"text": "x", "tokens": 1, "expected": ["x"], "score": 0.0}});
        let mut record: Record = serde_json::from_value(json!({
            "index": index, "id": index.to_string(), "method": "plain", "tags": {}, "prompt_hash": "h",
            "tokens": 1, "read": 1, "prefill_s": 0.0, "decode_s": 0.0, "outcome": outcome,
        }))
        .unwrap();
        if let Outcome::Answer { score: ours, .. } = &mut record.outcome {
            *ours = score;
        }
        record
    }

    fn refused<T>(result: Result<T>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn another_model_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let (mut writer, _) = RunWriter::open(&path, &header("aa")).unwrap();
        writer.append(&record(0, 1.0)).unwrap();
        drop(writer);
        let error = refused(RunWriter::open(&path, &header("bb")));
        assert!(error.contains("model was \"aa\", is \"bb\""), "{error}");
        let (_, records) = RunWriter::open(&path, &header("aa")).unwrap();
        assert_eq!(records, [record(0, 1.0)]);
    }

    #[test]
    fn only_one_process_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let (writer, _) = RunWriter::open(&path, &header("aa")).unwrap();
        let error = refused(RunWriter::open(&path, &header("aa")));
        assert!(error.contains("another process is writing"), "{error}");
        let error = refused(RunFile::merge(std::slice::from_ref(&path)));
        assert!(error.contains("another process is writing"), "{error}");
        drop(writer);
        RunWriter::open(&path, &header("aa")).unwrap();
    }

    #[test]
    fn a_torn_file_is_recovered_or_explained() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let whole = json_line(&header("aa")).unwrap() + &json_line(&record(0, 1.0)).unwrap();
        let line = json_line(&header("aa")).unwrap().len();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut writer, records) = RunWriter::open(&path, &header("aa")).unwrap();
            assert!(records.is_empty(), "{cut} of {line}");
            writer.append(&record(0, 1.0)).unwrap();
            drop(writer);
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        }
        for text in ["{\"selfextend_eval\":2,\"version\":\"9", "my notes"] {
            fs::write(&path, text).unwrap();
            let error = refused(RunFile::read(&path));
            assert!(error.contains("delete it"), "{error}");
            let error = refused(RunWriter::open(&path, &header("aa")));
            assert!(error.contains("delete it"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let (mut writer, _) = RunWriter::open(&path, &header("aa")).unwrap();
        let error = refused(writer.append(&record(1, f64::NAN)));
        assert!(error.contains("sample 1 under plain"), "{error}");
        drop(writer);
        assert!(RunFile::read(&path).unwrap().records.is_empty());
    }
}

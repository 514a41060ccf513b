//! Results files: JSON lines, a header and then a record for each sample and method, written as
//! soon as it exists.

use crate::error::{EvalError, Result};
use crate::record::{Header, Record};
use crate::shard::Shard;
use serde::Serialize;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
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
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&text[..whole]).map_err(|_| {
            EvalError::file(path, "not UTF-8, so it does not hold results of selfextend")
        })?;
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else {
            return Err(EvalError::file(
                path,
                "no results of selfextend: no whole line",
            ));
        };
        let header: Header = serde_json::from_str(first).map_err(|error| {
            EvalError::line(path, 1, format!("not a header of results: {error}"))
        })?;
        if header.selfextend_eval != Header::FORMAT {
            let reason = format!(
                "results in format {}, this version reads {}",
                header.selfextend_eval,
                Header::FORMAT
            );
            return Err(EvalError::line(path, 1, reason));
        }
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
    /// Files of different runs, and results that are missing or present twice.
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
        let is_new = fs::metadata(path).map_or(true, |found| found.len() == 0);
        if is_new {
            let mut file = File::create(path).map_err(&failed)?;
            file.write_all(json_line(header)?.as_bytes())
                .map_err(&failed)?;
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
        let mut file = OpenOptions::new().write(true).open(path).map_err(&failed)?;
        file.set_len(whole as u64).map_err(&failed)?;
        file.seek(SeekFrom::End(0)).map_err(&failed)?;
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
            .map_err(EvalError::writing(&self.path))
    }
}

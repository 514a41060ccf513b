//! What has been measured so far.

use crate::alone::Alone;
use crate::error::BenchError;
use crate::machine::{Limits, Machine};
use crate::roofline::{ModelShape, best, median};
use crate::series::{Job, Reading, Series, Task};
use serde::Serialize;
use std::path::PathBuf;

/// Everything a report is made of.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where it ran.
    pub machine: Machine,
    /// Which engines ran.
    pub versions: Vec<String>,
    /// Who was not measured, and why.
    pub absent: Vec<Absent>,
    /// Rounds finished.
    pub rounds: usize,
    /// Tokens decoded by a measurement of decode.
    pub decode_tokens: usize,
    /// The share of processor time that the hypervisor gave to others meanwhile.
    pub stolen: Option<f64>,
    /// The machine's limits.
    pub limits: Limits,
    /// The attention alone.
    pub alone: Vec<Alone>,
    /// One for each weight format.
    pub models: Vec<ModelResults>,
    /// Failures, in order.
    pub failures: Vec<String>,
}

/// A peer that is not in the tables.
#[derive(Debug, Clone, Serialize)]
pub struct Absent {
    /// What it is called.
    pub name: String,
    /// Why it is not there.
    pub reason: String,
}

impl Absent {
    /// A peer, and why it is not there.
    pub fn new(name: &str, reason: impl ToString) -> Self {
        Self {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// The measurements of a model file.
#[derive(Debug, Serialize)]
pub struct ModelResults {
    /// The weight format asked for.
    pub format: String,
    /// The file.
    pub file: PathBuf,
    /// Its shape, from the file.
    pub shape: ModelShape,
    /// Whether they were made through servers.
    pub served: bool,
    /// How the first series stores keys and values.
    pub kv_type: String,
    /// All series in the order of their columns; ratios are those of the first.
    #[serde(skip)]
    pub series: Vec<Series>,
    /// The measurements.
    pub cells: Vec<Cell>,
}

/// One number of a table.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The engine and its settings.
    #[serde(rename = "series")]
    name: String,
    #[serde(skip)]
    series: Series,
    /// What was measured.
    pub task: Task,
    /// Tokens of the prefill, or the depth of the decode.
    pub length: usize,
    /// A sample each round: tokens per second; seconds of a load.
    pub samples: Vec<f64>,
    /// The median of the samples.
    pub median: Option<f64>,
    /// The largest of all rounds, in MiB.
    pub peak_mib: Option<f64>,
    /// Why it ended early, in a word.
    pub note: Option<String>,
    /// The same in full.
    pub reason: Option<String>,
}

impl Results {
    /// The limits to which speeds are compared: the best multiply-adds (GFLOP/s) and reads (GB/s).
    pub fn best_limits(&self) -> Option<(f64, f64)> {
        Some((best(&self.limits.gflops)?, best(&self.limits.gb_s)?))
    }

    /// The limit of a model's speed on this machine in tokens per second, for the cache of the
    /// first series.
    pub fn limit(&self, model: &ModelResults, task: Task, length: usize) -> Option<f64> {
        let (gflops, gb_s) = self.best_limits()?;
        let shape = &model.shape;
        Some(match task {
            Task::Load => return None,
            Task::Prefill => shape.prefill_limit(length, gflops),
            Task::Decode => shape.decode_limit(length, self.decode_tokens, &model.kv_type, gb_s),
        })
    }
}

impl Cell {
    /// The series and what was measured.
    pub fn described(&self) -> String {
        match self.task {
            Task::Load => format!("{}, load", self.name),
            Task::Prefill => format!("{}, prefill at {}", self.name, self.length),
            Task::Decode => format!("{}, decode at {}", self.name, self.length),
        }
    }
}

impl ModelResults {
    /// The measurement of a series, if there is one.
    pub fn cell(&self, series: &Series, task: Task, length: usize) -> Option<&Cell> {
        let wanted =
            |cell: &&Cell| (&cell.series, cell.task, cell.length) == (series, task, length);
        self.cells.iter().find(wanted)
    }

    /// The lengths at which something was measured, sorted.
    pub fn lengths(&self, task: Task) -> Vec<usize> {
        let cells = self.cells.iter().filter(|cell| cell.task == task);
        let mut lengths: Vec<usize> = cells.map(|cell| cell.length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    /// The speed of the fastest peer that stores keys and values as the first series does; of the
    /// fastest of all if none does.
    pub fn best_peer(&self, task: Task, length: usize) -> Option<f64> {
        let fastest = |alike: bool| {
            let peers = self.series.iter().filter(|series| {
                let kv_type = series.kv_type();
                !series.is_ours() && (!alike || kv_type.is_none_or(|it| it == self.kv_type))
            });
            let speeds = peers.filter_map(|peer| self.cell(peer, task, length)?.median);
            speeds.max_by(f64::total_cmp)
        };
        let alike =
            |series: &Series| !series.is_ours() && series.kv_type() == Some(self.kv_type.as_str());
        fastest(self.series.iter().any(alike))
    }

    /// The file, whose name says in which format its weights are, and how it was reached.
    pub fn title(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let through = if self.served { ", through servers" } else { "" };
        format!("{name}{through}")
    }

    /// What the name of a picture begins with, different for each.
    pub fn slug(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let through = if self.served { "-served" } else { "" };
        format!("{stem}{through}")
    }

    /// Whether a job failed before and would only take its time again.
    pub fn is_hopeless(&self, job: &Job) -> bool {
        let mut cells = job.tasks.iter();
        cells.any(|&task| {
            let cell = self.cell(&job.series, task, job.length);
            cell.is_some_and(|cell| cell.note.is_some())
        })
    }

    /// Adds what a child measured, or why it failed.
    pub fn add(&mut self, job: &Job, reading: &Result<Reading, BenchError>) {
        for &task in &job.tasks {
            let cell = self.cell_mut(&job.series, task, job.length);
            match reading {
                Ok(reading) => {
                    let of_task = reading.values.iter().filter(|(it, _)| *it == task);
                    cell.samples.extend(of_task.map(|(_, value)| value));
                    cell.median = median(&cell.samples);
                    let peaks = cell.peak_mib.into_iter().chain(reading.peak_mib);
                    cell.peak_mib = peaks.reduce(f64::max);
                }
                Err(error) => {
                    cell.note = Some(error.in_a_cell());
                    cell.reason = Some(error.to_string());
                }
            }
        }
    }

    fn cell_mut(&mut self, series: &Series, task: Task, length: usize) -> &mut Cell {
        let wanted = |cell: &Cell| (&cell.series, cell.task, cell.length) == (series, task, length);
        let at = self.cells.iter().position(wanted).unwrap_or_else(|| {
            self.cells.push(Cell {
                name: series.name(),
                series: series.clone(),
                task,
                length,
                samples: Vec::new(),
                median: None,
                peak_mib: None,
                note: None,
                reason: None,
            });
            self.cells.len() - 1
        });
        &mut self.cells[at]
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::series::Fork;

    /// A model with one series of ours and two of a peer, and one reading of each task.
    pub fn model() -> ModelResults {
        let kv_type = || "f16".to_owned();
        let ours = Series::Ours {
            kv_type: kv_type(),
            self_extend: None,
        };
        let peer = |flash| Series::Llama {
            fork: Fork::Original,
            kv_type: kv_type(),
            flash,
        };
        let shape = r#"{"layers":1,"hidden":10,"feed_forward":20,"heads":2,"kv_heads":1,
            "head_dim":5,"formats":{"F32":{"bytes":3600}}}"#;
        let mut model = ModelResults {
            format: "own".into(),
            file: "model.gguf".into(),
            shape: ModelShape::parse(shape).unwrap(),
            served: false,
            kv_type: kv_type(),
            series: vec![ours.clone(), peer(false), peer(true)],
            cells: Vec::new(),
        };
        for (series, rates) in [
            (ours, [90.0, 110.0, 100.0]),
            (peer(false), [50.0, 50.0, 50.0]),
            (peer(true), [80.0, 80.0, 10.0]),
        ] {
            for rate in rates {
                for task in [Task::Prefill, Task::Decode] {
                    let reading = Reading {
                        values: vec![(task, rate)],
                        peak_mib: Some(rate),
                    };
                    model.add(&job(&series, task), &Ok(reading));
                }
            }
        }
        model
    }

    /// What a peer says that it cannot, at 128 tokens.
    pub fn refuse(model: &mut ModelResults, reason: &str) {
        let job = Job {
            length: 128,
            ..job(&model.series[2].clone(), Task::Prefill)
        };
        model.add(&job, &Err(BenchError::Cannot(reason.into())));
    }

    fn job(series: &Series, task: Task) -> Job {
        Job {
            series: series.clone(),
            length: 64,
            tasks: vec![task],
        }
    }

    #[test]
    fn rounds_add_up_to_medians_and_peaks() {
        let model = model();
        let cell = model.cell(&model.series[0], Task::Prefill, 64).unwrap();
        assert_eq!((cell.median, cell.peak_mib), (Some(100.0), Some(110.0)));
        assert_eq!(model.best_peer(Task::Decode, 64), Some(80.0));
        assert_eq!(model.best_peer(Task::Decode, 65), None);
        assert_eq!(model.lengths(Task::Decode), [64]);
    }

    #[test]
    fn a_peer_with_a_smaller_cache_does_not_count() {
        let mut model = model();
        let smaller = Series::Llama {
            fork: Fork::Ik,
            kv_type: "q8_0".into(),
            flash: true,
        };
        let reading = Reading {
            values: vec![(Task::Decode, 500.0)],
            peak_mib: None,
        };
        model.add(&job(&smaller, Task::Decode), &Ok(reading));
        model.series.push(smaller);
        assert_eq!(model.best_peer(Task::Decode, 64), Some(80.0));
        // Unless there is no other.
        model.kv_type = "f32".into();
        assert_eq!(model.best_peer(Task::Decode, 64), Some(500.0));
    }

    #[test]
    fn a_timeout_is_not_repeated_and_keeps_what_was_there() {
        let mut model = model();
        let job = job(&model.series[1].clone(), Task::Prefill);
        assert!(!model.is_hopeless(&job));
        let timeout = BenchError::Timeout {
            command: "x".into(),
            seconds: 7,
        };
        model.add(&job, &Err(timeout));
        assert!(model.is_hopeless(&job));
        let cell = model.cell(&job.series, Task::Prefill, 64).unwrap();
        assert_eq!(cell.note.as_deref(), Some("> 7 s"));
        assert_eq!(cell.samples.len(), 3);
    }
}

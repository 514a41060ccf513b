//! Reports: tables and pictures drawn from results, and the files they go into.

mod compare;
mod draw;
mod figures;
mod html;
mod lines;
mod table;

pub use draw::{DARK, INK, PAPER, to_png, to_svg};
pub use figures::{Bars, Drawing, Figure, HeatMap, Lines, Series};
pub use html::to_html;
pub use table::Table;

use crate::record::{Outcome, Record, RunFile};
use crate::tasks::compare::TASK as COMPARE;

/// What is to be shown of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its heading.
    pub title: String,
    /// The settings, name and value.
    pub settings: Vec<(String, String)>,
    /// Numbers.
    pub tables: Vec<Table>,
    /// Pictures, the most telling one first.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Tables and pictures that suit the results of a run; an unfinished one shows what it has.
    pub fn new(run: &RunFile) -> Self {
        let header = &run.header;
        let settings = header.settings.iter().map(|(key, value)| {
            let value = match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            };
            (key.replace('_', " "), value)
        });
        let mut settings: Vec<_> = settings.collect();
        settings.push(("methods".into(), header.methods.join(" ")));
        settings.push(("selfextend-eval".into(), header.version.clone()));
        settings.push(("samples".into(), header.samples.to_string()));
        settings.push(("fingerprint".into(), header.digest.clone()));
        let expected = header.samples * header.methods.len();
        if run.records.len() < expected {
            let done = format!("{} of {expected}", run.records.len());
            settings.push(("results so far".into(), done));
        }
        let seconds: f64 = run
            .records
            .iter()
            .map(|record| record.prefill_s + record.decode_s)
            .sum();
        settings.push(("seconds".into(), format!("{seconds:.0}")));
        let view = View::new(run);
        let (tables, figures) = match view.is_likelihood() {
            _ if header.task == COMPARE => (view.compare_tables(), view.compare_figures()),
            true => (view.perplexity_tables(), view.perplexity_figures()),
            false => (view.score_tables(), view.score_figures()),
        };
        Self {
            title: format!("selfextend eval {}", header.task),
            settings,
            tables,
            figures,
        }
    }

    /// The tables for a terminal.
    pub fn to_text(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::to_text).collect();
        tables.join("\n")
    }

    /// The tables as comma-separated values, with a heading for each where there are several.
    pub fn to_csv(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::to_csv).collect();
        tables.join("\n")
    }
}

/// The records of a run, by what they are about.
struct View<'a> {
    run: &'a RunFile,
}

impl<'a> View<'a> {
    fn new(run: &'a RunFile) -> Self {
        Self { run }
    }

    fn is_likelihood(&self) -> bool {
        let reached = self.run.records.iter();
        reached
            .filter(|record| !matches!(record.outcome, Outcome::Unreachable { .. }))
            .any(|record| matches!(record.outcome, Outcome::Likelihood { .. }))
    }

    fn methods(&self) -> &'a [String] {
        &self.run.header.methods
    }

    /// The values of a tag, in order of size, without repetitions.
    fn values(&self, tag: &str) -> Vec<serde_json::Value> {
        let mut values: Vec<serde_json::Value> = Vec::new();
        for record in &self.run.records {
            if let Some(value) = record.tags.get(tag)
                && !values.contains(value)
            {
                values.push(value.clone());
            }
        }
        if values.iter().all(serde_json::Value::is_number) {
            let number = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
            values.sort_by(|a, b| number(a).total_cmp(&number(b)));
        }
        values
    }

    fn records(&self, wanted: impl Fn(&Record) -> bool) -> Vec<&'a Record> {
        self.run
            .records
            .iter()
            .filter(|record| wanted(record))
            .collect()
    }

    /// The grid of an ablation: group sizes and windows.
    fn grid(&self) -> Option<(Vec<usize>, Vec<usize>)> {
        let numbers = |key: &str| -> Option<Vec<usize>> {
            let list = self.run.header.settings.get(key)?.as_array()?;
            list.iter()
                .map(|n| n.as_u64().map(|n| n as usize))
                .collect()
        };
        let is_grid = self.run.header.task.starts_with("ablation");
        is_grid.then(|| Some((numbers("group_sizes")?, numbers("neighbor_windows")?)))?
    }
}

/// A tag's value in words.
fn shown(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

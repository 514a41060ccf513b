//! A report: what its tables and pictures are.

use super::figure::Figure;
use super::table::Table;
use super::view::{View, shown};
use super::{compare, perplexity, scores};
use crate::results::RunFile;
use crate::tasks::compare::TASK as COMPARE;

/// What is shown of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Its heading.
    pub title: String,
    /// The settings, as names and values.
    pub settings: Vec<(String, String)>,
    /// The numbers.
    pub tables: Vec<Table>,
    /// The pictures, the most telling one first.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Tables and pictures of a run's results, which need not be complete.
    pub fn new(run: &RunFile) -> Self {
        let header = &run.header;
        let settings = header
            .settings
            .iter()
            .map(|(key, value)| (key.replace('_', " "), shown(value)));
        let mut settings: Vec<_> = settings.collect();
        settings.push(("methods".into(), header.methods.join(" ")));
        settings.push(("selfextend-eval".into(), header.version.clone()));
        settings.push(("samples".into(), header.samples.to_string()));
        settings.push(("model fingerprint".into(), header.model.clone()));
        settings.push(("fingerprint of the samples".into(), header.digest.clone()));
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
        let (tables, figures) = if header.task == COMPARE {
            (compare::tables(&view), compare::figures(&view))
        } else if view.is_likelihood() {
            (perplexity::tables(&view), perplexity::figures(&view))
        } else {
            (scores::tables(&view), scores::figures(&view))
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

    /// The tables as comma-separated values, one after another.
    pub fn to_csv(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::to_csv).collect();
        tables.join("\n")
    }
}

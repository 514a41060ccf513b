//! The records of a run, by what they are about.

use crate::record::{Outcome, Record};
use crate::results::RunFile;
use serde_json::Value;

/// A run's records, to be grouped.
pub(super) struct View<'a> {
    pub(super) run: &'a RunFile,
}

impl<'a> View<'a> {
    pub(super) fn new(run: &'a RunFile) -> Self {
        Self { run }
    }

    /// Whether it measured likelihoods of texts.
    pub(super) fn is_likelihood(&self) -> bool {
        let reached = self.run.records.iter();
        reached
            .filter(|record| !matches!(record.outcome, Outcome::Unreachable { .. }))
            .any(|record| matches!(record.outcome, Outcome::Likelihood { .. }))
    }

    pub(super) fn methods(&self) -> &'a [String] {
        &self.run.header.methods
    }

    /// The values of a tag, each once; numbers in ascending order.
    pub(super) fn values(&self, tag: &str) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for record in &self.run.records {
            if let Some(value) = record.tags.get(tag)
                && !values.contains(value)
            {
                values.push(value.clone());
            }
        }
        if values.iter().all(Value::is_number) {
            let number = |value: &Value| value.as_f64().unwrap_or_default();
            values.sort_by(|a, b| number(a).total_cmp(&number(b)));
        }
        values
    }

    /// The records of a method whose tags have these values.
    pub(super) fn under(&self, method: &str, tags: &[(&str, &Value)]) -> Vec<&'a Record> {
        let has = |record: &Record, (tag, value): &(&str, &Value)| {
            record.tags.get(*tag).unwrap_or(&Value::Null) == *value
        };
        let records = self.run.records.iter();
        records
            .filter(|record| record.method == method)
            .filter(|record| tags.iter().all(|tag| has(record, tag)))
            .collect()
    }

    /// The trained window, as the mark of a picture.
    pub(super) fn trained_window(&self) -> Option<(f64, String)> {
        let window = self.run.header.settings.get("trained_window")?.as_f64()?;
        Some((window, "trained window".into()))
    }
}

/// A tag's value in words.
pub(super) fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

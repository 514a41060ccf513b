//! The results of several runs on one page: methods by models by lengths, quality beside cost.
//!
//! A row is a task, a model, a length and a method. Rows are in the order of the files, and nothing is
//! left out: methods that lose stand where they ran. Where each row comes from, with the fingerprints of
//! the model and of the samples (the data as tokens), is in the last table.

use super::aggregate::{perplexity, summary, telling};
use super::document::Report;
use super::figure::{Drawing, Figure, HeatMap};
use super::table::Table;
use super::view::{View, shown};
use crate::metrics::Summary;
use crate::record::{Outcome, Record};
use crate::results::RunFile;
use serde_json::Value;

const MIB: f64 = (1 << 20) as f64;
const GAP: &str = "-";

/// The records of a task on a model, from one file.
struct Board<'a> {
    view: View<'a>,
    /// The task, with its part where it has several.
    task: String,
    part: Option<Value>,
    model: String,
}

/// A measure of a row: its name, whether less of it is better, and the number.
type Measure = (&'static str, bool, fn(&Row) -> Option<f64>);

/// The numbers of a method at a length.
struct Row {
    quality: Option<Summary>,
    nats: Option<f64>,
    known: Option<f64>,
    perplexity: Option<f64>,
    seconds: Option<f64>,
    cache: Option<f64>,
}

/// One report of the runs that some files hold, each with its file's name.
pub fn leaderboard(runs: &[(String, RunFile)]) -> Report {
    let boards: Vec<Board> = runs.iter().flat_map(|(_, run)| boards(run)).collect();
    let mut figures = Vec::new();
    let mut table = Table::new(
        "Quality and cost (score with its 95% interval, perplexity, the right answer told: nats a token and answers of which every token is the most probable; seconds to read a sample whole; KV cache)",
        &[
            "task",
            "model",
            "length",
            "method",
            "samples",
            "score %",
            "low",
            "high",
            "nats",
            "known %",
            "perplexity",
            "read s",
            "KV MiB",
        ],
    );
    for board in &boards {
        for length in board.lengths() {
            for method in board.view.methods() {
                if let Some(cells) = board.cells(method, &length) {
                    table.row(cells);
                }
            }
        }
        figures.extend(board.map(figures.len()));
    }
    let mut sources = Table::new(
        "Where the numbers come from",
        &[
            "file",
            "task",
            "model",
            "model fingerprint",
            "samples fingerprint",
            "results",
            "settings",
        ],
    );
    for (file, run) in runs {
        let header = &run.header;
        let settings = header.settings.iter();
        let settings: Vec<String> = settings
            .map(|(key, value)| format!("{key}={}", shown(value)))
            .collect();
        sources.row(vec![
            file.clone(),
            header.task.clone(),
            model_of(run),
            header.model.clone(),
            header.digest.clone(),
            format!(
                "{} of {}",
                run.records.len(),
                header.samples * header.methods.len()
            ),
            settings.join(" "),
        ]);
    }
    Report {
        title: "selfextend: methods, models, lengths".into(),
        settings: vec![("files".into(), runs.len().to_string())],
        tables: vec![table, sources],
        figures,
    }
}

fn model_of(run: &RunFile) -> String {
    let name = run.header.settings.get("model_name");
    name.map_or_else(|| run.header.model.clone(), shown)
}

/// A board for each part of a run's task.
fn boards(run: &RunFile) -> Vec<Board<'_>> {
    let parts = View::new(run).values("task");
    let board = |part: Option<Value>| {
        let name = &run.header.task;
        Board {
            view: View::new(run),
            task: part
                .as_ref()
                .map_or(name.clone(), |part| format!("{name} {}", shown(part))),
            part,
            model: model_of(run),
        }
    };
    if parts.is_empty() {
        return vec![board(None)];
    }
    parts.into_iter().map(|part| board(Some(part))).collect()
}

impl Board<'_> {
    fn records(&self, method: &str, length: Option<&Value>) -> Vec<&Record> {
        let part = self.part.iter().map(|part| ("task", part));
        let tags: Vec<_> = part
            .chain(length.map(|length| ("length", length)))
            .collect();
        self.view.under(method, &tags)
    }

    /// The lengths, or none where samples have no length.
    fn lengths(&self) -> Vec<Option<Value>> {
        match self.view.values("length") {
            none if none.is_empty() => vec![None],
            lengths => lengths.into_iter().map(Some).collect(),
        }
    }

    fn row(&self, records: &[&Record]) -> Row {
        let told = telling(records);
        let whole = records
            .iter()
            .filter(|it| it.read == it.tokens && it.read > 0);
        let whole: Vec<f64> = whole.map(|record| record.prefill_s).collect();
        let cache = records.iter().map(|record| record.cache_bytes).max();
        Row {
            quality: summary(records),
            nats: told.as_ref().map(|told| told.nats),
            known: told.map(|told| told.whole),
            perplexity: perplexity(records).map(|found| found.value),
            seconds: (!whole.is_empty()).then(|| whole.iter().sum::<f64>() / whole.len() as f64),
            cache: cache
                .filter(|&bytes| bytes > 0)
                .map(|bytes| bytes as f64 / MIB),
        }
    }

    /// The row of a table; `None` where the method has not run there.
    fn cells(&self, method: &str, length: &Option<Value>) -> Option<Vec<String>> {
        let records = self.records(method, length.as_ref());
        if records.is_empty() {
            return None;
        }
        let mut cells = vec![
            self.task.clone(),
            self.model.clone(),
            length.as_ref().map_or(GAP.into(), shown),
            method.to_owned(),
            records.len().to_string(),
        ];
        let out = |record: &&&Record| matches!(record.outcome, Outcome::Unreachable { .. });
        if records.iter().any(|record| out(&record)) {
            cells.extend(["out of reach"; 8].map(String::from));
            return Some(cells);
        }
        let row = self.row(&records);
        let number = |value: Option<f64>, digits: usize| {
            value.map_or(GAP.into(), |value| format!("{value:.digits$}"))
        };
        let percent = |value: Option<f64>| number(value.map(|share| 100.0 * share), 1);
        let quality = row.quality.as_ref();
        cells.push(percent(quality.map(|it| it.mean)));
        cells.push(percent(quality.map(|it| it.interval.low)));
        cells.push(percent(quality.map(|it| it.interval.high)));
        cells.push(number(row.nats, 3));
        cells.push(percent(row.known));
        cells.push(number(row.perplexity, 2));
        cells.push(number(row.seconds, 2));
        cells.push(number(row.cache, 1));
        Some(cells)
    }

    /// Methods by lengths: perplexities of texts, else the loss of right answers, else scores.
    fn map(&self, number: usize) -> Option<Figure> {
        let (methods, lengths) = (self.view.methods(), self.lengths());
        let measures: [Measure; 3] = [
            ("perplexity", true, |row| row.perplexity),
            ("nats a token of the right answer", true, |row| row.nats),
            ("score", false, |row| row.quality.as_ref().map(|it| it.mean)),
        ];
        let (what, less_is_better, measure) = measures.into_iter().find(|(_, _, measure)| {
            let all = methods.iter().map(|method| self.records(method, None));
            all.into_iter()
                .any(|records| measure(&self.row(&records)).is_some())
        })?;
        let cell = |method: &String, length: &Option<Value>| {
            measure(&self.row(&self.records(method, length.as_ref())))
        };
        let cells = methods
            .iter()
            .map(|method| lengths.iter().map(|length| cell(method, length)).collect());
        let (task, model) = (&self.task, &self.model);
        Some(Figure {
            name: format!("board-{}", number + 1),
            caption: format!("{task}, {model}: {what} of each method by length."),
            drawing: Drawing::Heat(HeatMap {
                title: format!("{task}, {model}: {what}"),
                x: "length (tokens)".into(),
                y: "method".into(),
                columns: lengths
                    .iter()
                    .map(|length| length.as_ref().map_or(GAP.into(), shown))
                    .collect(),
                rows: methods.to_vec(),
                cells: cells.collect(),
                less_is_better,
                is_share: !less_is_better,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::to_html;
    use serde_json::json;

    fn run(task: &str, model: &str, records: Vec<Value>) -> RunFile {
        let header = json!({
            "selfextend_eval": 2, "version": "0.1.0", "task": task, "model": "0123",
            "settings": {"model_name": model}, "methods": ["plain", "dca"], "samples": 2,
            "digest": "4567", "shard": {"index": 1, "count": 1},
        });
        RunFile::new(
            serde_json::from_value(header).unwrap(),
            records
                .into_iter()
                .map(|it| serde_json::from_value(it).unwrap())
                .collect(),
        )
    }

    fn record(method: &str, outcome: Value) -> Value {
        json!({
            "index": 0, "id": "", "method": method, "prompt_hash": "", "tokens": 50, "read": 50,
            "prefill_s": 2.0, "decode_s": 0.0, "cache_bytes": 1 << 21,
            "tags": {"length": 64, "task": "vt"}, "outcome": outcome,
        })
    }

    #[test]
    fn rows_hold_what_their_files_hold() {
        let said = |score: f64| {
            json!({"answer": {"text": "", "tokens": 1, "expected": [], "score": score,
                "told": {"tokens": 2, "nll": 3.0, "top": 2}}})
        };
        let beyond = json!({"unreachable": {"reason": "too long"}});
        let ruler = run(
            "ruler",
            "small.gguf",
            vec![record("plain", said(0.5)), record("dca", beyond)],
        );
        let text = json!({"likelihood": {"from": 1, "count": 2, "nll": 2.0, "block": 256, "blocks": [[2, 2.0]]}});
        let mut sliding = record("plain", text);
        sliding["tags"] = json!({"length": 64});
        let perplexity = run("perplexity", "small.gguf", vec![sliding]);
        let runs = [
            ("a.jsonl".to_owned(), ruler),
            ("b.jsonl".to_owned(), perplexity),
        ];
        let report = leaderboard(&runs);
        let rows = &report.tables[0].rows;
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[0][..6],
            ["ruler vt", "small.gguf", "64", "plain", "1", "50.0"]
        );
        assert_eq!(rows[0][8..], ["1.500", "100.0", "-", "2.00", "2.0"]);
        assert_eq!(rows[1][3..6], ["dca", "1", "out of reach"]);
        assert_eq!(rows[2][10], "2.72");
        assert_eq!(
            report.tables[1].rows[0][..5],
            ["a.jsonl", "ruler", "small.gguf", "0123", "4567"]
        );
        assert_eq!(report.figures.len(), 2);
        let page = to_html(&report).unwrap();
        assert!(!page.contains("src=") && !page.contains("href=") && page.contains("<svg"));
    }
}

//! The tables and pictures of a comparison of methods.

use super::aggregate::{perplexity, summary};
use super::figure::{Drawing, Figure, Lines, Series};
use super::table::Table;
use super::view::{View, shown};
use crate::metrics::Interval;
use crate::record::{Outcome, Record};
use crate::tasks::compare::{PASSKEY, TEXT};
use serde_json::Value;

const MIB: f64 = (1 << 20) as f64;
const GAP: &str = "-";
const OUT_OF_REACH: &str = "out of reach";

/// The records of a method at a length.
struct Cell<'a> {
    text: Vec<&'a Record>,
    passkey: Vec<&'a Record>,
}

type Point = (f64, Option<Interval>);
type Measure<'a> = &'a dyn Fn(&Cell) -> Option<Point>;

impl Cell<'_> {
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.text.iter().chain(&self.passkey).copied()
    }

    /// Why the method does not reach the length.
    fn unreachable(&self) -> Option<&str> {
        self.records().find_map(|record| match &record.outcome {
            Outcome::Unreachable { reason } => Some(&**reason),
            _ => None,
        })
    }

    fn perplexity(&self) -> Option<Point> {
        perplexity(&self.text).map(|found| (found.value, Some(found.interval)))
    }

    fn passkey(&self) -> Option<Point> {
        summary(&self.passkey).map(|found| (found.mean, Some(found.interval)))
    }

    /// Seconds to read a whole sample; samples that share a prefix with the one before do not
    /// count. Questions are preferred to texts, because they need the logits of one token only.
    fn prefill(&self) -> Option<f64> {
        let whole = |records: &[&Record]| {
            let whole = records.iter().filter(|record| record.read == record.tokens);
            mean(whole.map(|record| record.prefill_s))
        };
        let reached = self.unreachable().is_none();
        reached.then(|| whole(&self.passkey).or(whole(&self.text)))?
    }

    /// Seconds of an answer, and of a token of it.
    fn decode(&self) -> Option<(f64, f64)> {
        let answers = self
            .passkey
            .iter()
            .filter_map(|record| match record.outcome {
                Outcome::Answer { tokens, .. } => Some((record.decode_s, tokens)),
                _ => None,
            });
        let answers: Vec<_> = answers.collect();
        let seconds: f64 = answers.iter().map(|(seconds, _)| seconds).sum();
        let tokens: usize = answers.iter().map(|(_, tokens)| tokens).sum();
        (tokens > 0).then(|| (seconds / answers.len() as f64, seconds / tokens as f64))
    }

    fn cache(&self) -> Option<f64> {
        let bytes = self.records().map(|record| record.cache_bytes);
        bytes.max().filter(|&bytes| bytes > 0).map(|b| b as f64)
    }

    fn peak(&self) -> Option<f64> {
        self.records()
            .filter_map(|record| record.peak_bytes)
            .max()
            .map(|b| b as f64)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn cell<'a>(view: &View<'a>, method: &str, length: &Value) -> Cell<'a> {
    let of = |task: &str| view.under(method, &[("length", length), ("task", &task.into())]);
    Cell {
        text: of(TEXT),
        passkey: of(PASSKEY),
    }
}

fn has(view: &View, task: &str) -> bool {
    view.values("task").iter().any(|value| value == task)
}

/// All numbers, then the quality alone, then the reasons for gaps.
pub(super) fn tables(view: &View) -> Vec<Table> {
    let mut tables = vec![all_numbers(view)];
    if has(view, TEXT) {
        let ppl = |cell: &Cell| cell.perplexity().map(|(value, _)| format!("{value:.2}"));
        tables.push(by_methods(view, "Perplexity", &ppl));
    }
    if has(view, PASSKEY) {
        let right = |cell: &Cell| cell.passkey().map(|(share, _)| percent(share));
        tables.push(by_methods(view, "Passkeys found, percent", &right));
    }
    let mut gaps = Table::new("Out of reach", &["method", "length", "reason"]);
    for method in view.methods() {
        for length in view.values("length") {
            if let Some(reason) = cell(view, method, &length).unreachable() {
                gaps.row(vec![method.clone(), shown(&length), reason.to_owned()]);
            }
        }
    }
    if !gaps.rows.is_empty() {
        tables.push(gaps);
    }
    tables
}

fn all_numbers(view: &View) -> Table {
    let mut table = Table::new(
        "Quality with 95% intervals, time and memory",
        &[
            "method",
            "length",
            "perplexity",
            "low",
            "high",
            "passkey %",
            "low %",
            "high %",
            "prefill s",
            "decode s",
            "ms/token",
            "KV MiB",
            "peak MiB",
        ],
    );
    for method in view.methods() {
        for length in view.values("length") {
            let cell = cell(view, method, &length);
            if cell.records().next().is_none() {
                continue;
            }
            let mut row = vec![method.clone(), shown(&length)];
            let number = |value: Option<f64>, digits: usize| {
                value.map_or(GAP.into(), |value| format!("{value:.digits$}"))
            };
            let reached = cell.unreachable().is_none();
            for (point, is_share) in [(cell.perplexity(), false), (cell.passkey(), true)] {
                match point {
                    Some((value, Some(interval))) => {
                        let all = [value, interval.low, interval.high];
                        let show = |value: f64| {
                            if is_share {
                                percent(value)
                            } else {
                                format!("{value:.3}")
                            }
                        };
                        row.extend(all.map(show));
                    }
                    _ if reached => row.extend([GAP; 3].map(String::from)),
                    _ => row.extend([OUT_OF_REACH, GAP, GAP].map(String::from)),
                }
            }
            let decode = cell.decode();
            row.push(number(cell.prefill(), 2));
            row.push(number(decode.map(|(answer, _)| answer), 3));
            row.push(number(decode.map(|(_, token)| 1000.0 * token), 2));
            row.push(number(cell.cache().map(|bytes| bytes / MIB), 2));
            row.push(number(cell.peak().map(|bytes| bytes / MIB), 0));
            table.row(row);
        }
    }
    table
}

/// A row for each method, a column for each length.
fn by_methods(view: &View, title: &str, show: &dyn Fn(&Cell) -> Option<String>) -> Table {
    let lengths = view.values("length");
    let names: Vec<String> = lengths.iter().map(shown).collect();
    let mut columns = vec!["method"];
    columns.extend(names.iter().map(String::as_str));
    let mut table = Table::new(title, &columns);
    for method in view.methods() {
        let cells = lengths.iter().map(|length| {
            let cell = cell(view, method, length);
            show(&cell).unwrap_or_else(|| match cell.unreachable() {
                Some(_) => OUT_OF_REACH.into(),
                None => GAP.into(),
            })
        });
        table.row(std::iter::once(method.clone()).chain(cells).collect());
    }
    table
}

pub(super) fn figures(view: &View) -> Vec<Figure> {
    let plain = |value: Option<f64>| value.map(|value| (value, None));
    let mut figures = Vec::new();
    if has(view, TEXT) {
        let what = "The perplexity of the texts, with 95% intervals; lower is better.";
        let mut figure = over_lengths(view, "text", "perplexity", what, &|cell| cell.perplexity());
        if let Drawing::Lines(lines) = &mut figure.drawing {
            lines.log_y = true;
        }
        figures.push(figure);
    }
    if has(view, PASSKEY) {
        let what = "The share of passkeys found, with 95% intervals; higher is better.";
        let mut figure = over_lengths(view, "passkey", "passkeys found", what, &|cell| {
            cell.passkey()
        });
        if let Drawing::Lines(lines) = &mut figure.drawing {
            lines.is_share = true;
        }
        figures.push(figure);
    }
    let what = "Seconds to read a sample of the length, on the machines that ran it.";
    let seconds = |cell: &Cell| plain(cell.prefill());
    figures.push(over_lengths(
        view,
        "seconds",
        "seconds to read",
        what,
        &seconds,
    ));
    let what = "Keys and values at the end of a sample; only methods that forget stay bounded.";
    let memory = |cell: &Cell| plain(cell.cache().map(|bytes| bytes / MIB));
    figures.push(over_lengths(
        view,
        "memory",
        "KV cache (MiB)",
        what,
        &memory,
    ));
    figures
}

fn over_lengths(view: &View, name: &str, y: &str, what: &str, value: Measure) -> Figure {
    let mut gaps = Vec::new();
    let series = view.methods().iter().map(|method| {
        let mut points = Vec::new();
        for length in view.values("length") {
            let cell = cell(view, method, &length);
            match (value(&cell), length.as_f64()) {
                (Some((number, interval)), Some(length)) => {
                    points.push((length, number, interval));
                }
                _ if cell.unreachable().is_some() => {
                    gaps.push(format!("{method} at {}", shown(&length)));
                }
                _ => {}
            }
        }
        Series {
            label: method.clone(),
            points,
        }
    });
    let series = series.collect();
    let missing = if gaps.is_empty() {
        String::new()
    } else {
        format!(" Out of reach: {}.", gaps.join(", "))
    };
    Figure {
        name: name.into(),
        caption: format!("{what}{missing}"),
        drawing: Drawing::Lines(Lines {
            title: format!("{y} by length"),
            x: "length (tokens)".into(),
            y: y.into(),
            mark: view.trained_window(),
            series,
            ..Default::default()
        }),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

//! The tables and pictures of perplexities.

use super::aggregate::perplexity;
use super::figure::{Drawing, Figure, Lines, Series};
use super::grid::grid_figures;
use super::lengths::by_length;
use super::table::Table;
use super::view::{View, shown};
use crate::record::{Outcome, Record};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn tables(view: &View) -> Vec<Table> {
    let mut table = Table::new(
        "Perplexity (95% bootstrap over blocks of text)",
        &[
            "method",
            "length",
            "texts",
            "tokens",
            "perplexity",
            "low",
            "high",
            "tok/s",
        ],
    );
    for method in view.methods() {
        for length in view.values("length") {
            let records = view.under(method, &[("length", &length)]);
            let Some(found) = perplexity(&records) else {
                let unreachable = !records.is_empty();
                if unreachable {
                    let gap = "-".to_owned();
                    table.row(vec![
                        method.clone(),
                        shown(&length),
                        gap.clone(),
                        gap.clone(),
                        "out of reach".into(),
                        gap.clone(),
                        gap.clone(),
                        gap,
                    ]);
                }
                continue;
            };
            table.row(vec![
                method.clone(),
                shown(&length),
                found.texts.to_string(),
                found.tokens.to_string(),
                format!("{:.3}", found.value),
                format!("{:.3}", found.interval.low),
                format!("{:.3}", found.interval.high),
                format!("{:.0}", found.tokens_per_second),
            ]);
        }
    }
    vec![table]
}

pub(super) fn figures(view: &View) -> Vec<Figure> {
    let value = |records: &[&Record]| perplexity(records).map(|found| found.value);
    if let Some(figures) = grid_figures(view, "perplexity", true, &value) {
        return figures;
    }
    let mut figures = Vec::new();
    let lengths = view.values("length");
    if let Some(longest) = lengths.last() {
        figures.push(by_position(view, longest));
    }
    if lengths.len() > 1 {
        let points =
            |records: &[&Record]| perplexity(records).map(|found| (found.value, found.interval));
        figures.push(by_length(view, "perplexity", true, &points));
    }
    figures
}

fn by_position(view: &View, length: &Value) -> Figure {
    let series = view.methods().iter().map(|method| {
        let mut sums: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
        let mut size = 0;
        for record in view.under(method, &[("length", length)]) {
            if let Outcome::Likelihood { blocks, block, .. } = &record.outcome {
                size = *block;
                for (n, (count, nll)) in blocks.iter().enumerate() {
                    let sum = sums.entry(n).or_default();
                    *sum = (sum.0 + count, sum.1 + nll);
                }
            }
        }
        // Neighbouring blocks are joined to at most forty points.
        let join = sums.len().div_ceil(40).max(1);
        let mut joined: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
        for (n, (count, nll)) in sums {
            let sum = joined.entry(n / join).or_default();
            *sum = (sum.0 + count, sum.1 + nll);
        }
        let points = joined.into_iter().filter(|(_, (count, _))| *count > 0);
        let points = points.map(|(n, (count, nll))| {
            let middle = (n as f64 + 0.5) * (join * size) as f64;
            (middle, (nll / count as f64).exp(), None)
        });
        Series {
            label: method.clone(),
            points: points.collect(),
        }
    });
    Figure {
        name: "position".into(),
        caption: format!(
            "Perplexity by position in texts of {} tokens; lower is better.",
            shown(length)
        ),
        drawing: Drawing::Lines(Lines {
            title: "Perplexity by position".into(),
            x: "position (tokens)".into(),
            y: "perplexity".into(),
            log_y: true,
            is_share: false,
            mark: view.trained_window(),
            series: series.collect(),
        }),
    }
}

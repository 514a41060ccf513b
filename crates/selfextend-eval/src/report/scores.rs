//! The tables and pictures of scored answers and choices.

use super::aggregate::{summary, telling};
use super::figure::{Bars, Drawing, Figure, HeatMap};
use super::grid::grid_figures;
use super::lengths::by_length;
use super::table::Table;
use super::view::{View, shown};
use crate::metrics::Summary;
use crate::record::{Outcome, Record};
use serde_json::Value;

pub(super) fn tables(view: &View) -> Vec<Table> {
    let tags: Vec<&str> = ["task", "length"]
        .into_iter()
        .filter(|tag| !view.values(tag).is_empty())
        .collect();
    let title = "Score in percent (95%: Wilson, or bootstrap where answers score in part)";
    let told = "The right answer told token by token: its loss, how often its tokens are the most probable ones, and the token at which greedy decoding leaves it most often";
    let mut tables = vec![scores(view, title, &tags)];
    tables.extend(tellings(view, told, &tags));
    let varied = |tag: &&str| view.values(tag).len() > 1;
    if let Some(tag) = ["wording", "needle"].into_iter().find(varied) {
        let each: Vec<&str> = tags.into_iter().chain([tag]).collect();
        let title = format!("The score for each {tag}");
        tables.push(scores(view, &title, &each));
        let title = format!("The right answer told, for each {tag}");
        tables.extend(tellings(view, &title, &each));
    }
    tables
}

/// The likelihood of right answers, where they were told: what a model knows, beside what it says.
fn tellings(view: &View, title: &str, tags: &[&str]) -> Option<Table> {
    let mut columns = vec!["method"];
    columns.extend(tags);
    columns.extend([
        "samples",
        "nats a token",
        "tokens first %",
        "answers first %",
        "left at",
    ]);
    let mut table = Table::new(title, &columns);
    let mut any = false;
    for method in view.methods() {
        for group in groups(view, tags) {
            let wanted: Vec<_> = tags.iter().copied().zip(&group).collect();
            let Some(found) = telling(&view.under(method, &wanted)) else {
                continue;
            };
            any = true;
            let percent = |share: f64| format!("{:.1}", 100.0 * share);
            let mut row = vec![method.clone()];
            row.extend(group.iter().map(shown));
            row.push(found.count.to_string());
            row.push(format!("{:.3}", found.nats));
            row.extend([found.top, found.whole].map(percent));
            row.push(found.left.map_or("-".into(), |(at, share)| {
                format!("{} ({}%)", at + 1, percent(share))
            }));
            table.row(row);
        }
    }
    any.then_some(table)
}

fn scores(view: &View, title: &str, tags: &[&str]) -> Table {
    let mut columns = vec!["method"];
    columns.extend(tags);
    columns.extend(["samples", "score %", "low", "high"]);
    let has_choices = view
        .run
        .records
        .iter()
        .any(|record| record.outcome.score_by_character().is_some());
    if has_choices {
        columns.extend(["acc_norm %", "low", "high", "acc_bytes %", "low", "high"]);
    }
    let mut table = Table::new(title, &columns);
    for method in view.methods() {
        for group in groups(view, tags) {
            let wanted: Vec<_> = tags.iter().copied().zip(&group).collect();
            let records = view.under(method, &wanted);
            let Some(found) = summary(&records) else {
                continue;
            };
            let mut row = vec![method.clone()];
            row.extend(group.iter().map(shown));
            row.push(found.count.to_string());
            row.extend(percents(&found));
            if has_choices {
                for score in [Outcome::score_by_character, Outcome::score_by_byte] {
                    let scores = records.iter().filter_map(|record| score(&record.outcome));
                    match Summary::of(&scores.collect::<Vec<_>>()) {
                        Some(found) => row.extend(percents(&found)),
                        None => row.extend(["-", "-", "-"].map(String::from)),
                    }
                }
            }
            table.row(row);
        }
    }
    table
}

/// The combinations of tags that occur, in order of appearance.
fn groups(view: &View, tags: &[&str]) -> Vec<Vec<Value>> {
    let mut groups: Vec<Vec<Value>> = Vec::new();
    for record in &view.run.records {
        let group: Vec<Value> = tags
            .iter()
            .map(|tag| record.tags.get(*tag).cloned().unwrap_or_default())
            .collect();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

pub(super) fn figures(view: &View) -> Vec<Figure> {
    let value = |records: &[&Record]| summary(records).map(|found| found.mean);
    if let Some(figures) = grid_figures(view, "score", false, &value) {
        return figures;
    }
    let mut figures = Vec::new();
    if view.values("depth").len() > 1 {
        let maps = view.methods().iter().enumerate();
        figures.extend(maps.map(|(n, method)| depth_map(view, n, method)));
    }
    let has_tasks = view.values("task").len() > 1;
    if has_tasks || view.values("length").len() < 2 {
        figures.push(comparison(view));
    }
    if view.values("length").len() > 1 {
        let points =
            |records: &[&Record]| summary(records).map(|found| (found.mean, found.interval));
        figures.push(by_length(view, "score", false, &points));
    }
    figures
}

fn depth_map(view: &View, number: usize, method: &str) -> Figure {
    let (lengths, depths) = (view.values("length"), view.values("depth"));
    let cell = |depth: &Value, length: &Value| {
        let records = view.under(method, &[("length", length), ("depth", depth)]);
        summary(&records).map(|found| found.mean)
    };
    let rows = depths
        .iter()
        .map(|depth| lengths.iter().map(|length| cell(depth, length)).collect());
    let percent = |depth: &Value| format!("{:.0}%", 100.0 * depth.as_f64().unwrap_or_default());
    Figure {
        name: format!("depths-{}", number + 1),
        caption: format!(
            "{method}: share of right answers by length and by the depth at which the answer lies."
        ),
        drawing: Drawing::Heat(HeatMap {
            title: method.into(),
            x: "length (tokens)".into(),
            y: "depth".into(),
            columns: lengths.iter().map(shown).collect(),
            rows: depths.iter().map(percent).collect(),
            cells: rows.collect(),
            less_is_better: false,
            is_share: true,
        }),
    }
}

fn comparison(view: &View) -> Figure {
    let tag = if view.values("task").is_empty() {
        "length"
    } else {
        "task"
    };
    let groups = view.values(tag);
    let bar = |group: &Value, method: &String| {
        let found = summary(&view.under(method, &[(tag, group)]))?;
        Some((found.mean, found.interval))
    };
    let bars = groups.iter().map(|group| {
        view.methods()
            .iter()
            .map(|method| bar(group, method))
            .collect()
    });
    Figure {
        name: "methods".into(),
        caption: format!("The score of each method by {tag}, with 95% intervals."),
        drawing: Drawing::Bars(Bars {
            title: "Methods compared".into(),
            y: "score".into(),
            groups: groups.iter().map(shown).collect(),
            labels: view.methods().to_vec(),
            bars: bars.collect(),
        }),
    }
}

fn percents(found: &Summary) -> [String; 3] {
    [found.mean, found.interval.low, found.interval.high]
        .map(|share| format!("{:.1}", 100.0 * share))
}

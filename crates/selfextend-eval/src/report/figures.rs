//! Which tables and pictures a run's results become.

use super::{Table, View, shown};
use crate::metrics::{Interval, Summary, bootstrap_perplexity};
use crate::record::{Outcome, Record};
use crate::tasks::ablation;
use serde_json::Value;
use std::collections::BTreeMap;

/// A picture with its name and its explanation.
#[derive(Debug, Clone)]
pub struct Figure {
    /// A short name, unique in its report.
    pub name: String,
    /// What one sees.
    pub caption: String,
    /// What is drawn.
    pub drawing: Drawing,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub enum Drawing {
    /// Lines over numbers.
    Lines(Lines),
    /// A number for each pair.
    Heat(HeatMap),
    /// Bars in groups.
    Bars(Bars),
}

/// Lines over a common axis.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Heading.
    pub title: String,
    /// What lies along the horizontal axis.
    pub x: String,
    /// What lies along the vertical axis.
    pub y: String,
    /// Whether the vertical axis is logarithmic.
    pub log_y: bool,
    /// Whether the numbers are shares from 0 to 1, shown in percent.
    pub is_share: bool,
    /// A vertical line with its name, such as the trained window.
    pub mark: Option<(f64, String)>,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name.
    pub label: String,
    /// Its points, with an interval where there is one.
    pub points: Vec<(f64, f64, Option<Interval>)>,
}

/// A number for each pair of a column and a row.
#[derive(Debug, Clone, Default)]
pub struct HeatMap {
    /// Heading.
    pub title: String,
    /// What the columns are.
    pub x: String,
    /// What the rows are.
    pub y: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// The numbers by row; nothing where a pair was not run.
    pub cells: Vec<Vec<Option<f64>>>,
    /// Whether less is better, as for perplexities.
    pub less_is_better: bool,
    /// Whether the numbers are shares from 0 to 1, shown in percent.
    pub is_share: bool,
}

/// Bars in groups, one of each group for each method.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// Heading.
    pub title: String,
    /// What the vertical axis is.
    pub y: String,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Names of the bars of a group.
    pub labels: Vec<String>,
    /// Heights by group, with their intervals.
    pub bars: Vec<Vec<Option<(f64, Interval)>>>,
}

/// From records to a number with its interval.
type Measure<'a> = &'a dyn Fn(&[&Record]) -> Option<(f64, Interval)>;

/// A method's perplexity at a length.
pub(super) struct Perplexity {
    texts: usize,
    tokens: usize,
    pub(super) value: f64,
    pub(super) interval: Interval,
    tokens_per_second: f64,
}

pub(super) fn perplexity(records: &[&Record]) -> Option<Perplexity> {
    let mut blocks: Vec<(usize, f64)> = Vec::new();
    let (mut read, mut seconds, mut texts) = (0, 0.0, 0);
    for record in records {
        if let Outcome::Likelihood { blocks: some, .. } = &record.outcome {
            blocks.extend(some.iter().filter(|(count, _)| *count > 0));
            read += record.read;
            seconds += record.prefill_s;
            texts += 1;
        }
    }
    let (tokens, nll) = blocks
        .iter()
        .fold((0, 0.0), |(n, sum), block| (n + block.0, sum + block.1));
    (tokens > 0).then(|| Perplexity {
        texts,
        tokens,
        value: (nll / tokens as f64).exp(),
        interval: bootstrap_perplexity(&blocks),
        tokens_per_second: read as f64 / f64::max(seconds, 1e-9),
    })
}

pub(super) fn summary(records: &[&Record]) -> Option<Summary> {
    let scores: Vec<f64> = records
        .iter()
        .filter_map(|record| record.outcome.score())
        .collect();
    Summary::of(&scores)
}

impl<'a> View<'a> {
    pub(super) fn perplexity_tables(&self) -> Vec<Table> {
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
        for method in self.methods() {
            for length in self.values("length") {
                let records = self.under(method, &[("length", &length)]);
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

    pub(super) fn perplexity_figures(&self) -> Vec<Figure> {
        let value = |records: &[&Record]| perplexity(records).map(|found| found.value);
        if let Some(figures) = self.grid_figures("perplexity", true, &value) {
            return figures;
        }
        let mut figures = Vec::new();
        let lengths = self.values("length");
        if let Some(longest) = lengths.last() {
            figures.push(self.by_position(longest));
        }
        if lengths.len() > 1 {
            let points = |records: &[&Record]| {
                perplexity(records).map(|found| (found.value, found.interval))
            };
            figures.push(self.by_length("perplexity", true, &points));
        }
        figures
    }

    fn by_position(&self, length: &Value) -> Figure {
        let series = self.methods().iter().map(|method| {
            let mut sums: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
            let mut size = 0;
            for record in self.under(method, &[("length", length)]) {
                if let Outcome::Likelihood { blocks, block, .. } = &record.outcome {
                    size = *block;
                    for (n, (count, nll)) in blocks.iter().enumerate() {
                        let sum = sums.entry(n).or_default();
                        *sum = (sum.0 + count, sum.1 + nll);
                    }
                }
            }
            // At most about forty points: neighbouring blocks join.
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
                mark: self.trained_window(),
                series: series.collect(),
            }),
        }
    }

    fn by_length(&self, what: &str, log_y: bool, value: Measure) -> Figure {
        let series = self.methods().iter().map(|method| {
            let points = self.values("length").into_iter().filter_map(|length| {
                let (mean, interval) = value(&self.under(method, &[("length", &length)]))?;
                Some((length.as_f64()?, mean, Some(interval)))
            });
            Series {
                label: method.clone(),
                points: points.collect(),
            }
        });
        Figure {
            name: "length".into(),
            caption: format!("The {what} of each method by length, with 95% intervals."),
            drawing: Drawing::Lines(Lines {
                title: format!("{what} by length"),
                x: "length (tokens)".into(),
                y: what.into(),
                log_y,
                is_share: !log_y,
                mark: self.trained_window(),
                series: series.collect(),
            }),
        }
    }

    pub(super) fn score_tables(&self) -> Vec<Table> {
        let mut columns = vec!["method"];
        let tags: Vec<&str> = ["task", "length"]
            .into_iter()
            .filter(|tag| !self.values(tag).is_empty())
            .collect();
        columns.extend(&tags);
        columns.extend(["samples", "score %", "low", "high"]);
        let is_normalised = self
            .run
            .records
            .iter()
            .any(|record| record.outcome.normalised_score().is_some());
        if is_normalised {
            columns.extend(["normalised %", "low", "high"]);
        }
        let title = "Score in percent (95%: Wilson, or bootstrap where answers score in part)";
        let mut table = Table::new(title, &columns);
        for method in self.methods() {
            for group in self.groups(&tags) {
                let wanted: Vec<_> = tags.iter().copied().zip(&group).collect();
                let records = self.under(method, &wanted);
                let Some(found) = summary(&records) else {
                    continue;
                };
                let mut row = vec![method.clone()];
                row.extend(group.iter().map(shown));
                row.push(found.count.to_string());
                row.extend(percents(&found));
                if is_normalised {
                    let scores = records
                        .iter()
                        .filter_map(|record| record.outcome.normalised_score());
                    match Summary::of(&scores.collect::<Vec<_>>()) {
                        Some(found) => row.extend(percents(&found)),
                        None => row.extend(["-", "-", "-"].map(String::from)),
                    }
                }
                table.row(row);
            }
        }
        vec![table]
    }

    /// The combinations of tags that occur, in order of appearance.
    fn groups(&self, tags: &[&str]) -> Vec<Vec<Value>> {
        let mut groups: Vec<Vec<Value>> = Vec::new();
        for record in &self.run.records {
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

    pub(super) fn score_figures(&self) -> Vec<Figure> {
        let value = |records: &[&Record]| summary(records).map(|found| found.mean);
        if let Some(figures) = self.grid_figures("score", false, &value) {
            return figures;
        }
        let mut figures = Vec::new();
        if self.values("depth").len() > 1 {
            let maps = self.methods().iter().enumerate();
            figures.extend(maps.map(|(n, method)| self.depth_map(n, method)));
        }
        let has_tasks = self.values("task").len() > 1;
        if has_tasks || self.values("length").len() < 2 {
            figures.push(self.comparison());
        }
        if self.values("length").len() > 1 {
            let points =
                |records: &[&Record]| summary(records).map(|found| (found.mean, found.interval));
            figures.push(self.by_length("score", false, &points));
        }
        figures
    }

    fn depth_map(&self, number: usize, method: &str) -> Figure {
        let (lengths, depths) = (self.values("length"), self.values("depth"));
        let cell = |depth: &Value, length: &Value| {
            let records = self.under(method, &[("length", length), ("depth", depth)]);
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

    fn comparison(&self) -> Figure {
        let tag = if self.values("task").is_empty() {
            "length"
        } else {
            "task"
        };
        let groups = self.values(tag);
        let bar = |group: &Value, method: &String| {
            let found = summary(&self.under(method, &[(tag, group)]))?;
            Some((found.mean, found.interval))
        };
        let bars = groups.iter().map(|group| {
            self.methods()
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
                labels: self.methods().to_vec(),
                bars: bars.collect(),
            }),
        }
    }

    /// A map of group sizes and windows for each length, where the run is an ablation.
    fn grid_figures(
        &self,
        what: &str,
        less_is_better: bool,
        value: &dyn Fn(&[&Record]) -> Option<f64>,
    ) -> Option<Vec<Figure>> {
        let (group_sizes, windows) = self.grid()?;
        let map = |length: &Value| {
            let cell = |window: usize, group_size: usize| {
                value(&self.under(
                    &ablation::method_name(group_size, window),
                    &[("length", length)],
                ))
            };
            let row = |&window: &usize| {
                let cells = group_sizes
                    .iter()
                    .map(|&group_size| cell(window, group_size));
                cells.collect()
            };
            let plain = value(&self.under("plain", &[("length", length)]));
            let plain = plain.map_or(String::new(), |plain| match less_is_better {
                true => format!(" (plain: {plain:.2})"),
                false => format!(" (plain: {:.0}%)", 100.0 * plain),
            });
            Figure {
                name: format!("grid-{}", shown(length)),
                caption: format!(
                    "{what} at {} tokens by group size and neighbour window{plain}; empty where the settings do not reach the length.",
                    shown(length)
                ),
                drawing: Drawing::Heat(HeatMap {
                    title: format!("{what} at {} tokens{plain}", shown(length)),
                    x: "group size G".into(),
                    y: "neighbour window W".into(),
                    columns: group_sizes.iter().map(usize::to_string).collect(),
                    rows: windows.iter().map(usize::to_string).collect(),
                    cells: windows.iter().map(row).collect(),
                    less_is_better,
                    is_share: !less_is_better,
                }),
            }
        };
        let mut figures: Vec<Figure> = self.values("length").iter().map(map).collect();
        // The longest first: it tells most.
        figures.reverse();
        Some(figures)
    }

    pub(super) fn under(&self, method: &str, tags: &[(&str, &Value)]) -> Vec<&'a Record> {
        self.records(|record| {
            record.method == method
                && tags
                    .iter()
                    .all(|(tag, value)| record.tags.get(*tag).unwrap_or(&Value::Null) == *value)
        })
    }

    pub(super) fn trained_window(&self) -> Option<(f64, String)> {
        let window = self.run.header.settings.get("trained_window")?.as_f64()?;
        Some((window, "trained window".into()))
    }
}

fn percents(found: &Summary) -> [String; 3] {
    [found.mean, found.interval.low, found.interval.high]
        .map(|share| format!("{:.1}", 100.0 * share))
}

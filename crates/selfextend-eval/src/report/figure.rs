//! Pictures as data: what is drawn, before anything is.

use crate::metrics::Interval;

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

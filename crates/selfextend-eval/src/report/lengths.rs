//! The picture of a number by length.

use super::figure::{Drawing, Figure, Lines, Series};
use super::view::View;
use crate::metrics::Interval;
use crate::record::Record;

/// From records to a number with its interval.
type Measure<'a> = &'a dyn Fn(&[&Record]) -> Option<(f64, Interval)>;

/// A number of each method by length.
pub(super) fn by_length(view: &View, what: &str, log_y: bool, value: Measure) -> Figure {
    let series = view.methods().iter().map(|method| {
        let points = view.values("length").into_iter().filter_map(|length| {
            let (mean, interval) = value(&view.under(method, &[("length", &length)]))?;
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
            mark: view.trained_window(),
            series: series.collect(),
        }),
    }
}

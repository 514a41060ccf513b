//! `selfextend plot`: perplexity by position, from the lines that `score` writes.

use crate::args::plot::PlotArgs;
use crate::error::{CliError, Result};
use crate::{input, output};
use selfextend_eval::report::{Drawing, Lines, Series, to_svg};
use serde::Deserialize;
use std::path::Path;

/// Draws the picture.
pub fn plot(args: &PlotArgs) -> Result<()> {
    let series = args.series.iter().map(|(label, path)| {
        let points = bucket_means(&read(path)?, args.bucket);
        Ok(Series {
            label: label.clone(),
            points: points.into_iter().map(|(x, y)| (x, y, None)).collect(),
        })
    });
    let lines = Lines {
        title: args.title.clone(),
        x: "position (tokens)".into(),
        y: "perplexity".into(),
        log_y: true,
        is_share: false,
        mark: args
            .trained_window
            .map(|window| (window as f64, "trained window".into())),
        series: series.collect::<Result<_>>()?,
    };
    output::file(&args.output, &to_svg(&Drawing::Lines(lines))?)
}

#[derive(Deserialize)]
struct Line {
    position: usize,
    nll: f64,
}

fn read(path: &Path) -> Result<Vec<Line>> {
    let text = input::file(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let lines = lines.map(|(n, line)| {
        serde_json::from_str::<Line>(line).map_err(|error| {
            let place = format!("line {} of {}", n + 1, path.display());
            CliError::failure(format!(
                "{place} was not written by `selfextend score`: {error}"
            ))
        })
    });
    let lines = lines.collect::<Result<Vec<_>>>()?;
    let sound = |line: &Line| line.position >= 1 && line.nll.is_finite();
    if lines.iter().all(sound) && !lines.is_empty() {
        Ok(lines)
    } else {
        Err(CliError::failure(format!(
            "{} has no scores that can be drawn",
            path.display()
        )))
    }
}

/// Bucket `b` holds the positions `p` with `(p - 1) / bucket == b`.
fn bucket_means(lines: &[Line], bucket: usize) -> Vec<(f64, f64)> {
    let mut buckets = std::collections::BTreeMap::<usize, (f64, f64, usize)>::new();
    for line in lines {
        let sums = buckets.entry((line.position - 1) / bucket).or_default();
        *sums = (sums.0 + line.position as f64, sums.1 + line.nll, sums.2 + 1);
    }
    let mean = |(position, nll, count): (f64, f64, usize)| {
        (position / count as f64, (nll / count as f64).exp())
    };
    buckets.into_values().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_start_after_the_first_token() {
        let line = |position, nll| Line { position, nll };
        let lines = [line(1, 1.0), line(2, 3.0), line(3, 0.0)];
        let means = bucket_means(&lines, 2);
        assert_eq!(means, [(1.5, 2f64.exp()), (3.0, 1.0)]);
    }
}

//! `selfextend plot`: perplexity by position, from the lines that `score` writes.

use crate::args::PlotArgs;
use crate::error::{CliError, Result};
use crate::{input, output};
use plotters::prelude::*;
use serde::Deserialize;
use std::path::Path;

/// Draws the picture.
pub fn plot(args: &PlotArgs) -> Result<()> {
    let series = args.series.iter().map(|(label, path)| {
        let points = bucket_means(&read(path)?, args.bucket);
        Ok(Series {
            label: label.clone(),
            points,
        })
    });
    let series = series.collect::<Result<Vec<_>>>()?;
    let picture = draw(args, &series)
        .map_err(|error| CliError::failure(format!("cannot draw the picture: {error}")))?;
    output::file(&args.output, &picture)
}

struct Series {
    label: String,
    /// The middle of a bucket and its perplexity.
    points: Vec<(f64, f64)>,
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
            CliError::failure(format!("{place} is none of `selfextend score`: {error}"))
        })
    });
    let lines = lines.collect::<Result<Vec<_>>>()?;
    let sound = |line: &Line| line.position >= 1 && line.nll.is_finite();
    match lines.iter().all(sound) && !lines.is_empty() {
        true => Ok(lines),
        false => Err(CliError::failure(format!(
            "{} has no scores that can be drawn",
            path.display()
        ))),
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

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "Helvetica, Arial, sans-serif";

/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

fn draw(args: &PlotArgs, series: &[Series]) -> Result<String, Box<dyn std::error::Error>> {
    let points = || series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let right = args
        .trained_window
        .map_or(right, |window| right.max(window as f64))
        * 1.02;
    let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min) / 1.25;
    let high = points().map(|point| point.1).fold(1.0, f64::max) * 1.25;
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&args.title, (FONT, 24))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..right, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("position (tokens)")
            .y_desc("perplexity")
            .x_label_formatter(&|x| output::grouped(x.round() as usize))
            .y_label_formatter(&|y| {
                if *y < 10.0 {
                    format!("{y:.1}")
                } else {
                    format!("{y:.0}")
                }
            })
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 18))
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .draw()?;
        if let Some(window) = args.trained_window {
            let ends = vec![(window as f64, low), (window as f64, high)];
            let style = BLACK.mix(0.6).stroke_width(1);
            chart
                .draw_series(DashedLineSeries::new(ends, 6, 4, style))?
                .label("trained window")
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(3);
            chart
                .draw_series(LineSeries::new(series.points.iter().copied(), style))?
                .label(&series.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font((FONT, 16))
            .legend_area_size(32)
            .margin(14)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()?;
        area.present()?;
    }
    Ok(picture)
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

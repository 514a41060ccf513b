//! The picture: tokens per second against the length.

use crate::engines::Task;
use crate::error::{BenchError, Result};
use crate::report::{grouped, limit};
use crate::results::{ModelResults, Results};
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (1200, 560);
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

struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

/// Draws a model's prefill and decode beside each other, as an SVG.
pub fn draw(results: &Results, model: &ModelResults) -> Result<String> {
    let mut picture = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        draw_on(&area, results, model)
    };
    match drawn {
        Ok(()) => Ok(picture),
        Err(error) => {
            let message = format!("cannot draw the picture: {error}");
            Err(BenchError::Failure(message))
        }
    }
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw_on(
    area: &DrawingArea<SVGBackend, Shift>,
    results: &Results,
    model: &ModelResults,
) -> Drawn {
    area.fill(&WHITE)?;
    let name = model.file.file_name().unwrap_or_default().to_string_lossy();
    let (threads, cpu) = (results.machine.threads, &results.machine.cpu);
    let title = format!("{name}, {threads} threads of {cpu}");
    let area = area.titled(&title, (FONT, 22))?;
    let halves = area.split_evenly((1, 2));
    for (half, task) in halves.iter().zip([Task::Prefill, Task::Decode]) {
        panel(half, results, model, task)?;
    }
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend, Shift>,
    results: &Results,
    model: &ModelResults,
    task: Task,
) -> Drawn {
    let lengths = model.lengths(task);
    let line = |label: String, speed: &dyn Fn(usize) -> Option<f64>| Line {
        label,
        points: lengths
            .iter()
            .filter_map(|&length| Some((length as f64, speed(length)?)))
            .collect(),
    };
    let roof = line("limit of the machine".to_owned(), &|length| {
        limit(results, model, task, length)
    });
    let measured = model.series.iter().map(|series| {
        line(series.name(), &|length| {
            model.cell(series, task, length)?.median
        })
    });
    let measured: Vec<Line> = measured.filter(|line| !line.points.is_empty()).collect();
    let points = || measured.iter().chain([&roof]).flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max) * 1.04;
    // Room for the legend above the lines, which fall.
    let room = 1.15 + 0.06 * (measured.len() + 1) as f64;
    let top = points().map(|point| point.1).fold(1.0, f64::max) * room;
    let (title, length) = match task {
        Task::Prefill => ("Prefill", "tokens"),
        Task::Decode => ("Decode", "tokens before"),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .x_desc(length)
        .y_desc("tok/s")
        .x_label_formatter(&|x| grouped(x.round() as usize))
        .y_label_formatter(&|y| {
            let digits = if top < 8.0 { 1 } else { 0 };
            format!("{y:.digits$}")
        })
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 17))
        .light_line_style(BLACK.mix(0.04))
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    let grey = BLACK.mix(0.5).stroke_width(2);
    chart
        .draw_series(DashedLineSeries::new(roof.points, 6, 4, grey))?
        .label(roof.label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], grey));
    for (line, colour) in measured.into_iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(3);
        let dots = line
            .points
            .iter()
            .map(|&at| Circle::new(at, 4, colour.filled()));
        chart.draw_series(dots)?;
        chart
            .draw_series(LineSeries::new(line.points, style))?
            .label(line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font((FONT, 15))
        .legend_area_size(32)
        .margin(12)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}

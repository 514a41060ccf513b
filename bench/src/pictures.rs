//! The pictures: tokens per second against the length.

use crate::error::{BenchError, Result};
use crate::results::{ModelResults, Results};
use crate::series::Task;
use selfextend_eval::report::{Drawing, Lines, Series, to_svg};

/// A model's prefill and decode, each as the name of a file and an SVG; nothing for a task that
/// was not measured.
pub fn draw(results: &Results, model: &ModelResults) -> Result<Vec<(String, String)>> {
    let of = if results.models.len() > 1 {
        format!("-{}", model.slug())
    } else {
        String::new()
    };
    let mut pictures = Vec::new();
    for (task, name) in [(Task::Prefill, "prefill"), (Task::Decode, "decode")] {
        let lines = lines(results, model, task);
        if lines.series.iter().any(|series| !series.points.is_empty()) {
            let svg = to_svg(&Drawing::Lines(lines)).map_err(BenchError::failure)?;
            pictures.push((format!("speed{of}-{name}.svg"), svg));
        }
    }
    Ok(pictures)
}

fn lines(results: &Results, model: &ModelResults, task: Task) -> Lines {
    let lengths = model.lengths(task);
    let line = |label: String, speed: &dyn Fn(usize) -> Option<f64>| {
        let points = lengths.iter();
        Series {
            label,
            points: points
                .filter_map(|&length| Some((length as f64, speed(length)?, None)))
                .collect(),
        }
    };
    let measured = model.series.iter().map(|series| {
        line(series.name(), &|length| {
            model.cell(series, task, length)?.median
        })
    });
    let limit = line("limit of the machine".to_owned(), &|length| {
        results.limit(model, task, length)
    });
    let name = model.title();
    let (title, x) = match task {
        Task::Load | Task::Prefill => ("Prefill", "tokens"),
        Task::Decode => ("Decode", "tokens before"),
    };
    Lines {
        title: format!("{title}: {name}, {} threads", results.machine.threads),
        x: x.to_owned(),
        y: "tokens per second".to_owned(),
        series: measured.chain([limit]).collect(),
        ..Default::default()
    }
}

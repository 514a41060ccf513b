//! Results as tables and pictures.

use crate::args::eval::ShowArgs;
use crate::error::{CliError, Result};
use crate::output;
use selfextend_eval::Report;
use selfextend_eval::report::{Drawing, Table, to_html, to_png, to_svg};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Refuses a --plot that cannot be drawn, before anything runs.
pub fn check(args: &ShowArgs) -> Result<()> {
    match &args.plot {
        Some(path) if !matches!(extension(path), Some("svg" | "png")) => {
            Err(CliError::usage(format!(
                "--plot {}: the file name must end in .svg or .png",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Writes the files that were asked for, and the tables to stdout.
pub fn show(report: &Report, args: &ShowArgs) -> Result<()> {
    if let Some(path) = &args.csv {
        output::file(path, &report.to_csv())?;
    }
    if let Some(path) = &args.html {
        output::file(path, &to_html(report)?)?;
    }
    if let Some(path) = &args.plot {
        plot(path, &chosen(report, args)?)?;
    }
    if args.json {
        output::json(&in_json(report))
    } else {
        output::text(&report.to_text())
    }
}

fn chosen(report: &Report, args: &ShowArgs) -> Result<Drawing> {
    let mut figures = report.figures.iter();
    let found = match &args.figure {
        Some(name) => figures.find(|figure| figure.name == *name),
        None => figures.next(),
    };
    found.map(|figure| figure.drawing.clone()).ok_or_else(|| {
        let names: Vec<_> = report.figures.iter().map(|figure| &*figure.name).collect();
        let names = names.join(", ");
        CliError::usage(match &args.figure {
            Some(figure) => format!("--figure {figure}: these results have {names}"),
            None => "these results have no picture for --plot".to_owned(),
        })
    })
}

fn plot(path: &Path, drawing: &Drawing) -> Result<()> {
    match extension(path) {
        Some("png") => output::bytes(path, &to_png(drawing)?),
        _ => output::file(path, &to_svg(drawing)?),
    }
}

/// The tables, as objects keyed by the names of their columns.
fn in_json(report: &Report) -> Value {
    let cell = |text: &String| {
        text.parse::<f64>()
            .map_or(json!(text), |number| json!(number))
    };
    let rows = |table: &Table| -> Vec<Value> {
        let row = |row: &Vec<String>| -> Value {
            let cells = table.columns.iter().cloned().zip(row.iter().map(cell));
            Value::Object(cells.collect())
        };
        table.rows.iter().map(row).collect()
    };
    let settings = report.settings.iter();
    let settings: Map<String, Value> = settings
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let tables = report.tables.iter().map(|table| json!(rows(table)));
    let tables: Vec<Value> = tables.collect();
    json!({ "title": report.title, "settings": settings, "tables": tables })
}

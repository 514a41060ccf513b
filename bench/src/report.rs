//! The tables, for people and for programs.

use crate::error::{BenchError, Result};
use crate::numbers::{grouped, number, optional, percent, ratio, times, whole};
use crate::pictures;
use crate::results::{Cell, ModelResults, Results};
use crate::roofline::{best, median};
use crate::series::Task;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Writes report.md, report.json and two pictures for each model.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| BenchError::path("make", folder, error))?;
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| BenchError::path("write", &path, error))
    };
    save("report.md", &markdown(results))?;
    let json = serde_json::to_string_pretty(results).map_err(BenchError::failure)?;
    save("report.json", &json)?;
    for model in results.models.iter().filter(|it| !it.cells.is_empty()) {
        for (name, picture) in pictures::draw(results, model)? {
            save(&name, &picture)?;
        }
    }
    Ok(())
}

/// All tables.
pub fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "# Speed against the peers\n\n{}, {}, {} threads, selfextend's kernels at {}. Commit {}, {}.\n",
        machine.date,
        machine.cpu,
        machine.threads,
        machine.instructions,
        machine.commit,
        machine.rustc,
    );
    let lines = results.versions.iter();
    let lines = lines.map(|version| format!("{version}.\n"));
    text.extend(lines);
    if let Some(stolen) = results.stolen.filter(|share| *share > 0.0) {
        let share = percent(stolen);
        let _ = writeln!(
            text,
            "Other guests of the host took {share} of the processor time."
        );
    }
    let rounds = match results.rounds {
        1 => "One round".to_owned(),
        rounds => format!("Medians of {rounds} rounds"),
    };
    let _ = writeln!(
        text,
        "{rounds}, engines in turns; decode is {} tokens after the depth. Ratios are against the \
         best setting of a peer with the same cache. The limit is what the model needs at least \
         (multiply-adds for prefill, bytes for decode) at the limits of the machine below. \
         llama.cpp warms up (a prefill: up to 4096 tokens), the others do not. mistral.rs and the \
         servers decode after 16 tokens where the depth is 0. Through a server, prefill lasts from \
         the request to the first text, and every server reads a short prompt before.",
        results.decode_tokens
    );
    text.push_str(&not_measured(results));
    for model in &results.models {
        for task in [Task::Prefill, Task::Decode] {
            text.push_str(&speeds(results, model, task));
        }
        text.push_str(&loads(model));
        text.push_str(&memory(model));
    }
    text.push_str(&limits(results));
    text.push_str(&alone(results));
    if !results.failures.is_empty() {
        text.push_str("\n## Failures\n\n");
        for failure in &results.failures {
            let _ = writeln!(text, "```\n{failure}\n```");
        }
    }
    text
}

/// Who is not in the tables, and what a peer there cannot: never silently.
fn not_measured(results: &Results) -> String {
    let absent = results.absent.iter();
    let absent = absent.map(|absent| (absent.name.clone(), absent.reason.clone()));
    let cells = results.models.iter().flat_map(|model| {
        let cells = model.cells.iter().filter(|cell| cell.reason.is_some());
        cells.map(|cell| {
            let reason = cell.reason.clone().unwrap_or_default();
            (format!("{}, {}", cell.described(), model.title()), reason)
        })
    });
    // A failure's whole text is at the end.
    let line = |(what, reason): (String, String)| {
        format!("- {what}: {}\n", reason.lines().next().unwrap_or_default())
    };
    let lines: String = absent.chain(cells).map(line).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n## Not measured\n\n{lines}"),
    }
}

fn loads(model: &ModelResults) -> String {
    let cells = model.series.iter().map(|it| model.cell(it, Task::Load, 0));
    let cells: Vec<String> = cells.map(in_words).collect();
    if cells.iter().all(|cell| cell == "-") {
        return String::new();
    }
    let (title, row) = if model.served {
        ("from the start of a server until it is ready", "server")
    } else {
        ("of a process that reads one token", "process")
    };
    let mut header = vec![String::new()];
    header.extend(model.series.iter().map(|series| series.name()));
    let row = std::iter::once(row.to_owned()).chain(cells).collect();
    let title = format!("\n## Load, seconds {title}: {}\n\n", described(model));
    title + &table(&header, &[row])
}

fn speeds(results: &Results, model: &ModelResults, task: Task) -> String {
    let lengths = model.lengths(task);
    if lengths.is_empty() {
        return String::new();
    }
    let (title, unit) = match task {
        Task::Load | Task::Prefill => ("Prefill", "tokens"),
        Task::Decode => ("Decode", "depth"),
    };
    let mut header = vec![unit.to_owned()];
    for (at, series) in model.series.iter().enumerate() {
        let relative = if at > 0 && series.is_ours() {
            " (of the first)"
        } else {
            ""
        };
        header.push(format!("{}{relative}", series.name()));
    }
    header.extend(["of the best peer", "limit", "of the limit"].map(str::to_owned));
    let row = |&length: &usize| {
        let speed = |at: usize| {
            let cell = model.cell(&model.series[at], task, length);
            (cell, cell.and_then(|cell| cell.median))
        };
        let ours = speed(0).1;
        let mut row = vec![grouped(length)];
        for (at, series) in model.series.iter().enumerate() {
            let (cell, median) = speed(at);
            let mut text = in_words(cell);
            if let Some(share) = ratio(median, ours).filter(|_| at > 0 && series.is_ours()) {
                let _ = write!(text, " ({share:.2})");
            }
            row.push(text);
        }
        let limit = results.limit(model, task, length);
        row.push(times(ratio(ours, model.best_peer(task, length))));
        row.push(optional(limit, number));
        row.push(optional(ratio(ours, limit), percent));
        row
    };
    let rows: Vec<_> = lengths.iter().map(row).collect();
    let title = format!("\n## {title}, tok/s: {}\n\n", described(model));
    title + &table(&header, &rows)
}

fn memory(model: &ModelResults) -> String {
    let mut header = vec!["process".to_owned()];
    header.extend(model.series.iter().map(|series| series.name()));
    let mut rows = Vec::new();
    for (task, name) in [(Task::Prefill, "prefill"), (Task::Decode, "decode at")] {
        for length in model.lengths(task) {
            let cells = model.series.iter().map(|it| model.cell(it, task, length));
            let peaks = cells.map(|cell| optional(cell.and_then(|cell| cell.peak_mib), whole));
            let name = format!("{name} {}", grouped(length));
            rows.push(std::iter::once(name).chain(peaks).collect());
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let title = format!("\n## Peak memory, MiB: {}\n\n", described(model));
    title + &table(&header, &rows)
}

fn described(model: &ModelResults) -> String {
    let name = model.file.file_name().unwrap_or_default();
    let through = if model.served {
        ", through servers"
    } else {
        ""
    };
    format!("`{}`{through}", name.to_string_lossy())
}

fn limits(results: &Results) -> String {
    let limits = &results.limits;
    let row = |name: &str, unit: &str, samples: &[f64]| {
        let value = |value| optional(value, |value| format!("{value:.1} {unit}"));
        vec![
            name.to_owned(),
            value(best(samples)),
            value(median(samples)),
        ]
    };
    let header = ["of all threads", "best (the limit)", "median"].map(str::to_owned);
    let rows = [
        row("multiply-adds from registers", "GFLOP/s", &limits.gflops),
        row("reads of 512 MiB", "GB/s", &limits.gb_s),
    ];
    format!("\n## Limits of the machine\n\n{}", table(&header, &rows))
}

fn alone(results: &Results) -> String {
    let Some((gflops, gb_s)) = results.best_limits().filter(|_| !results.alone.is_empty()) else {
        return String::new();
    };
    let header = [
        "attention",
        "tokens",
        "prefill GFLOP/s",
        "of the limit",
        "decode GB/s",
        "of the limit",
    ];
    let row = |row: &crate::alone::Alone| {
        let (prefill, decode) = (median(&row.gflops), median(&row.gb_s));
        vec![
            row.map.clone(),
            grouped(row.tokens),
            optional(prefill, number),
            optional(ratio(prefill, Some(gflops)), percent),
            optional(decode, number),
            optional(ratio(decode, Some(gb_s)), percent),
        ]
    };
    let rows: Vec<_> = results.alone.iter().map(row).collect();
    format!(
        "\n## selfextend's attention alone\n\nOne layer: 9 query heads, 3 key/value heads of 64, f16 cache, \
         chunks of 512. Operations count two products of every query with every key before it; \
         bytes count every key and value once, read from memory.\n\n{}",
        table(&header.map(str::to_owned), &rows)
    )
}

fn in_words(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else {
        return "-".to_owned();
    };
    match (cell.median, &cell.note) {
        (Some(median), None) => number(median),
        (Some(median), Some(note)) => format!("{} (then {note})", number(median)),
        (None, Some(note)) => note.clone(),
        (None, None) => "-".to_owned(),
    }
}

/// A Markdown table, first column to the left, numbers to the right.
fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
    let rows = rows.iter().map(|row| line(row));
    line(header) + &rule + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Limits, Machine};

    fn results() -> Results {
        Results {
            machine: Machine {
                date: "today".into(),
                cpu: "a processor".into(),
                instructions: "Scalar".into(),
                threads: 2,
                commit: "abc".into(),
                rustc: "rustc 1".into(),
            },
            versions: vec!["llama.cpp 1".into()],
            absent: Vec::new(),
            rounds: 3,
            decode_tokens: 1,
            stolen: None,
            limits: Limits {
                gflops: vec![0.0001, 0.0003, 0.0002],
                gb_s: vec![0.001],
            },
            alone: Vec::new(),
            models: vec![crate::results::tests::model()],
            failures: Vec::new(),
        }
    }

    #[test]
    fn the_tables_say_what_was_measured() {
        let text = markdown(&results());
        // 1800 + 20 * 65 operations a token at 300,000 a second.
        let prefill = "| 64 | 100 | 50.0 | 80.0 | 1.25x | 96.8 | 103% |";
        assert!(text.contains(prefill), "{text}");
        // 3600 + 65 * 20 bytes a token at a million a second.
        assert!(
            text.contains("| 64 | 100 | 50.0 | 80.0 | 1.25x | 204 | 49% |"),
            "{text}"
        );
        assert!(text.contains("| decode at 64 | 110 | 50 | 80 |"), "{text}");
        assert!(!text.contains("Failures") && !text.contains("Not measured"));
    }

    #[test]
    fn who_is_missing_is_named() {
        let mut results = results();
        let reason = "it is not built here";
        results.absent = vec![crate::results::Absent::new("ik_llama.cpp", reason)];
        crate::results::tests::refuse(&mut results.models[0], "it ends at 100 tokens\nat most");
        let text = markdown(&results);
        assert!(
            text.contains("- ik_llama.cpp: it is not built here\n"),
            "{text}"
        );
        let cell = "- llama.cpp, fa, prefill at 128, model.gguf: it ends at 100 tokens\n";
        assert!(text.contains(cell), "{text}");
        assert!(text.contains("| 128 | - | - | cannot |"), "{text}");
    }

    #[test]
    fn loads_are_in_seconds() {
        let mut results = results();
        let model = &mut results.models[0];
        let jobs = model.series[1].jobs(0, &[Task::Load]);
        let reading = crate::series::Reading {
            values: vec![(Task::Load, 1.25)],
            peak_mib: None,
        };
        model.add(&jobs[0], &Ok(reading));
        let text = markdown(&results);
        assert!(text.contains("| process | - | 1.25 | - |"), "{text}");
    }

    #[test]
    fn everything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new");
        write(&results(), &out).unwrap();
        let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
        assert_eq!(json["models"][0]["cells"][0]["median"], 100.0);
        assert_eq!(json["models"][0]["cells"][0]["series"], "selfextend");
        assert!(read("speed-prefill.svg").contains("llama.cpp, no fa"));
        assert!(read("speed-decode.svg").contains("limit of the machine"));
        assert!(read("report.md").starts_with("# Speed"));
    }
}

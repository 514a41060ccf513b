//! A report as one page that needs nothing else.

use super::document::Report;
use super::draw::{DARK, bare_svg};
use super::table::Table;
use crate::error::Result;
use std::fmt::Write;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #111; --paper: #fefefe; --line: #ddd; --soft: #666 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #15181d; --line: #3a3f48; --soft: #9aa0a8 } }
body { font: 16px/1.5 Helvetica, Arial, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
figure { margin: 2rem 0 } figcaption { color: var(--soft) } svg { width: 100%; height: auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
.number { text-align: right } dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
";

/// The report as a page: pictures, the numbers behind them, settings.
///
/// # Errors
/// None in practice: pictures without numbers are left out.
pub fn to_html(report: &Report) -> Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>\
         <style>{STYLE}{DARK}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(&report.title)
    );
    for figure in &report.figures {
        // A run that has just begun may have none of a picture's numbers.
        let Ok(svg) = bare_svg(&figure.drawing) else {
            continue;
        };
        // Pictures scale with the page.
        let svg = svg.replacen("<svg width=\"960\"", "<svg", 1);
        let caption = escaped(&figure.caption);
        let _ = writeln!(
            page,
            "<figure>{svg}<figcaption>{caption}</figcaption></figure>"
        );
    }
    report
        .tables
        .iter()
        .for_each(|table| page += &html_table(table));
    page += "<h2>Settings</h2>\n<dl>";
    for (name, value) in &report.settings {
        let _ = write!(
            page,
            "<dt>{}</dt><dd>{}</dd>",
            escaped(name),
            escaped(value)
        );
    }
    Ok(page + "</dl>\n</body></html>\n")
}

fn html_table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells = cells.iter().enumerate().map(|(n, cell)| {
            let class = if table.is_number(n) {
                " class=\"number\""
            } else {
                ""
            };
            format!("<{tag}{class}>{}</{tag}>", escaped(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<h2>{}</h2>\n<div class=\"wide\"><table>\n{}{rows}</table></div>\n",
        escaped(&table.title),
        row(&table.columns, "th")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_everything_and_escape_it() {
        let mut table = Table::new("T", &["method", "n"]);
        table.row(vec!["<b>".into(), "7".into()]);
        let report = Report {
            title: "a & b".into(),
            settings: vec![("needle".into(), "<script>".into())],
            tables: vec![table],
            figures: Vec::new(),
        };
        let page = to_html(&report).unwrap();
        assert!(page.contains("<h1>a &amp; b</h1>") && page.contains("<dd>&lt;script&gt;</dd>"));
        assert!(page.contains("<td>&lt;b&gt;</td><td class=\"number\">7</td>"));
        assert!(!page.contains("<script>") && !page.contains("http"));
    }
}

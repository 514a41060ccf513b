//! Tables for terminals, spreadsheets and pages.

/// Rows of texts under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What the numbers are.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, a text for each column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The table with aligned columns, numbers to the right.
    pub fn to_text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]);
            let widths = cells
                .chain([&self.columns[column]])
                .map(|cell| cell.chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let cells = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(n, (cell, &width))| {
                    if self.is_number(n) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            let line = cells.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        };
        let mut text = format!("{}\n\n{}", self.title, line(&self.columns));
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }

    /// Comma-separated values (RFC 4180).
    pub fn to_csv(&self) -> String {
        let cell = |cell: &String| {
            if cell.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        };
        let line = |cells: &Vec<String>| {
            format!("{}\n", cells.iter().map(cell).collect::<Vec<_>>().join(","))
        };
        let rows: String = self.rows.iter().map(line).collect();
        line(&self.columns) + &rows
    }

    /// Whether a column holds numbers only.
    pub(super) fn is_number(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().map(|row| &row[column]);
        cells.all(|cell| cell.parse::<f64>().is_ok() || cell == "-" || cell == "out of reach")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_quote() {
        let mut table = Table::new("Title", &["method", "n"]);
        table.row(vec!["selfextend:G=4,W=128".into(), "7".into()]);
        table.row(vec!["plain".into(), "123".into()]);
        assert_eq!(
            table.to_text(),
            "Title\n\nmethod                  n\nselfextend:G=4,W=128    7\nplain                 123\n"
        );
        assert_eq!(
            table.to_csv(),
            "method,n\n\"selfextend:G=4,W=128\",7\nplain,123\n"
        );
    }
}

//! `selfextend inspect --positions`: the relative positions of a whole context under any method, on
//! the terminal and as SVG. Positions that the model never saw in training are marked.

use crate::args::inspect::InspectArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::setup::{self, Choice};
use plotters::prelude::*;
use selfextend::{Extension, Frequencies};
use selfextend_eval::report::{DARK, INK, PAPER};
use serde::Serialize;
use std::fmt::Write;

/// Cells per side of the picture on the terminal.
const TERMINAL_CELLS: usize = 48;
/// The colour of keys that are not seen.
const UNSEEN: RGBColor = RGBColor(0xeb, 0xeb, 0xeb);
/// No gaps between cells, and unseen keys darker on dark pages.
const SEAMLESS: &str = "rect { shape-rendering: crispEdges } \
    @media (prefers-color-scheme: dark) { svg [fill=\"#EBEBEB\"] { fill: #2a2f37 } }";

/// Cells per side of the SVG.
const SVG_CELLS: usize = 160;

/// Draws the positions.
pub fn positions(args: &InspectArgs) -> Result<()> {
    let (trained, choice) = match args.trained_window {
        Some(trained) if args.model.load.profile.is_none() => {
            (trained, Choice::new(&args.model, None)?)
        }
        trained => {
            let path = setup::fetch(&args.model.load.model)?;
            let trained = match trained {
                Some(trained) => trained,
                None => setup::open(&args.model.load)?.config()?.trained_window,
            };
            (trained, Choice::new(&args.model, Some(&path))?)
        }
    };
    let context = args.model.context.unwrap_or(2 * trained);
    let extension = choice.for_context(context, trained)?;
    let name = match &args.model.method {
        Some(method) => format!("{method} ({extension})"),
        None => extension.to_string(),
    };
    if let Some(path) = &args.svg {
        let picture = Picture::new(&name, &extension, SVG_CELLS);
        let drawn = picture
            .svg()
            .map_err(|error| CliError::failure(format!("cannot draw the picture: {error}")))?;
        output::file(path, &drawn)?;
        if path.as_os_str() == "-" {
            return Ok(());
        }
    }
    let picture = Picture::new(&name, &extension, TERMINAL_CELLS);
    if args.json {
        output::json(&picture)
    } else {
        output::text(&picture.drawn(output::colours()))
    }
}

/// The relative positions of a context on a coarse matrix, one per cell.
#[derive(Debug, Serialize)]
struct Picture {
    method: String,
    tokens: usize,
    trained_window: usize,
    /// The largest relative position of the last query.
    largest: f64,
    /// Of the pairs of a query and a key it sees, those beyond the trained window, in thousandths.
    untrained_permille: usize,
    /// What the slowest frequencies are divided by.
    divisor: f64,
    /// A row for each query; null where the key is not seen.
    rows: Vec<Vec<Option<f64>>>,
}

impl Picture {
    fn new(name: &str, extension: &Extension, cells: usize) -> Self {
        let (tokens, map) = (extension.context(), extension.map().positions());
        let trained = extension.trained_window();
        let cells = cells.min(tokens);
        let divisor = match extension.frequencies() {
            // What is slow is not there at all, what is there is kept.
            Frequencies::Trained | Frequencies::Clipped(_) => 1.0,
            Frequencies::Interpolated { factor } | Frequencies::Ntk { factor } => factor,
            Frequencies::Yarn(yarn) => yarn.factor,
            Frequencies::MixedRadix(radix) => radix.factor,
            Frequencies::Factors(factors) => {
                factors.divisors().last().map_or(1.0, |&last| last.into())
            }
        };
        // The last token of a cell, so that the last row is the last query.
        let token = |cell: usize| (cell + 1) * tokens / cells - 1;
        let relative = |i, j| map.relative(i, j).map(|position| position / divisor);
        let row = |r: usize| (0..=r).map(|c| relative(token(r), token(c))).collect();
        let rows: Vec<Vec<_>> = (0..cells).map(row).collect();
        let last = (0..tokens).filter_map(|j| relative(tokens - 1, j));
        let seen = rows.iter().flatten().flatten();
        let untrained = seen.clone().filter(|&&position| position >= trained as f64);
        Self {
            method: name.to_owned(),
            tokens,
            trained_window: trained,
            largest: last.fold(0.0, f64::max),
            untrained_permille: 1000 * untrained.count() / seen.count().max(1),
            divisor,
            rows,
        }
    }

    /// A summary in one sentence.
    fn caption(&self) -> String {
        let beyond = match self.untrained_permille {
            0 => "none beyond it".to_owned(),
            share => format!("{:.1}% of all pairs beyond it", share as f64 / 10.0),
        };
        let slowest = if self.divisor > 1.0 {
            ", as the slowest frequencies see them"
        } else {
            ""
        };
        format!(
            "{}: {} tokens, largest relative position {:.0}{slowest}; trained window {}, {beyond}",
            self.method, self.tokens, self.largest, self.trained_window
        )
    }

    /// Tenths of the trained window; `None` beyond it.
    fn tenth(&self, position: f64) -> Option<usize> {
        let trained = self.trained_window as f64;
        (position < trained).then(|| (10.0 * position / trained) as usize)
    }

    /// The matrix as text: a digit for each cell.
    fn drawn(&self, colours: bool) -> String {
        let mut text = format!(
            "{}.\nRows are queries, columns keys; digits are tenths of the trained window, ! lies beyond it, . is not seen.\n",
            self.caption()
        );
        for row in &self.rows {
            for &cell in row {
                let tenth = cell.map(|position| self.tenth(position));
                let (sign, colour) = match tenth {
                    None => ('.', "2"),
                    Some(None) => ('!', "1;31"),
                    Some(Some(tenth)) => (
                        char::from_digit(tenth as u32, 10).unwrap_or('9'),
                        if tenth < 5 { "34" } else { "36" },
                    ),
                };
                let _ = if colours {
                    write!(text, "\x1b[{colour}m{sign}\x1b[0m")
                } else {
                    write!(text, "{sign}")
                };
            }
            text.push('\n');
        }
        text
    }

    /// The matrix as SVG; adjacent cells of one colour are one rectangle.
    fn svg(&self) -> Result<String, Box<dyn std::error::Error>> {
        let cells = self.rows.len();
        let mut picture = String::new();
        {
            let area = SVGBackend::with_string(&mut picture, (760, 800)).into_drawing_area();
            area.fill(&PAPER)?;
            let font = "Helvetica, Arial, sans-serif";
            let text = |size: u32| (font, size).into_font().color(&INK);
            let (first, second) = match self.caption().split_once("; ") {
                Some((first, second)) => (first.to_owned(), second.to_owned()),
                None => (self.caption(), String::new()),
            };
            for (line, y) in [(first, 12), (second, 32)] {
                area.draw(&Text::new(line, (24, y), text(16)))?;
            }
            let tokens = self.tokens as f64;
            let label = |position: &f64| output::grouped(*position as usize);
            let mut chart = ChartBuilder::on(&area)
                .margin(16)
                .margin_right(36)
                .margin_top(52)
                .x_label_area_size(44)
                .y_label_area_size(72)
                .build_cartesian_2d(0.0..tokens, tokens..0.0)?;
            chart
                .configure_mesh()
                .disable_mesh()
                .x_desc("key")
                .y_desc("query")
                .x_label_formatter(&label)
                .y_label_formatter(&label)
                .axis_style(INK)
                .label_style(text(14))
                .axis_desc_style(text(16))
                .draw()?;
            let at = |cell: usize| tokens * cell as f64 / cells as f64;
            for (r, row) in self.rows.iter().enumerate() {
                let colours: Vec<_> = row.iter().map(|&cell| self.colour(cell)).collect();
                let mut first = 0;
                for run in colours.chunk_by(|a, b| a == b) {
                    let corners = [(at(first), at(r)), (at(first + run.len()), at(r + 1))];
                    chart.draw_series([Rectangle::new(corners, run[0].filled())])?;
                    first += run.len();
                }
            }
            area.present()?;
        }
        Ok(match picture.split_once('>') {
            Some((head, rest)) => format!("{head}><style>{DARK}{SEAMLESS}</style>{rest}"),
            None => picture,
        })
    }

    /// Darker with distance, in steps; vermilion beyond the trained window, grey if not seen.
    fn colour(&self, cell: Option<f64>) -> RGBColor {
        let Some(position) = cell else {
            return UNSEEN;
        };
        if position >= self.trained_window as f64 {
            return RGBColor(213, 94, 0);
        }
        let share = (position / self.trained_window as f64 * 24.0).floor() / 24.0;
        let mix = |from: f64, to: f64| (from + (to - from) * share) as u8;
        RGBColor(mix(222.0, 0.0), mix(236.0, 60.0), mix(250.0, 120.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfextend::Method;

    fn picture(method: &str, trained: usize, context: usize) -> Picture {
        let extension = method.parse::<Method>().unwrap().resolve(trained, context);
        Picture::new(method, &extension.unwrap(), 10)
    }

    #[test]
    fn what_was_never_seen_in_training_is_marked() {
        // The paper's figure 3: a trained window of 7, ten tokens.
        let plain = picture("plain", 7, 10);
        assert_eq!(plain.largest, 9.0);
        assert!(
            plain.drawn(false).ends_with("\n!!!8754210\n"),
            "{}",
            plain.drawn(false)
        );
        let extended = picture("selfextend:G=2,W=4", 7, 10);
        assert_eq!((extended.largest, extended.untrained_permille), (6.0, 0));
        assert!(!extended.drawn(false).contains("\n!"));
        let svg = plain.svg().unwrap();
        assert!(svg.contains(DARK));
        assert!(svg.contains("#D55E00") && !extended.svg().unwrap().contains("#D55E00"));
    }

    #[test]
    fn forgotten_keys_and_interpolated_positions_are_drawn() {
        let streaming = picture("streaming-llm:sinks=1,recent=3", 7, 10).drawn(false);
        assert!(streaming.ends_with("\n5.....4210\n"), "{streaming}");
        let interpolated = picture("pi", 7, 14);
        assert_eq!(interpolated.largest, 6.5);
        assert_eq!(interpolated.untrained_permille, 0);
    }
}

//! The relative positions of a short text, as in figure 3 of the paper.

use crate::args::inspect::InspectArgs;
use crate::error::{CliError, Result};
use selfextend::{Positions, SelfExtend};
use serde::Serialize;
use std::fmt::Write;

/// Group size and neighbour window of the paper's figure, drawn for a trained window of 7.
const FIGURE: (usize, usize) = (2, 4);

const NEIGHBOUR: &str = "\x1b[34m";
const GROUPED: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// The lower triangle of relative positions, one row per query.
#[derive(Debug, Serialize)]
pub struct Matrix {
    tokens: usize,
    group_size: usize,
    neighbor_window: usize,
    rows: Vec<Vec<usize>>,
}

impl Matrix {
    /// The matrix that was asked for.
    pub fn new(args: &InspectArgs) -> Result<Self> {
        let group_size = args.model.group_size.unwrap_or(FIGURE.0);
        let neighbor_window = args.model.neighbor_window.unwrap_or(FIGURE.1);
        let map = SelfExtend::new(group_size, neighbor_window)
            .map_err(|error| CliError::usage(error.to_string()))?;
        let position = |i, j| map.relative(i, j).map_or(0, |position| position as usize);
        let row = |i| (0..=i).map(|j| position(i, j)).collect();
        let rows = (0..args.matrix).map(row).collect();
        Ok(Self {
            tokens: args.matrix,
            group_size,
            neighbor_window,
            rows,
        })
    }

    /// The matrix as text, with a colour for neighbours and one for grouped tokens.
    pub fn drawn(&self, colours: bool) -> String {
        let largest = self.rows.iter().flatten().max().copied().unwrap_or(0);
        let width = largest.to_string().len();
        let (tokens, g, w) = (self.tokens, self.group_size, self.neighbor_window);
        let mut text = format!(
            "\nRelative positions of {tokens} tokens with G = {g}, W = {w} (figure 3 of the paper); \
             a window of {} is enough.\nRows are queries, columns keys; ",
            largest + 1
        );
        text.push_str(&if colours {
            format!("{NEIGHBOUR}neighbours{RESET} and {GROUPED}grouped{RESET}.\n")
        } else {
            format!("the last {w} of a row are neighbours, those before are grouped.\n")
        });
        for (i, row) in self.rows.iter().enumerate() {
            let mut shade = "";
            for (j, position) in row.iter().enumerate() {
                let wanted = if i - j < w { NEIGHBOUR } else { GROUPED };
                if colours && shade != wanted {
                    shade = wanted;
                    text.push_str(shade);
                }
                let _ = write!(text, "{}{position:>width$}", if j == 0 { "" } else { " " });
            }
            text.push_str(if colours { "\x1b[0m\n" } else { "\n" });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_where_the_kind_does() {
        let rows = vec![vec![0], vec![1, 0], vec![1, 1, 0]];
        let matrix = Matrix {
            tokens: 3,
            group_size: 2,
            neighbor_window: 1,
            rows,
        };
        let plain = matrix.drawn(false);
        assert!(plain.ends_with("\n0\n1 0\n1 1 0\n"), "{plain}");
        let last = matrix
            .drawn(true)
            .lines()
            .last()
            .map(str::to_owned)
            .unwrap();
        assert_eq!(last, format!("{GROUPED}1 1{NEIGHBOUR} 0{RESET}"));
    }
}

//! Reports: tables and pictures drawn from results, and the files they go into.
//!
//! A [`Report`] is made of [`Table`]s and [`Figure`]s. `view` groups a run's records, `aggregate`
//! turns groups into numbers; `perplexity`, `scores`, `lengths`, `grid` and `compare` turn those
//! into tables and figures, `leaderboard` those of several runs; `draw` and `html` write them.

mod aggregate;
mod compare;
mod document;
mod draw;
mod figure;
mod grid;
mod html;
mod leaderboard;
mod lengths;
mod perplexity;
mod scores;
mod table;
mod view;

pub use document::Report;
pub use draw::{DARK, INK, PAPER, to_png, to_svg};
pub use figure::{Bars, Drawing, Figure, HeatMap, Lines, Series};
pub use html::to_html;
pub use leaderboard::leaderboard;
pub use table::Table;

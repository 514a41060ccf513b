//! Colours, fonts and numbers that all pictures share.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The fonts, the first that a system has.
const FONT: &str = "Helvetica, Arial, sans-serif";

/// Text and axes: [`DARK`] exchanges it with [`PAPER`] on dark pages.
pub const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// The background.
pub const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfe);

/// The CSS rules that exchange ink and paper on a dark page.
pub const DARK: &str = "@media (prefers-color-scheme: dark) {\
    svg [fill=\"#111111\"] { fill: #e6e6e6 } svg [stroke=\"#111111\"] { stroke: #e6e6e6 } \
    svg [fill=\"#FEFEFE\"] { fill: #15181d } svg [stroke=\"#FEFEFE\"] { stroke: #15181d } }";

/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The error of a picture for which no number was given.
pub(super) fn no_numbers() -> Drawn {
    Err("there are no numbers yet".into())
}

/// The colour of series `n`; the later ones repeat the first ones.
pub(super) fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

/// Text of a size, in the given colour.
pub(super) fn text_in(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// Text of a size, in ink.
pub(super) fn text(size: u32) -> TextStyle<'static> {
    text_in(size, INK)
}

/// Text of a size, placed around its point.
pub(super) fn placed(size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    text(size).pos(Pos::new(horizontal, vertical))
}

/// A count in groups of three digits.
pub(super) fn grouped(count: f64) -> String {
    let digits = format!("{:.0}", count.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

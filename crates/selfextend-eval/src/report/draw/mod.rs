//! Pictures as SVG, readable on light and dark pages, and as PNG.

mod axis;
mod bars;
mod heat;
mod labels;
mod lines;
mod style;

pub use style::{DARK, INK, PAPER};

use self::style::Area;
use super::figure::Drawing;
use crate::error::{EvalError, Result};
use plotters::prelude::*;
use resvg::{tiny_skia, usvg};

/// Width and height of a picture in points; heat maps grow with their rows.
const SIZE: (u32, u32) = (960, 540);

/// A picture as SVG that can stand alone.
///
/// # Errors
/// A picture without numbers.
pub fn to_svg(drawing: &Drawing) -> Result<String> {
    let svg = bare_svg(drawing)?;
    Ok(match svg.split_once('>') {
        Some((head, rest)) => format!("{head}><style>{DARK}</style>{rest}"),
        None => svg,
    })
}

/// A picture as SVG without its rules for dark pages.
pub(super) fn bare_svg(drawing: &Drawing) -> Result<String> {
    let height = match drawing {
        // Rows of one height, however many there are.
        Drawing::Heat(heat) => 170 + 44 * heat.rows.len() as u32,
        Drawing::Lines(lines) => SIZE.1.max(lines::least_height(lines)),
        Drawing::Bars(_) => SIZE.1,
    };
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        draw(&area, drawing)
    };
    drawn.map_err(|error| EvalError::Picture(error.to_string()))?;
    Ok(svg)
}

fn draw(area: &Area, drawing: &Drawing) -> style::Drawn {
    area.fill(&PAPER)?;
    match drawing {
        Drawing::Lines(lines) => lines::draw(area, lines)?,
        Drawing::Heat(heat) => heat::draw(area, heat)?,
        Drawing::Bars(bars) => bars::draw(area, bars)?,
    }
    Ok(area.present()?)
}

/// A picture as PNG, for a light page, with two pixels for each point.
///
/// # Errors
/// As [`to_svg`]; a system without fonts.
pub fn to_png(drawing: &Drawing) -> Result<Vec<u8>> {
    let failed = |error: String| EvalError::Picture(error);
    let svg = bare_svg(drawing)?;
    let tree = usvg::Tree::from_str(&svg, &options_with_fonts()?);
    let tree = tree.map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size();
    let mut pixels = tiny_skia::Pixmap::new(2 * size.width(), 2 * size.height())
        .ok_or_else(|| failed("too large".into()))?;
    let twice = tiny_skia::Transform::from_scale(2.0, 2.0);
    resvg::render(&tree, twice, &mut pixels.as_mut());
    pixels
        .encode_png()
        .map_err(|error| failed(error.to_string()))
}

/// The system's fonts, with one of those that the pictures ask for, or any, as the sans serif.
fn options_with_fonts() -> Result<usvg::Options<'static>> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let wanted = [
        "Helvetica",
        "Arial",
        "Liberation Sans",
        "DejaVu Sans",
        "Noto Sans",
    ];
    let faces = fonts.faces();
    let names: Vec<String> = faces
        .flat_map(|face| face.families.iter().map(|(name, _)| name.clone()))
        .collect();
    let mut wanted = wanted.into_iter();
    let found = wanted.find(|name| names.iter().any(|have| have == name));
    match found.or(names.first().map(String::as_str)) {
        Some(name) => fonts.set_sans_serif_family(name),
        None => {
            let reason = "no fonts are installed; write an SVG file instead";
            return Err(EvalError::Picture(reason.into()));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Interval;
    use crate::report::{Bars, HeatMap, Lines, Series};

    fn lines(log_y: bool) -> Drawing {
        let interval = Some(Interval {
            low: 0.2,
            high: 0.9,
        });
        Drawing::Lines(Lines {
            title: "A < B & C".into(),
            log_y,
            mark: Some((512.0, "trained window".into())),
            series: vec![Series {
                label: "plain".into(),
                points: vec![(256.0, 0.5, interval), (1024.0, 0.75, None)],
            }],
            ..Default::default()
        })
    }

    #[test]
    fn pictures_are_drawn_and_escaped() {
        let heat = Drawing::Heat(HeatMap {
            columns: vec!["512".into(), "1024".into()],
            rows: vec!["0%".into()],
            cells: vec![vec![Some(3.5), None]],
            less_is_better: true,
            ..Default::default()
        });
        let interval = Interval {
            low: 0.4,
            high: 0.6,
        };
        let bars = Drawing::Bars(Bars {
            groups: vec!["arc".into()],
            labels: vec!["plain".into(), "x".into()],
            bars: vec![vec![Some((0.5, interval)), None]],
            ..Default::default()
        });
        for drawing in [lines(true), lines(false), heat, bars] {
            let svg = to_svg(&drawing).unwrap();
            assert!(svg.starts_with("<svg") && svg.contains(DARK), "{svg}");
            usvg::Tree::from_str(&svg, &usvg::Options::default()).unwrap();
        }
        assert!(to_svg(&lines(true)).unwrap().contains("A &lt; B &amp; C"));
    }

    #[test]
    fn a_picture_without_numbers_is_an_error() {
        for drawing in [
            Drawing::Lines(Lines::default()),
            Drawing::Heat(HeatMap::default()),
            Drawing::Bars(Bars::default()),
        ] {
            assert!(to_svg(&drawing).is_err());
        }
    }
}

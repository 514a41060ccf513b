//! Pictures as SVG, readable on light and dark pages, and as PNG.

use super::figures::{Bars, Drawing, HeatMap};
use super::lines::draw_lines;
use crate::error::{EvalError, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

const SIZE: (u32, u32) = (960, 540);
pub(super) const FONT: &str = "Helvetica, Arial, sans-serif";

/// Text and axes: [`DARK`] exchanges it with [`PAPER`] on dark pages.
pub const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// What lies under them.
pub const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfe);

/// The rules that exchange ink and paper on a dark page.
pub const DARK: &str = "@media (prefers-color-scheme: dark) {\
    svg [fill=\"#111111\"] { fill: #e6e6e6 } svg [stroke=\"#111111\"] { stroke: #e6e6e6 } \
    svg [fill=\"#FEFEFE\"] { fill: #15181d } svg [stroke=\"#FEFEFE\"] { stroke: #15181d } }";

/// Colours that people with any colour vision tell apart (Okabe and Ito).
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

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
        // Rows of one height, whatever their number.
        Drawing::Heat(heat) => 170 + 44 * heat.rows.len() as u32,
        _ => SIZE.1,
    };
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        let drawn = area
            .fill(&PAPER)
            .map_err(Into::into)
            .and_then(|()| match drawing {
                Drawing::Lines(lines) => draw_lines(&area, lines),
                Drawing::Heat(heat) => draw_heat(&area, heat),
                Drawing::Bars(bars) => draw_bars(&area, bars),
            });
        drawn.and_then(|()| Ok(area.present()?))
    };
    drawn.map_err(|error| EvalError::Picture(error.to_string()))?;
    Ok(svg)
}

/// A picture as PNG, for a light page, at twice its size in points.
///
/// # Errors
/// As [`to_svg`]; a system without fonts.
pub fn to_png(drawing: &Drawing) -> Result<Vec<u8>> {
    let failed = |error: String| EvalError::Picture(error);
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let sans = [
        "Helvetica",
        "Arial",
        "Liberation Sans",
        "DejaVu Sans",
        "Noto Sans",
    ];
    let names: Vec<String> = fonts
        .faces()
        .flat_map(|face| face.families.iter().map(|(name, _)| name.clone()))
        .collect();
    let found = sans
        .into_iter()
        .find(|name| names.iter().any(|have| have == name));
    match found.or(names.first().map(String::as_str)) {
        Some(name) => fonts.set_sans_serif_family(name),
        None => {
            return Err(failed(
                "no fonts are installed; write an .svg instead".into(),
            ));
        }
    }
    let svg = bare_svg(drawing)?;
    let tree = usvg::Tree::from_str(&svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size();
    let mut pixels = tiny_skia::Pixmap::new(2 * size.width(), 2 * size.height())
        .ok_or_else(|| failed("too large".into()))?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(2.0, 2.0),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .map_err(|error| failed(error.to_string()))
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

pub(super) fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

pub(super) fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// From bad to good: a ramp that stays readable in grey (viridis without its darkest end).
fn shade(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 5] = [
        (72.0, 40.0, 120.0),
        (62.0, 99.0, 141.0),
        (38.0, 145.0, 140.0),
        (94.0, 201.0, 98.0),
        (253.0, 231.0, 37.0),
    ];
    let at = share.clamp(0.0, 1.0) * 4.0;
    let n = (at as usize).min(3);
    let (from, to, part) = (STOPS[n], STOPS[n + 1], at - n as f64);
    let mix = |a: f64, b: f64| (a + (b - a) * part).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

fn draw_heat(area: &Area, heat: &HeatMap) -> Drawn {
    let numbers: Vec<f64> = heat
        .cells
        .iter()
        .flatten()
        .filter_map(|cell| *cell)
        .collect();
    if numbers.is_empty() {
        return Err("there are no numbers yet".into());
    }
    let (low, high) = match heat.is_share {
        true => (0.0, 1.0),
        false => (
            numbers.iter().copied().fold(f64::INFINITY, f64::min),
            numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
    };
    // Perplexities differ by factors.
    let scale = |number: f64| match heat.is_share {
        true => number,
        false if high > low => (number / low).ln() / (high / low).ln(),
        false => 0.5,
    };
    let (width, height) = area.dim_in_pixel();
    let (left, top, right, bottom) = (110, 64, width as i32 - 24, height as i32 - 84);
    let (columns, rows) = (
        heat.columns.len().max(1) as i32,
        heat.rows.len().max(1) as i32,
    );
    let x = |column: i32| left + (right - left) * column / columns;
    let y = |row: i32| top + (bottom - top) * row / rows;
    let middle = Pos::new(HPos::Center, VPos::Center);
    area.draw(&Text::new(heat.title.clone(), (16, 10), text(22)))?;
    for (r, row) in heat.cells.iter().enumerate() {
        for (c, cell) in row.iter().enumerate() {
            let (r, c) = (r as i32, c as i32);
            let corners = [(x(c), y(r)), (x(c + 1) - 2, y(r + 1) - 2)];
            let centre = ((x(c) + x(c + 1)) / 2, (y(r) + y(r + 1)) / 2);
            let Some(number) = cell else {
                area.draw(&Rectangle::new(corners, INK.mix(0.08).filled()))?;
                continue;
            };
            let share = scale(*number);
            let goodness = if heat.less_is_better {
                1.0 - share
            } else {
                share
            };
            area.draw(&Rectangle::new(corners, shade(goodness).filled()))?;
            let ink = if goodness > 0.6 {
                RGBColor(16, 16, 16)
            } else {
                RGBColor(250, 250, 250)
            };
            let style = (FONT, 16).into_font().color(&ink).pos(middle);
            let shown = match heat.is_share {
                true => format!("{:.0}", 100.0 * number),
                false if *number < 100.0 => format!("{number:.2}"),
                false => format!("{number:.0}"),
            };
            area.draw(&Text::new(shown, centre, style))?;
        }
    }
    let label = |text_at: Pos| text(16).pos(text_at);
    for (c, name) in heat.columns.iter().enumerate() {
        let at = ((x(c as i32) + x(c as i32 + 1)) / 2, bottom + 8);
        let name = name.parse().map_or(name.clone(), grouped);
        area.draw(&Text::new(
            name,
            at,
            label(Pos::new(HPos::Center, VPos::Top)),
        ))?;
    }
    for (r, name) in heat.rows.iter().enumerate() {
        let at = (left - 10, (y(r as i32) + y(r as i32 + 1)) / 2);
        area.draw(&Text::new(
            name.clone(),
            at,
            label(Pos::new(HPos::Right, VPos::Center)),
        ))?;
    }
    let below = ((left + right) / 2, bottom + 36);
    area.draw(&Text::new(
        heat.x.clone(),
        below,
        text(18).pos(Pos::new(HPos::Center, VPos::Top)),
    ))?;
    let unit = match (heat.is_share, heat.less_is_better) {
        (true, _) => "percent right",
        (false, true) => "lower is better",
        (false, false) => "higher is better",
    };
    let corner = (right, bottom + 40);
    area.draw(&Text::new(
        unit,
        corner,
        text(14).pos(Pos::new(HPos::Right, VPos::Top)),
    ))?;
    let above = (16, top - 24);
    area.draw(&Text::new(
        heat.y.clone(),
        above,
        text(18).pos(Pos::new(HPos::Left, VPos::Top)),
    ))?;
    Ok(())
}

fn draw_bars(area: &Area, bars: &Bars) -> Drawn {
    let (groups, labels) = (bars.groups.len(), bars.labels.len());
    if groups == 0 || labels == 0 {
        return Err("there are no numbers yet".into());
    }
    let mut chart = ChartBuilder::on(area);
    let mut chart = chart
        .caption(&bars.title, text(24))
        .margin(16)
        .x_label_area_size(84)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..groups as f64, 0.0..1.02)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_desc(&bars.y)
        .y_label_formatter(&|y| format!("{:.0}%", 100.0 * y))
        .axis_style(INK.mix(0.6))
        .label_style(text(16))
        .axis_desc_style(text(18))
        .light_line_style(INK.mix(0.04))
        .bold_line_style(INK.mix(0.12))
        .draw()?;
    let width = 0.8 / labels as f64;
    for (n, label) in bars.labels.iter().enumerate() {
        let found = bars.bars.iter().enumerate();
        let found: Vec<_> = found
            .filter_map(|(group, row)| Some((group, row.get(n).copied().flatten()?)))
            .collect();
        let left = |group: usize| group as f64 + 0.1 + n as f64 * width;
        chart
            .draw_series(found.iter().map(|(group, (height, _))| {
                let left = left(*group);
                Rectangle::new(
                    [(left, 0.0), (left + width * 0.92, *height)],
                    colour(n).filled(),
                )
            }))?
            .label(label)
            .legend(move |(x, y)| {
                Rectangle::new([(x, y - 6), (x + 24, y + 6)], colour(n).filled())
            });
        chart.draw_series(found.iter().map(|(group, (_, interval))| {
            let middle = left(*group) + width * 0.46;
            let ends = [(middle, interval.low), (middle, interval.high)];
            PathElement::new(ends, INK.mix(0.7).stroke_width(2))
        }))?;
    }
    // Names under their groups, on two levels where there are many.
    for (group, name) in bars.groups.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(group as f64 + 0.5, 0.0));
        let level = if groups > 5 { (group % 2) as i32 } else { 0 };
        let style = text(15).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(name.clone(), (x, y + 8 + 22 * level), style))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

/// Names the series inside the picture.
pub(super) fn legend<'a, 'b: 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, C>,
    position: SeriesLabelPosition,
) -> Drawn {
    chart
        .configure_series_labels()
        .position(position)
        .label_font(text(16))
        .legend_area_size(32)
        .margin(14)
        .background_style(PAPER.mix(0.85))
        .border_style(INK.mix(0.2))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Lines, Series};
    use super::*;
    use crate::metrics::Interval;

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
        let bars = Drawing::Bars(Bars {
            groups: vec!["arc".into()],
            labels: vec!["plain".into(), "x".into()],
            bars: vec![vec![
                Some((
                    0.5,
                    Interval {
                        low: 0.4,
                        high: 0.6,
                    },
                )),
                None,
            ]],
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
    fn nothing_to_draw_is_an_error() {
        for drawing in [
            Drawing::Lines(Lines::default()),
            Drawing::Heat(HeatMap::default()),
            Drawing::Bars(Bars::default()),
        ] {
            assert!(to_svg(&drawing).is_err());
        }
    }
}

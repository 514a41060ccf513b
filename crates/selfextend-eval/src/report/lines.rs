//! Lines over a common axis.

use super::draw::{Area, COLOURS, Drawn, INK, colour, grouped, legend, text};
use super::figures::{Lines, Series};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// More lines than this are named beside the picture, not in it.
const NAMED_INSIDE: usize = 5;
/// Points of the column with the names.
const NAMES_WIDTH: u32 = 232;

pub(super) fn draw_lines(area: &Area, lines: &Lines) -> Drawn {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    if points().next().is_none() {
        return Err("there are no numbers yet".into());
    }
    let (width, _) = area.dim_in_pixel();
    let beside = lines.series.len() > NAMED_INSIDE;
    let area = match beside {
        true => {
            let (left, right) = area.split_horizontally(width - NAMES_WIDTH);
            names(&right, lines)?;
            left
        }
        false => area.clone(),
    };
    let mark = lines.mark.as_ref().map_or(0.0, |(x, _)| *x);
    let right = points().map(|point| point.0).fold(1.0, f64::max).max(mark) * 1.02;
    let values = || points().map(|point| point.1);
    let highest = values().fold(f64::NEG_INFINITY, f64::max);
    if lines.log_y {
        let lowest = values().fold(f64::INFINITY, f64::min);
        let (bottom, top) = (lowest.max(1e-6) / 1.25, highest * 1.25);
        let chart =
            chart_of(&area, lines).build_cartesian_2d(0.0..right, (bottom..top).log_scale())?;
        line_chart(chart, lines, beside, bottom, top)
    } else {
        let top = match lines.is_share {
            true => 1.0,
            false if highest > 0.0 => highest * 1.1,
            false => 1.0,
        };
        let chart = chart_of(&area, lines).build_cartesian_2d(0.0..right, 0.0..top * 1.02)?;
        line_chart(chart, lines, beside, 0.0, top)
    }
}

fn chart_of<'a, 'b>(area: &'a Area<'b>, lines: &Lines) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart
        .caption(&lines.title, text(24))
        .margin(16)
        // Half of the last number under the axis.
        .margin_right(32)
        .x_label_area_size(52)
        .y_label_area_size(72);
    chart
}

/// Every line's name with a piece of it, and the mark's.
fn names(area: &Area, lines: &Lines) -> Drawn {
    let style = text(15).pos(Pos::new(HPos::Left, VPos::Center));
    let at = |n: usize| 62 + 24 * n as i32;
    for (n, series) in lines.series.iter().enumerate() {
        let y = at(n);
        for piece in pieces(n, 4, 40) {
            let ends = [(piece.0, y), (piece.1, y)];
            area.draw(&PathElement::new(ends, colour(n).stroke_width(3)))?;
        }
        area.draw(&Text::new(series.label.clone(), (50, y), style.clone()))?;
    }
    if let Some((_, name)) = &lines.mark {
        let y = at(lines.series.len());
        for x in [4, 14, 24, 34] {
            let ends = [(x, y), (x + 6, y)];
            area.draw(&PathElement::new(ends, INK.mix(0.6).stroke_width(1)))?;
        }
        area.draw(&Text::new(name.clone(), (50, y), style))?;
    }
    Ok(())
}

/// Dashes and the gaps after them in points; colours come again with another kind of line.
fn dash(n: usize) -> Option<(i32, i32)> {
    match n / COLOURS.len() {
        0 => None,
        1 => Some((10, 5)),
        _ => Some((3, 4)),
    }
}

/// The pieces of a line of this number from one point to another.
fn pieces(n: usize, from: i32, to: i32) -> Vec<(i32, i32)> {
    match dash(n) {
        None => vec![(from, to)],
        Some((size, gap)) => (from..to)
            .step_by((size + gap) as usize)
            .map(|x| (x, (x + size).min(to)))
            .collect(),
    }
}

fn line_chart<'a, 'b: 'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>,
    lines: &Lines,
    beside: bool,
    bottom: f64,
    top: f64,
) -> Drawn
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>
        + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let digits = match top {
        top if top < 0.1 => 3,
        top if top < 1.0 => 2,
        _ => 1,
    };
    chart
        .configure_mesh()
        .x_desc(&lines.x)
        .y_desc(&lines.y)
        .x_label_formatter(&|x| grouped(*x))
        .y_label_formatter(&|y| match *y {
            y if lines.is_share => format!("{:.0}%", 100.0 * y),
            y if y < 10.0 => format!("{y:.digits$}"),
            y => grouped(y),
        })
        .axis_style(INK.mix(0.6))
        .label_style(text(16))
        .axis_desc_style(text(18))
        .light_line_style(INK.mix(0.04))
        .bold_line_style(INK.mix(0.12))
        .draw()?;
    if let Some((x, name)) = &lines.mark {
        let style = INK.mix(0.6).stroke_width(1);
        let ends = vec![(*x, bottom), (*x, top)];
        chart
            .draw_series(DashedLineSeries::new(ends, 6, 4, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    for (n, series) in lines.series.iter().enumerate() {
        let style = colour(n).stroke_width(3);
        chart.draw_series(intervals(series, bottom, top).map(|(x, low, high)| {
            PathElement::new([(x, low), (x, high)], colour(n).mix(0.55).stroke_width(2))
        }))?;
        let points = series.points.iter().map(|point| (point.0, point.1));
        let drawn = match dash(n) {
            None => chart.draw_series(LineSeries::new(points.clone(), style))?,
            Some((size, gap)) => {
                chart.draw_series(DashedLineSeries::new(points.clone(), size, gap, style))?
            }
        };
        drawn
            .label(&series.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        if series.points.len() <= 12 {
            chart.draw_series(points.map(|point| Circle::new(point, 4, colour(n).filled())))?;
        }
    }
    if beside {
        return Ok(());
    }
    let position = match lines.is_share {
        true => SeriesLabelPosition::LowerLeft,
        false => SeriesLabelPosition::UpperLeft,
    };
    legend(&mut chart, position)
}

/// The intervals of a line, cut at the edges of the picture.
fn intervals(series: &Series, bottom: f64, top: f64) -> impl Iterator<Item = (f64, f64, f64)> {
    series.points.iter().filter_map(move |(x, _, interval)| {
        let interval = interval.as_ref()?;
        Some((
            *x,
            interval.low.clamp(bottom, top),
            interval.high.clamp(bottom, top),
        ))
    })
}

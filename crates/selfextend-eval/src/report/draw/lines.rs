//! Lines over a common axis, each with its name beside it.

use super::axis::Axis;
use super::labels::{self, Label};
use super::style::{Area, Drawn, INK, colour, no_numbers, placed, text};
use crate::report::figure::{Lines, Series};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const TOP: i32 = 70;
const LEFT: i32 = 84;
const BELOW: i32 = 64;
/// Lines with more points than this are drawn without dots.
const DOTS: usize = 12;

/// The lines that look the same: they lie within two points of each other everywhere.
struct Group<'a> {
    series: Vec<&'a Series>,
    points: Vec<(i32, i32)>,
}

/// The height that the names need.
pub(super) fn least_height(lines: &Lines) -> u32 {
    let series = lines.series.len();
    (TOP + BELOW + labels::height(series, series)) as u32
}

pub(super) fn draw(area: &Area, lines: &Lines) -> Drawn {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    if points().next().is_none() {
        return no_numbers();
    }
    let (width, height) = area.dim_in_pixel();
    let column = labels::width(lines.series.iter().map(|series| &series.label));
    let (right, bottom) = (width as i32 - column, height as i32 - BELOW);
    let x = x_axis(lines, (LEFT, right - 24));
    let y = y_axis(lines, (bottom, TOP));
    frame(area, lines, &x, &y, (right - 24, bottom))?;
    let groups = groups(lines, &x, &y);
    for (n, group) in groups.iter().enumerate() {
        draw_group(area, group, n, &x, &y)?;
    }
    // Names in the order of their lines' ends, so that leads do not cross.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&n| groups[n].points.last().map_or(0, |end| end.1));
    let labels: Vec<Label> = order
        .iter()
        .map(|&n| Label {
            names: names(&groups[n]),
            wanted: groups[n].points.last().map_or(0, |end| end.1),
        })
        .collect();
    let tops = labels::tops(&labels, TOP - 24, height as i32 - 12);
    for ((n, label), top) in order.into_iter().zip(&labels).zip(tops) {
        let middle = top + label.names.len() as i32 * labels::ROW / 2;
        if let Some(&(end, y)) = groups[n].points.last() {
            labels::lead(area, (end + 6, y), (right - 8, middle))?;
        }
        labels::write(area, &label.names, right, top, colour(n))?;
        let sample = [(right - 8, middle), (right + 2, middle)];
        area.draw(&PathElement::new(sample, colour(n).stroke_width(3)))?;
    }
    Ok(())
}

/// The names of a group, in the order in which they were given.
fn names(group: &Group) -> Vec<String> {
    let series = group.series.iter();
    series.map(|series| series.label.clone()).collect()
}

/// From 0 to a little beyond the last point; numbers at the points where those are few.
fn x_axis(lines: &Lines, pixels: (i32, i32)) -> Axis {
    let points = lines.series.iter().flat_map(|series| &series.points);
    let mut places: Vec<f64> = points.map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let mark = lines.mark.as_ref().map_or(0.0, |(x, _)| *x);
    let last = places.last().copied().unwrap_or(1.0);
    let axis = Axis::linear(0.0, last.max(mark).max(1.0) * 1.02, pixels);
    if places.len() <= DOTS {
        axis.with_ticks(&places, 56)
    } else {
        axis
    }
}

fn y_axis(lines: &Lines, pixels: (i32, i32)) -> Axis {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let highest = points()
        .map(|point| point.1)
        .fold(f64::NEG_INFINITY, f64::max);
    let lowest = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    if lines.is_share {
        return Axis::linear(0.0, 1.0, pixels);
    }
    if !lines.log_y {
        let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
        return Axis::linear(0.0, top, pixels);
    }
    // The intervals too, as far as they do not squeeze the lines.
    let lowest = lowest.max(1e-6);
    let intervals = || points().filter_map(|point| point.2);
    let low = intervals()
        .map(|interval| interval.low.max(lowest / 1.5))
        .fold(lowest, f64::min);
    let high = intervals()
        .map(|interval| interval.high.min(highest * 1.5))
        .fold(highest.max(lowest), f64::max);
    let room = ((high / low).ln() * 0.06).max(0.005).exp();
    Axis::logarithmic(low / room, high * room, pixels)
}

/// The heading, the axes with their numbers, and the mark.
fn frame(area: &Area, lines: &Lines, x: &Axis, y: &Axis, corner: (i32, i32)) -> Drawn {
    let (right, bottom) = corner;
    area.draw(&Text::new(lines.title.clone(), (16, 12), text(24)))?;
    let grid = INK.mix(0.12).stroke_width(1);
    for (number, at) in y.ticks() {
        area.draw(&PathElement::new([(LEFT, at), (right, at)], grid))?;
        let label = if lines.is_share {
            format!("{:.0}%", 100.0 * number)
        } else {
            y.label(number)
        };
        let style = placed(16, HPos::Right, VPos::Center);
        area.draw(&Text::new(label, (LEFT - 8, at), style))?;
    }
    for (number, at) in x.ticks() {
        area.draw(&PathElement::new([(at, TOP), (at, bottom)], grid))?;
        let style = placed(16, HPos::Center, VPos::Top);
        area.draw(&Text::new(x.label(number), (at, bottom + 8), style))?;
    }
    let axis = INK.mix(0.6).stroke_width(1);
    let corners = [(LEFT, TOP), (LEFT, bottom), (right, bottom)];
    area.draw(&PathElement::new(corners, axis))?;
    let below = ((LEFT + right) / 2, bottom + 34);
    let style = placed(18, HPos::Center, VPos::Top);
    area.draw(&Text::new(lines.x.clone(), below, style))?;
    let sideways = placed(18, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    let beside = (10, (TOP + bottom) / 2);
    area.draw(&Text::new(lines.y.clone(), beside, sideways))?;
    if let Some((number, name)) = &lines.mark {
        let at = x.pixel(*number);
        let line = [(at, TOP), (at, bottom)];
        area.draw(&DashedPathElement::new(line, 6, 4, axis))?;
        // Above the plot, on the side where there is room.
        let side = if at > (LEFT + right) / 2 {
            HPos::Right
        } else {
            HPos::Left
        };
        let style = placed(14, side, VPos::Bottom);
        area.draw(&Text::new(name.clone(), (at, TOP - 4), style))?;
    }
    Ok(())
}

fn groups<'a>(lines: &'a Lines, x: &Axis, y: &Axis) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = Vec::new();
    for series in lines.series.iter().filter(|it| !it.points.is_empty()) {
        let place = |point: &(f64, f64, _)| (x.pixel(point.0), y.pixel(point.1));
        let points: Vec<(i32, i32)> = series.points.iter().map(place).collect();
        match groups.iter_mut().find(|it| coincide(&it.points, &points)) {
            Some(group) => group.series.push(series),
            None => groups.push(Group {
                series: vec![series],
                points,
            }),
        }
    }
    groups
}

fn coincide(a: &[(i32, i32)], b: &[(i32, i32)]) -> bool {
    let near = |(a, b): (&(i32, i32), &(i32, i32))| a.0 == b.0 && (a.1 - b.1).abs() <= 2;
    a.len() == b.len() && a.iter().zip(b).all(near)
}

/// Dashes and the gaps after them, in points. Neighbours differ, so that each shows where several
/// lie on each other for a while.
fn dash(n: usize) -> Option<(u32, u32)> {
    [None, Some((12, 6)), Some((6, 4)), Some((2, 4))][(n + n / 12) % 4]
}

fn draw_group(area: &Area, group: &Group, n: usize, x: &Axis, y: &Axis) -> Drawn {
    let style = colour(n).stroke_width(3);
    for (at, _, interval) in &group.series[0].points {
        if let Some(interval) = interval {
            let (at, low, high) = (x.pixel(*at), y.pixel(interval.low), y.pixel(interval.high));
            let style = colour(n).mix(0.4).stroke_width(2);
            area.draw(&PathElement::new([(at, low), (at, high)], style))?;
        }
    }
    let points = group.points.clone();
    match dash(n) {
        None => area.draw(&PathElement::new(points, style))?,
        Some((size, gap)) => area.draw(&DashedPathElement::new(points, size, gap, style))?,
    }
    if group.points.len() <= DOTS {
        for &point in &group.points {
            area.draw(&Circle::new(point, 4, colour(n).filled()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, values: &[f64]) -> Series {
        let point = |(n, &value): (usize, &f64)| ((n + 1) as f64 * 512.0, value, None);
        Series {
            label: label.into(),
            points: values.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn lines_that_coincide_share_a_label() {
        let lines = Lines {
            log_y: true,
            series: vec![
                series("plain", &[8.0, 90.0]),
                series("selfextend", &[8.0, 9.0]),
                series("rerope", &[8.001, 9.001]),
                series("short", &[8.0]),
            ],
            ..Default::default()
        };
        let (x, y) = (x_axis(&lines, (0, 600)), y_axis(&lines, (400, 0)));
        let found: Vec<Vec<String>> = groups(&lines, &x, &y).iter().map(names).collect();
        assert_eq!(
            found,
            [vec!["plain"], vec!["selfextend", "rerope"], vec!["short"]]
        );
    }

    #[test]
    fn neighbours_differ_in_colour_and_dashes() {
        let looks: std::collections::HashSet<_> =
            (0..24).map(|n| (colour(n).rgb(), dash(n))).collect();
        assert!(looks.len() >= 16, "{}", looks.len());
    }
}

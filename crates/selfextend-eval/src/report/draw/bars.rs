//! Bars in groups, with intervals; the names of a group's bars stand beside the picture.

use super::axis::Axis;
use super::labels;
use super::style::{Area, Drawn, INK, colour, no_numbers, placed, text};
use crate::report::figure::Bars;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const TOP: i32 = 60;
const LEFT: i32 = 84;
const BELOW: i32 = 84;

pub(super) fn draw(area: &Area, bars: &Bars) -> Drawn {
    let (groups, labels) = (bars.groups.len(), bars.labels.len());
    if groups == 0 || labels == 0 {
        return no_numbers();
    }
    let (width, height) = area.dim_in_pixel();
    let column = labels::width(bars.labels.iter());
    let (right, bottom) = (width as i32 - column - 24, height as i32 - BELOW);
    let y = Axis::linear(0.0, 1.0, (bottom, TOP));
    frame(area, bars, &y, right, bottom)?;
    // Each group takes one unit, its bars four fifths of that.
    let unit = f64::from(right - LEFT) / groups as f64;
    let bar = 0.8 * unit / labels as f64;
    for (group, row) in bars.bars.iter().enumerate() {
        for (n, found) in row.iter().enumerate() {
            let Some((value, interval)) = found else {
                continue;
            };
            let left = f64::from(LEFT) + (group as f64 + 0.1) * unit + n as f64 * bar;
            let (from, to) = (left as i32, (left + bar * 0.92) as i32);
            let corners = [(from, y.pixel(*value)), (to, bottom)];
            area.draw(&Rectangle::new(corners, fill(n)))?;
            let middle = (from + to) / 2;
            let ends = [
                (middle, y.pixel(interval.low)),
                (middle, y.pixel(interval.high)),
            ];
            area.draw(&PathElement::new(ends, INK.mix(0.7).stroke_width(2)))?;
        }
    }
    for (n, name) in bars.labels.iter().enumerate() {
        let top = TOP + n as i32 * (labels::ROW + 4);
        let square = [(right + 16, top + 3), (right + 30, top + labels::ROW - 3)];
        area.draw(&Rectangle::new(square, fill(n)))?;
        let names = std::slice::from_ref(name);
        labels::write(area, names, right + 30, top, colour(n))?;
    }
    Ok(())
}

/// The colours again, lighter, after the last.
fn fill(n: usize) -> ShapeStyle {
    let opacity = [1.0, 0.55, 0.3][(n / 6).min(2)];
    colour(n).mix(opacity).filled()
}

fn frame(area: &Area, bars: &Bars, y: &Axis, right: i32, bottom: i32) -> Drawn {
    area.draw(&Text::new(bars.title.clone(), (16, 12), text(24)))?;
    let grid = INK.mix(0.12).stroke_width(1);
    for (number, at) in y.ticks() {
        area.draw(&PathElement::new([(LEFT, at), (right, at)], grid))?;
        let label = format!("{:.0}%", 100.0 * number);
        let style = placed(16, HPos::Right, VPos::Center);
        area.draw(&Text::new(label, (LEFT - 8, at), style))?;
    }
    let axis = INK.mix(0.6).stroke_width(1);
    let corners = [(LEFT, TOP), (LEFT, bottom), (right, bottom)];
    area.draw(&PathElement::new(corners, axis))?;
    let sideways = placed(18, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    let beside = (10, (TOP + bottom) / 2);
    area.draw(&Text::new(bars.y.clone(), beside, sideways))?;
    // Names under their groups, on two levels where there are many.
    let groups = bars.groups.len();
    for (group, name) in bars.groups.iter().enumerate() {
        let middle = LEFT + (right - LEFT) * (2 * group as i32 + 1) / (2 * groups as i32);
        let level = if groups > 5 { (group % 2) as i32 } else { 0 };
        let style = placed(15, HPos::Center, VPos::Top);
        let at = (middle, bottom + 8 + 22 * level);
        area.draw(&Text::new(name.clone(), at, style))?;
    }
    Ok(())
}

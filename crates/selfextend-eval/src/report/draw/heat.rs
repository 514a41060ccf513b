//! A number for each cell of a grid, from bad to good in colours.

use super::style::{Area, Drawn, INK, grouped, no_numbers, placed, text, text_in};
use crate::report::figure::HeatMap;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

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

pub(super) fn draw(area: &Area, heat: &HeatMap) -> Drawn {
    let numbers: Vec<f64> = heat.cells.iter().flatten().flatten().copied().collect();
    if numbers.is_empty() {
        return no_numbers();
    }
    let numbers = numbers.into_iter();
    let low = numbers.clone().fold(f64::INFINITY, f64::min);
    let high = numbers.fold(f64::NEG_INFINITY, f64::max);
    // The share of the way from the lowest to the highest number; perplexities differ by factors.
    let scale = |number: f64| {
        if heat.is_share {
            number
        } else if high > low {
            (number / low).ln() / (high / low).ln()
        } else {
            0.5
        }
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
            let style = text_in(16, ink).pos(middle);
            let shown = if heat.is_share {
                format!("{:.0}", 100.0 * number)
            } else if *number < 100.0 {
                format!("{number:.2}")
            } else {
                format!("{number:.0}")
            };
            area.draw(&Text::new(shown, centre, style))?;
        }
    }
    for (c, name) in heat.columns.iter().enumerate() {
        let at = ((x(c as i32) + x(c as i32 + 1)) / 2, bottom + 8);
        let name = name.parse().map_or(name.clone(), grouped);
        let style = placed(16, HPos::Center, VPos::Top);
        area.draw(&Text::new(name, at, style))?;
    }
    for (r, name) in heat.rows.iter().enumerate() {
        let at = (left - 10, (y(r as i32) + y(r as i32 + 1)) / 2);
        let style = placed(16, HPos::Right, VPos::Center);
        area.draw(&Text::new(name.clone(), at, style))?;
    }
    let below = ((left + right) / 2, bottom + 36);
    let style = placed(18, HPos::Center, VPos::Top);
    area.draw(&Text::new(heat.x.clone(), below, style))?;
    let unit = match (heat.is_share, heat.less_is_better) {
        (true, _) => "percent right",
        (false, true) => "lower is better",
        (false, false) => "higher is better",
    };
    let corner = (right, bottom + 40);
    let style = placed(14, HPos::Right, VPos::Top);
    area.draw(&Text::new(unit, corner, style))?;
    let above = (16, top - 24);
    let style = placed(18, HPos::Left, VPos::Top);
    area.draw(&Text::new(heat.y.clone(), above, style))?;
    Ok(())
}

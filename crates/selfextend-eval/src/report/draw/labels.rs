//! The column of names beside a picture.

use super::style::{Area, Drawn, INK, placed};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// The height of a name in points.
pub(super) const ROW: i32 = 18;
/// The distance between names of different lines.
const GAP: i32 = 8;
/// Points of a letter, on average, at the size of the names.
const LETTER: usize = 8;

/// The names of what is drawn in one way.
pub(super) struct Label {
    /// One or, where lines coincide, several.
    pub(super) names: Vec<String>,
    /// The height at which they belong.
    pub(super) wanted: i32,
}

impl Label {
    fn height(&self) -> i32 {
        self.names.len() as i32 * ROW
    }
}

/// The height of all names together.
pub(super) fn height(names: usize, labels: usize) -> i32 {
    names as i32 * ROW + labels as i32 * GAP
}

/// The width of a column that holds these names.
pub(super) fn width<'a>(names: impl Iterator<Item = &'a String>) -> i32 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    (longest * LETTER + 44).clamp(120, 420) as i32
}

/// The top of each label: as near to where it belongs as its neighbours and the column allow.
/// Labels are ordered by `wanted`.
pub(super) fn tops(labels: &[Label], top: i32, bottom: i32) -> Vec<i32> {
    let mut tops: Vec<i32> = Vec::new();
    let mut free = top;
    for label in labels {
        let place = (label.wanted - label.height() / 2).max(free);
        tops.push(place);
        free = place + label.height() + GAP;
    }
    // What went below the bottom pushes its neighbours up again.
    let mut limit = bottom;
    for (place, label) in tops.iter_mut().zip(labels).rev() {
        *place = (*place).min(limit - label.height());
        limit = *place - GAP;
    }
    tops
}

/// Writes a label's names below each other, with a bar beside them where there are several.
pub(super) fn write(area: &Area, names: &[String], x: i32, top: i32, colour: RGBColor) -> Drawn {
    for (n, name) in names.iter().enumerate() {
        let y = top + n as i32 * ROW + ROW / 2;
        let style = placed(15, HPos::Left, VPos::Center);
        area.draw(&Text::new(name.clone(), (x + 8, y), style))?;
    }
    if names.len() > 1 {
        let ends = [(x, top + 2), (x, top + names.len() as i32 * ROW - 2)];
        area.draw(&PathElement::new(ends, colour.stroke_width(3)))?;
    }
    Ok(())
}

/// The thin line from what is drawn to its name.
pub(super) fn lead(area: &Area, from: (i32, i32), to: (i32, i32)) -> Drawn {
    let style = INK.mix(0.35).stroke_width(1);
    Ok(area.draw(&PathElement::new([from, to], style))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn labels_do_not_overlap(mut wanted in prop::collection::vec((0i32..500, 1usize..4), 1..9)) {
            wanted.sort();
            let label = |&(wanted, count): &(i32, usize)| Label {
                names: vec!["x".into(); count],
                wanted,
            };
            let labels: Vec<Label> = wanted.iter().map(label).collect();
            let tops = tops(&labels, 0, 900);
            for (n, pair) in tops.windows(2).enumerate() {
                prop_assert!(pair[0] + labels[n].height() < pair[1], "{:?}", tops);
            }
            let last = labels.len() - 1;
            prop_assert!(tops[0] >= 0 && tops[last] + labels[last].height() <= 900);
        }
    }
}

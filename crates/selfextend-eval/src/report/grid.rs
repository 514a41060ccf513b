//! The heat maps of an ablation: group sizes and neighbour windows.

use super::figure::{Drawing, Figure, HeatMap};
use super::view::{View, shown};
use crate::record::Record;
use crate::tasks::ablation;
use serde_json::Value;

/// A map of group sizes and windows for each length, where the run is an ablation.
pub(super) fn grid_figures(
    view: &View,
    what: &str,
    less_is_better: bool,
    value: &dyn Fn(&[&Record]) -> Option<f64>,
) -> Option<Vec<Figure>> {
    let (group_sizes, windows) = grid(view)?;
    let map = |length: &Value| {
        let cell = |window: usize, group_size: usize| {
            value(&view.under(
                &ablation::method_name(group_size, window),
                &[("length", length)],
            ))
        };
        let row = |&window: &usize| {
            let cells = group_sizes
                .iter()
                .map(|&group_size| cell(window, group_size));
            cells.collect()
        };
        let plain = value(&view.under("plain", &[("length", length)]));
        let plain = plain.map_or(String::new(), |plain| {
            if less_is_better {
                format!(" (plain: {plain:.2})")
            } else {
                format!(" (plain: {:.0}%)", 100.0 * plain)
            }
        });
        Figure {
            name: format!("grid-{}", shown(length)),
            caption: format!(
                "{what} at {} tokens by group size and neighbour window{plain}; empty where the settings do not reach the length.",
                shown(length)
            ),
            drawing: Drawing::Heat(HeatMap {
                title: format!("{what} at {} tokens{plain}", shown(length)),
                x: "group size G".into(),
                y: "neighbour window W".into(),
                columns: group_sizes.iter().map(usize::to_string).collect(),
                rows: windows.iter().map(usize::to_string).collect(),
                cells: windows.iter().map(row).collect(),
                less_is_better,
                is_share: !less_is_better,
            }),
        }
    };
    let mut figures: Vec<Figure> = view.values("length").iter().map(map).collect();
    // The longest, which is the most telling, comes first.
    figures.reverse();
    Some(figures)
}

/// The grid of an ablation: group sizes and windows.
fn grid(view: &View) -> Option<(Vec<usize>, Vec<usize>)> {
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = view.run.header.settings.get(key)?.as_array()?;
        list.iter()
            .map(|n| n.as_u64().map(|n| n as usize))
            .collect()
    };
    let is_grid = view.run.header.task.starts_with("ablation");
    is_grid.then(|| Some((numbers("group_sizes")?, numbers("neighbor_windows")?)))?
}

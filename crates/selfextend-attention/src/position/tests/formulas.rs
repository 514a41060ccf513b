//! Maps against values computed by hand from the formulas of their papers: a map's two forms can be
//! wrong in the same way.

use super::*;

#[test]
fn lampe_has_the_positions_of_its_formula() {
    // h = 3, t = 2, U = 4, N = 11: m(p) = floor(4 p / 10), middle m(i) - m(j) + 1, b = 8 - 4.
    let map = Lampe::new(3, 2, 4, 11).unwrap();
    let row = |i: usize| -> Vec<_> { (0..=i).map(|j| map.relative(i, j).unwrap()).collect() };
    assert_eq!(row(3), [2.0, 2.0, 1.0, 0.0]);
    assert_eq!(row(9), [5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0, 0.0]);
    assert_eq!(
        row(10),
        [6.0, 5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0, 2.0, 1.0, 0.0]
    );
}

#[test]
fn groups_of_self_grow_as_its_formula() {
    // C = 9, r = 0.5: f(x) is 1, 1.5, 2.3, 3.2, 4.3, 5.4, 6.4, 7.2, 7.9, 8.3, and stays below 9.
    let starts = [0, 1, 2, 4, 7, 11, 16, 22, 29, 36, 44, 52];
    let map = PositionMap::from(Logistic::new(9, 0.5, 1).unwrap());
    for n in 0..60 {
        let group = starts.iter().filter(|&&start| start <= n).count() - 1;
        assert_eq!(
            map.relative(n + 1, 0),
            Some(1.0 + group as f64),
            "token {n}"
        );
    }
}

/// The trained window at which a method begins to have a limit, or has another one.
#[test]
fn the_reach_changes_where_the_trained_window_holds_the_farthest_position() {
    let dual_chunk = PositionMap::from(DualChunk::new(4, 8).unwrap());
    assert_eq!([7, 8].map(|l| dual_chunk.reach(l)), [Some(7), None]);
    let sinks = PositionMap::from(LmInfinite::new(2, 8).unwrap());
    assert_eq!([8, 9].map(|l| sinks.reach(l)), [Some(8), None]);
    let none = PositionMap::from(LmInfinite::new(0, 8).unwrap());
    assert_eq!([7, 8].map(|l| none.reach(l)), [Some(7), None]);
    let string = PositionMap::from(Shifted::new(8, 2).unwrap());
    assert_eq!([7, 8].map(|l| string.reach(l)), [Some(7), Some(14)]);
}

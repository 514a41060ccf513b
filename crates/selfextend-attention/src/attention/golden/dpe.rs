//! DPE as LuLuLuyi/DPE's `dpe_for_llama.py` computes a decode step with all dimensions scaled: a few
//! lines of numpy followed it key by key, in float64, with the inputs of the other golden values.

use super::*;
use crate::position::DimensionWise;

#[test]
fn dpe_is_the_authors() {
    // Groups of one pair; 4 does not divide the window.
    let map = DimensionWise::new(6, &[2, 3, 1, 4]).unwrap().into();
    check(map, QueryScaling::None, &PAIRS);
    let map = DimensionWise::new(8, &[2, 4]).unwrap().into();
    check(map, QueryScaling::None, &HALVES);
}

#[rustfmt::skip]
const PAIRS: [(usize, [f64; 16]); 2] = [
    (20, [0.073799220, -0.034877637, -0.120875374, -0.128274070, -0.052262764, 0.057732330,
        0.130187067, 0.117987855, 0.382672304, 0.256994141, -0.035794080,
        -0.305307253, -0.376294847, -0.202597294, 0.102838853, 0.341404185]),
    (39, [0.068157000, -0.083064448, -0.180273367, -0.160259795, -0.036037546, 0.111618067,
        0.186694195, 0.140372721, 0.127666521, 0.031919755, -0.084582781,
        -0.146085496, -0.112596348, -0.005891581, 0.104644169, 0.147135206]),
];

#[rustfmt::skip]
const HALVES: [(usize, [f64; 16]); 2] = [
    (20, [0.173987452, -0.170899197, -0.404658917, -0.375289782, -0.101889045, 0.237764886,
        0.422812564, 0.332927004, 0.319615466, 0.175986893, -0.082076893,
        -0.286770303, -0.304991761, -0.124892793, 0.136417536, 0.309022561]),
    (39, [0.073346227, -0.108702296, -0.220067323, -0.188333899, -0.034136650, 0.142257907,
        0.226149466, 0.162987696, 0.079488296, 0.012095562, -0.063162293,
        -0.097348969, -0.068234630, 0.005249188, 0.075319716, 0.096413718]),
];

//! The online softmax, and soft caps of scores.

use crate::simd::vector::{Simd, WIDTH};

/// The running state of an online softmax in base 2 (FlashAttention-2, section 3.1).
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// The largest score so far.
    pub max: f32,
    /// Sum of `2^(score - max)` so far.
    pub sum: f32,
}

impl Running {
    /// Nothing seen yet.
    pub const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };
}

/// `x = cap * tanh(x / cap)` for each of a row.
///
/// # Panics
/// When the row's length is not a multiple of 16.
#[inline(always)]
pub fn soft_cap<S: Simd>(s: S, row: &mut [f32], cap: f32) {
    assert!(row.len().is_multiple_of(WIDTH));
    let (one, two, full) = (s.splat(1.0), s.splat(2.0), s.splat(cap));
    // tanh(x) = 2 / (1 + e^-2x) - 1, which is -1 in a float below -15.
    let (factor, low) = (-2.0 * std::f32::consts::LOG2_E / cap, s.splat(-15.0 * cap));
    let p = row.as_mut_ptr();
    for k in (0..row.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= len.
        unsafe {
            let x = s.max(s.load(p.add(k)), low);
            let power = s.exp2(s.mul(x, s.splat(factor)));
            let tanh = s.sub(s.div(two, s.add(one, power)), one);
            s.store(p.add(k), s.mul(full, tanh));
        }
    }
}

/// Turns a row of base-2 scores into weights `2^(score - max)`, updates the running maximum and
/// sum, and returns what earlier accumulators must be multiplied by. Masked scores are -infinity.
///
/// # Panics
/// When the row's length is not a multiple of 16.
#[inline(always)]
pub fn softmax_row<S: Simd>(s: S, row: &mut [f32], state: &mut Running) -> f32 {
    assert!(row.len().is_multiple_of(WIDTH));
    let p = row.as_mut_ptr();
    let mut top = s.splat(state.max);
    for k in (0..row.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= len.
        top = s.max(top, unsafe { s.load(p.add(k)) });
    }
    let max = s.max_lane(top);
    if max == f32::NEG_INFINITY {
        row.fill(0.0);
        return 1.0;
    }
    let shift = s.splat(max);
    let mut total = s.splat(0.0);
    for k in (0..row.len()).step_by(WIDTH) {
        // SAFETY: k + 16 <= len.
        unsafe {
            let weight = s.exp2(s.sub(s.load(p.add(k)), shift));
            s.store(p.add(k), weight);
            total = s.add(total, weight);
        }
    }
    let correction = if state.max == max {
        1.0
    } else {
        (state.max - max).exp2()
    };
    state.sum = state.sum * correction + s.sum(total);
    state.max = max;
    correction
}

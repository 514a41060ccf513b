//! Mixtures of experts: tokens are grouped by expert, so that a matrix is read once for all of its
//! tokens, and not at all without any.

use super::matrix::{CpuMatrix, Group, multiply_groups};
use super::share::PARALLEL_ROWS;
use super::{Mixture, Phase};
use crate::routing::{Choice, ChoiceScratch, Routing};
use selfextend_attention::parallel;
use selfextend_attention::simd::linear::{Precision, Rounded};
use std::cell::RefCell;

/// Memory of a sparse layer, reused from layer to layer. A place is one token at one of its experts;
/// places are in the order of the experts, those of an expert in the order of their tokens.
#[derive(Debug, Default)]
pub(super) struct ExpertScratch {
    /// `[token][expert of the token]`, by the number of the expert.
    choices: Vec<Choice>,
    /// The place of each choice.
    places: Vec<usize>,
    /// Where the next place of each expert is.
    next: Vec<usize>,
    /// Experts that any token chose.
    groups: Vec<Group>,
    /// What each place reads, then what it gives.
    rows: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    rounded: Vec<Rounded>,
}

thread_local! {
    static CHOOSING: RefCell<ChoiceScratch> = RefCell::default();
}

/// See [`super::Backend::mix`]. The sum of a token is over its experts in the order of their numbers,
/// whatever else is in the pass.
pub(super) fn mix(
    mixture: &Mixture<CpuMatrix, Vec<f32>>,
    x: &[f32],
    router: &[f32],
    out: &mut Vec<f32>,
    (phase, precision): (Phase, Precision),
    activate: impl Fn(&mut Vec<f32>, &Vec<f32>),
    scratch: &mut ExpertScratch,
) {
    let count = mixture.experts.len();
    let tokens = router.len() / count.max(1);
    out.resize(x.len(), 0.0);
    if tokens == 0 {
        return;
    }
    let bias = mixture.choice_bias.map_or(&[][..], |bias| bias);
    let used = mixture.used;
    scratch.choices.resize(tokens * used, Choice::default());
    choose(
        &mixture.routing,
        router,
        bias,
        count,
        used,
        &mut scratch.choices,
    );
    scratch.group(count);
    scratch.gather(x, x.len() / tokens, used);
    let ExpertScratch {
        choices,
        places,
        groups,
        rows,
        gate,
        up,
        rounded,
        ..
    } = scratch;
    let pass = (phase, precision, tokens);
    let both = |n: usize| {
        let expert = &mixture.experts[n];
        [&expert.gate, &expert.up]
    };
    multiply_groups(rows, groups, both, [&mut *gate, &mut *up], pass, rounded);
    add_biases(mixture, groups, 0, gate);
    add_biases(mixture, groups, 1, up);
    activate(gate, up);
    let down = |n: usize| [&mixture.experts[n].down];
    multiply_groups(gate, groups, down, [&mut *rows], pass, rounded);
    add_biases(mixture, groups, 2, rows);
    add_up(choices, places, used, rows, out);
}

/// Chooses the experts of all tokens.
fn choose(
    routing: &Routing,
    router: &[f32],
    bias: &[f32],
    count: usize,
    used: usize,
    choices: &mut [Choice],
) {
    let some = choices.chunks_mut(PARALLEL_ROWS * used);
    let tasks = some.zip(router.chunks(PARALLEL_ROWS * count));
    parallel::for_each(tasks, |(choices, router)| {
        CHOOSING.with_borrow_mut(|scratch| {
            for (chosen, router) in choices
                .chunks_exact_mut(used)
                .zip(router.chunks_exact(count))
            {
                routing.choose(router, bias, chosen, scratch);
            }
        });
    });
}

impl ExpertScratch {
    /// Counts the tokens of each expert and gives each choice its place.
    fn group(&mut self, count: usize) {
        let Self {
            choices,
            places,
            next,
            groups,
            ..
        } = self;
        next.clear();
        next.resize(count, 0);
        choices.iter().for_each(|choice| next[choice.expert] += 1);
        groups.clear();
        let mut first = 0;
        for (expert, next) in next.iter_mut().enumerate() {
            let rows = std::mem::replace(next, first);
            first += rows;
            if rows > 0 {
                groups.push(Group { expert, rows });
            }
        }
        places.clear();
        places.extend(choices.iter().map(|choice| {
            let place = next[choice.expert];
            next[choice.expert] += 1;
            place
        }));
    }

    /// Copies to each place the activations of its token.
    fn gather(&mut self, x: &[f32], width: usize, used: usize) {
        self.rows.resize(self.places.len() * width, 0.0);
        let places = self.places.chunks_exact(used);
        for (x, places) in x.chunks_exact(width).zip(places) {
            for place in places {
                self.rows[place * width..][..width].copy_from_slice(x);
            }
        }
    }
}

/// Adds to the outputs of one of the three matrices its biases.
fn add_biases(
    mixture: &Mixture<CpuMatrix, Vec<f32>>,
    groups: &[Group],
    which: usize,
    outputs: &mut [f32],
) {
    let mut rest = outputs;
    for group in groups {
        let Some(biases) = &mixture.experts[group.expert].biases else {
            return;
        };
        let bias = &biases[which];
        let (some, others) = std::mem::take(&mut rest).split_at_mut(group.rows * bias.len());
        for row in some.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
        rest = others;
    }
}

/// The weighted sum of what the experts of each token give.
fn add_up(choices: &[Choice], places: &[usize], used: usize, rows: &[f32], out: &mut [f32]) {
    let width = out.len() / (choices.len() / used);
    let some = PARALLEL_ROWS * used;
    let tasks = out.chunks_mut(PARALLEL_ROWS * width);
    let tasks = tasks.zip(choices.chunks(some).zip(places.chunks(some)));
    parallel::for_each(tasks, |(out, (choices, places))| {
        let chosen = choices.chunks_exact(used).zip(places.chunks_exact(used));
        for (out, (choices, places)) in out.chunks_exact_mut(width).zip(chosen) {
            out.fill(0.0);
            for (choice, place) in choices.iter().zip(places) {
                let row = &rows[place * width..][..width];
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, x)| *out += choice.weight * x);
            }
        }
    });
}

#[cfg(test)]
mod tests;

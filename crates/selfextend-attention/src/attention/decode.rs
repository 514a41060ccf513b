//! One query against all keys: split over pages, so that every core works whatever the number of
//! heads, and merged by log-sum-exp in the order of the pages.
//!
//! Each stored key and value is read once for all the query heads that share it.

use super::{AttentionShape, Part};
use crate::cache::{PAGE, Page, RingKeys, Stored, WeightScratch};
use crate::parallel;
use crate::simd::kernels::{MAX_FEW, Rounded, Running, scores_few, softmax_row};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use std::cell::RefCell;

/// Buffers for all splits of a pass.
#[derive(Debug, Default)]
pub(super) struct DecodeScratch {
    /// Rotated queries of each (token, key head): base, then window, `[group][component]`.
    queries: Vec<f32>,
    /// Unnormalised results of each split: `[group][padded component]`.
    partial: Vec<f32>,
    states: Vec<Running>,
}

/// One query (all heads of a group) against the keys of one page.
struct Split<'a> {
    query: Query<'a>,
    /// The page's first key.
    first: usize,
    base: &'a [f32],
    window: &'a [f32],
    partial: &'a mut [f32],
    states: &'a mut [Running],
}

/// The heads of one query that share a key head.
#[derive(Clone, Copy)]
struct Query<'a> {
    part: Part<'a>,
    token: usize,
    head: usize,
}

impl Query<'_> {
    fn position(&self) -> usize {
        self.part.plan.start + self.token
    }

    fn pages(&self) -> usize {
        self.position() / PAGE + 1
    }
}

pub(super) fn attend<'a>(
    shape: AttentionShape,
    parts: impl Iterator<Item = Part<'a>> + Clone + Send,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut DecodeScratch,
) {
    let queries = parts
        .flat_map(|part| (0..part.plan.tokens).map(move |token| (part, token)))
        .flat_map(|(part, token)| {
            (0..shape.kv_heads()).map(move |head| Query { part, token, head })
        });
    let count = queries.clone().count();
    if count == 0 {
        return;
    }
    // Each query's rotated rows: base, then window.
    let half = shape.group() * shape.head_dim();
    scratch.queries.resize(count * 2 * half, 0.0);
    let rotated = scratch.queries.chunks_exact_mut(2 * half);
    for (query, to) in queries.clone().zip(rotated) {
        query.rotate(q, to);
    }
    let splits: usize = queries.clone().map(|query| query.pages()).sum();
    let width = shape.group() * shape.padded_dim();
    scratch.partial.resize(splits * width, 0.0);
    scratch
        .states
        .resize(splits * shape.group(), Running::EMPTY);
    let pages = queries
        .clone()
        .zip(scratch.queries.chunks_exact(2 * half))
        .flat_map(|(query, rotated)| (0..query.pages()).map(move |page| (query, rotated, page)));
    let results = scratch
        .partial
        .chunks_exact_mut(width)
        .zip(scratch.states.chunks_exact_mut(shape.group()));
    let splits = pages
        .zip(results)
        .map(|((query, rotated, page), (partial, states))| Split {
            query,
            first: page * PAGE,
            base: &rotated[..half],
            window: &rotated[half..],
            partial,
            states,
        });
    parallel::for_each(splits, |split| {
        THREAD.with_borrow_mut(|scratch| run(split, scratch));
    });
    let (mut partials, mut states) = (&scratch.partial[..], &scratch.states[..]);
    for query in queries {
        let (partial, rest) = partials.split_at(query.pages() * width);
        partials = rest;
        let (state, rest) = states.split_at(query.pages() * shape.group());
        states = rest;
        merge(shape, query, partial, state, out);
    }
}

impl Query<'_> {
    /// Copies the heads of this query, rotated for the base region, then for the window.
    fn rotate(&self, q: &[f32], to: &mut [f32]) {
        let shape = self.part.cache.shape();
        let (base, window) = to.split_at_mut(to.len() / 2);
        let rows = base
            .chunks_exact_mut(shape.head_dim())
            .zip(window.chunks_exact_mut(shape.head_dim()));
        for (row, (base, window)) in rows.enumerate() {
            let head = self.head * shape.group() + row;
            self.part.query(q, self.token, head, base, window);
        }
    }
}

/// Adds up the pages of one query in order: each holds sums of `2^(score - max)`, its heads one
/// after another.
fn merge(
    shape: AttentionShape,
    query: Query,
    partial: &[f32],
    states: &[Running],
    out: &mut [f32],
) {
    let (dim, width, group) = (shape.head_dim(), shape.padded_dim(), shape.group());
    for row in 0..group {
        let states = states.iter().skip(row).step_by(group);
        let max = states
            .clone()
            .map(|s| s.max)
            .fold(f32::NEG_INFINITY, f32::max);
        let head = query.head * group + row;
        let to = &mut out[((query.part.row + query.token) * shape.heads() + head) * dim..][..dim];
        to.fill(0.0);
        let mut sum = 0.0;
        for (state, partial) in states.zip(partial.chunks_exact(group * width)) {
            let factor = (state.max - max).exp2();
            sum += state.sum * factor;
            let partial = &partial[row * width..row * width + dim];
            to.iter_mut()
                .zip(partial)
                .for_each(|(to, x)| *to += x * factor);
        }
        to.iter_mut().for_each(|x| *x /= sum);
    }
}

/// Runs the kernel for what the split's page holds.
fn run(split: Split, scratch: &mut ThreadScratch) {
    let part = split.query.part;
    let layer = part.cache.layer(part.layer);
    macro_rules! with {
        ($stored:expr, $ring:expr) => {
            dispatch(SplitKernel {
                split,
                stored: $stored,
                ring: $ring,
                scratch,
            })
        };
    }
    match (layer.pages.page_of(split.first), layer.ring.keys()) {
        (Page::F32(stored), RingKeys::F32(ring)) => with!(stored, ring),
        (Page::F16(stored), RingKeys::F16(ring)) => with!(stored, ring),
        (Page::Q8(stored), RingKeys::F16(ring)) => with!(stored, ring),
        _ => unreachable!("a ring holds what its pages' keys are rounded to"),
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct ThreadScratch {
    /// Scores, then weights, of one split: `[group][PAGE]`.
    scores: Vec<f32>,
    /// Queries as quantised keys want them.
    rounded: Rounded,
    weights: WeightScratch,
}

thread_local! {
    static THREAD: RefCell<ThreadScratch> = RefCell::default();
}

struct SplitKernel<'a, 'b, P: Stored> {
    split: Split<'b>,
    stored: &'b P,
    ring: &'b [P::Near],
    scratch: &'a mut ThreadScratch,
}

impl<P: Stored> Kernel for SplitKernel<'_, '_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            mut split,
            stored,
            ring,
            scratch,
        } = self;
        let shape = split.query.part.cache.shape();
        let group = shape.group();
        scratch.scores.resize(group * PAGE, 0.0);
        P::prepare(s, shape, split.base, &mut scratch.rounded);
        let keys = PAGE.min(split.query.position() + 1 - split.first);
        score_page(s, &split, stored, ring, keys, scratch);
        weigh_page(s, &mut split, stored, keys, scratch);
    }
}

/// Panels of keys that are asked for ahead of the one being multiplied.
const AHEAD: usize = 6;

/// Scores of the group's rows against a page's panels, each in its region.
#[inline(always)]
fn score_page<S: Simd, P: Stored>(
    s: S,
    split: &Split,
    stored: &P,
    ring: &[P::Near],
    keys: usize,
    scratch: &mut ThreadScratch,
) {
    let Query { part, head, .. } = split.query;
    let (shape, map) = (part.cache.shape(), part.cache.map());
    let (dim, group) = (shape.head_dim(), shape.group());
    let start = map.window_start(split.query.position());
    let window = &part.cache.layer(part.layer).ring;
    for panel in 0..keys.div_ceil(WIDTH) {
        let key = split.first + panel * WIDTH;
        stored.ask_values(s, shape, head, panel);
        if panel + AHEAD < PAGE / WIDTH {
            stored.ask_keys(s, shape, head, panel + AHEAD);
        }
        let row = &mut scratch.scores[panel * WIDTH..];
        for first in (0..group).step_by(MAX_FEW) {
            let rows = first..group.min(first + MAX_FEW);
            let queries = rows.start * dim..rows.end * dim;
            let row = &mut row[first * PAGE..];
            if key < start {
                let queries = (split.base, &scratch.rounded);
                stored.scores(s, shape, head, panel, queries, rows, row, PAGE);
            }
            if map.has_window() && key + WIDTH > start {
                let at = window.offset(head, key / WIDTH);
                let near_keys = &ring[at..at + dim * WIDTH];
                let mut near = [0.0; MAX_FEW * WIDTH];
                let distant = start.saturating_sub(key).min(WIDTH);
                let queries = &split.window[queries];
                scores_few(s, queries, dim, near_keys, &mut near, WIDTH);
                for (r, near) in near
                    .chunks_exact(WIDTH)
                    .take(queries.len() / dim)
                    .enumerate()
                {
                    row[r * PAGE + distant..r * PAGE + WIDTH].copy_from_slice(&near[distant..]);
                }
            }
        }
    }
}

/// Softmax and weighted values of the scored rows.
#[inline(always)]
fn weigh_page<S: Simd, P: Stored>(
    s: S,
    split: &mut Split,
    stored: &P,
    keys: usize,
    scratch: &mut ThreadScratch,
) {
    let shape = split.query.part.cache.shape();
    let padded = keys.next_multiple_of(WIDTH);
    let rows = scratch.scores.chunks_exact_mut(PAGE);
    for (row, state) in rows.zip(split.states.iter_mut()) {
        row[keys..padded].fill(f32::NEG_INFINITY);
        *state = Running::EMPTY;
        softmax_row(s, &mut row[..padded], state);
    }
    let (head, width) = (split.query.head, shape.padded_dim());
    split.partial.fill(0.0);
    let partials = split.partial.chunks_mut(MAX_FEW * width);
    for (partial, weights) in partials.zip(scratch.scores.chunks(MAX_FEW * PAGE)) {
        let buffers = &mut scratch.weights;
        stored.accumulate(s, shape, head, keys, weights, buffers, partial);
    }
}

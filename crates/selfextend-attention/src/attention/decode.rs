//! One query against all keys: split over pages, so that every core works whatever the number of
//! heads, and merged by log-sum-exp in the order of the pages.
//!
//! Each stored key and value is read once for all the query heads that share it.

use super::{AttentionShape, Part};
use crate::cache::{PAGE, Page, RingKeys};
use crate::parallel;
use crate::simd::kernels::{Running, accumulate, scores, softmax_row};
use crate::simd::{Element, Kernel, Simd, WIDTH, dispatch};
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
        SCORES.with_borrow_mut(|scores| dispatch(SplitKernel { split, scores }));
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
        let max = states.clone().map(|s| s.max).fold(f32::NEG_INFINITY, f32::max);
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

thread_local! {
    /// Scores, then weights, of one split: `[group][PAGE]`.
    static SCORES: RefCell<Vec<f32>> = RefCell::default();
}

struct SplitKernel<'a, 'b> {
    split: Split<'b>,
    scores: &'a mut Vec<f32>,
}

impl Kernel for SplitKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            mut split,
            scores: row_scores,
        } = self;
        let Query { part, head, .. } = split.query;
        let shape = part.cache.shape();
        let layer = part.cache.layer(part.layer);
        row_scores.resize(shape.group() * PAGE, 0.0);
        let keys = PAGE.min(split.query.position() + 1 - split.first);
        split.states.fill(Running::EMPTY);
        split.partial.fill(0.0);
        macro_rules! against {
            ($buffers:expr, $ring:expr) => {{
                let panels = $buffers.key_panels(shape, head, 0);
                score_page(s, &split, panels, $ring, keys, row_scores);
                let values = $buffers.value_rows(shape, head, 0);
                weigh_page(s, &mut split, values, keys, row_scores);
            }};
        }
        match (layer.pages.page_of(split.first), layer.ring.keys()) {
            (Page::F32(buffers), RingKeys::F32(ring)) => against!(buffers, ring),
            (Page::F16(buffers), RingKeys::F16(ring)) => against!(buffers, ring),
            _ => unreachable!("a ring is stored like its pages"),
        }
    }
}

/// Scores of the group's rows against a page's panels, each in its region.
#[inline(always)]
fn score_page<S: Simd, E: Element>(
    s: S,
    split: &Split,
    panels: &[E],
    ring: &[E],
    keys: usize,
    to: &mut [f32],
) {
    let Query { part, head, .. } = split.query;
    let (shape, map) = (part.cache.shape(), part.cache.map());
    let (dim, group) = (shape.head_dim(), shape.group());
    let start = map.window_start(split.query.position());
    let window = &part.cache.layer(part.layer).ring;
    for (panel, base_keys) in panels
        .chunks_exact(dim * WIDTH)
        .take(keys.div_ceil(WIDTH))
        .enumerate()
    {
        let key = split.first + panel * WIDTH;
        let row = &mut to[panel * WIDTH..];
        if key < start {
            scores(s, split.base, group, dim, base_keys, row, PAGE);
        }
        if map.has_window() && key + WIDTH > start {
            let at = window.offset(head, key / WIDTH);
            let near_keys = &ring[at..at + dim * WIDTH];
            let mut near = [0.0; MAX_STEP * WIDTH];
            let distant = start.saturating_sub(key).min(WIDTH);
            for first in (0..group).step_by(MAX_STEP) {
                let count = MAX_STEP.min(group - first);
                let queries = &split.window[first * dim..(first + count) * dim];
                scores(s, queries, count, dim, near_keys, &mut near, WIDTH);
                for r in 0..count {
                    let at = (first + r) * PAGE;
                    row[at + distant..at + WIDTH]
                        .copy_from_slice(&near[r * WIDTH + distant..(r + 1) * WIDTH]);
                }
            }
        }
    }
}

/// Rows scored at once through the selecting buffer.
const MAX_STEP: usize = 12;

/// Softmax and weighted values of the scored rows.
#[inline(always)]
fn weigh_page<S: Simd, E: Element>(
    s: S,
    split: &mut Split,
    values: &[E],
    keys: usize,
    weights: &mut [f32],
) {
    let width = split.query.part.cache.shape().padded_dim();
    let padded = keys.next_multiple_of(WIDTH);
    for (row, state) in weights.chunks_exact_mut(PAGE).zip(split.states.iter_mut()) {
        row[keys..padded].fill(f32::NEG_INFINITY);
        softmax_row(s, &mut row[..padded], state);
    }
    for (first, partial) in split.partial.chunks_mut(MAX_STEP * width).enumerate() {
        let rows = partial.len() / width;
        let from = &weights[first * MAX_STEP * PAGE..];
        // The accumulators start at zero: there is nothing to correct.
        accumulate(
            s,
            from,
            PAGE,
            keys,
            values,
            width,
            &[1.0; MAX_STEP][..rows],
            partial,
        );
    }
}

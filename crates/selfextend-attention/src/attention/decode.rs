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
    part: Part<'a>,
    head: usize,
    /// The query's position.
    position: usize,
    /// The page's first key.
    first: usize,
    base: &'a [f32],
    window: &'a [f32],
    partial: &'a mut [f32],
    states: &'a mut [Running],
}

pub(super) fn attend(
    shape: AttentionShape,
    parts: &[Part],
    q: &[f32],
    out: &mut [f32],
    scratch: &mut DecodeScratch,
) {
    if parts.is_empty() {
        return;
    }
    let queries: Vec<(Part, usize, usize)> = parts
        .iter()
        .flat_map(|&part| (0..part.plan.tokens).map(move |token| (part, token)))
        .flat_map(|(part, token)| (0..shape.kv_heads()).map(move |head| (part, token, head)))
        .collect();
    rotate_queries(shape, &queries, q, &mut scratch.queries);
    let pages = |&(part, token, _): &(Part, usize, usize)| (part.plan.start + token) / PAGE + 1;
    let splits: usize = queries.iter().map(pages).sum();
    scratch.partial.clear();
    scratch
        .partial
        .resize(splits * shape.group() * shape.padded_dim(), 0.0);
    scratch.states.clear();
    scratch
        .states
        .resize(splits * shape.group(), Running::EMPTY);
    let mut splits = cut(shape, &queries, scratch);
    parallel::for_each(&mut splits, |split| {
        SCORES.with_borrow_mut(|scores| dispatch(SplitKernel { split, scores }));
    });
    let mut splits = splits.as_slice();
    for query in &queries {
        let (mine, rest) = splits.split_at(pages(query));
        splits = rest;
        merge(shape, query, mine, out);
    }
}

fn rotate_queries(
    shape: AttentionShape,
    queries: &[(Part, usize, usize)],
    q: &[f32],
    to: &mut Vec<f32>,
) {
    let dim = shape.head_dim();
    let half = shape.group() * dim;
    to.resize(queries.len() * 2 * half, 0.0);
    for (&(part, token, head), to) in queries.iter().zip(to.chunks_exact_mut(2 * half)) {
        let (base, window) = to.split_at_mut(half);
        let rows = base.chunks_exact_mut(dim).zip(window.chunks_exact_mut(dim));
        for (row, (base, window)) in rows.enumerate() {
            part.query(q, token, head * shape.group() + row, base, window);
        }
    }
}

fn cut<'a>(
    shape: AttentionShape,
    queries: &[(Part<'a>, usize, usize)],
    scratch: &'a mut DecodeScratch,
) -> Vec<Split<'a>> {
    let half = shape.group() * shape.head_dim();
    let mut partials = scratch
        .partial
        .chunks_exact_mut(shape.group() * shape.padded_dim());
    let mut states = scratch.states.chunks_exact_mut(shape.group());
    let mut splits = Vec::with_capacity(states.len());
    for (&(part, token, head), rotated) in
        queries.iter().zip(scratch.queries.chunks_exact(2 * half))
    {
        let position = part.plan.start + token;
        let (base, window) = rotated.split_at(half);
        let pages = (0..=position).step_by(PAGE);
        for ((first, partial), states) in pages.zip(&mut partials).zip(&mut states) {
            splits.push(Split {
                part,
                head,
                position,
                first,
                base,
                window,
                partial,
                states,
            });
        }
    }
    splits
}

/// Adds up the splits of one query in order: each holds sums of `2^(score - max)`.
fn merge(
    shape: AttentionShape,
    &(part, token, head): &(Part, usize, usize),
    splits: &[Split],
    out: &mut [f32],
) {
    let (dim, width) = (shape.head_dim(), shape.padded_dim());
    for row in 0..shape.group() {
        let max = splits
            .iter()
            .map(|s| s.states[row].max)
            .fold(f32::NEG_INFINITY, f32::max);
        let query_head = head * shape.group() + row;
        let to = &mut out[((part.row + token) * shape.heads() + query_head) * dim..][..dim];
        to.fill(0.0);
        let mut sum = 0.0;
        for split in splits {
            let factor = (split.states[row].max - max).exp2();
            sum += split.states[row].sum * factor;
            let partial = &split.partial[row * width..row * width + dim];
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
    split: &'a mut Split<'b>,
    scores: &'a mut Vec<f32>,
}

impl Kernel for SplitKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            split,
            scores: row_scores,
        } = self;
        let cache = split.part.cache;
        let shape = cache.shape();
        let layer = cache.layer(split.part.layer);
        row_scores.resize(shape.group() * PAGE, 0.0);
        let keys = PAGE.min(split.position + 1 - split.first);
        macro_rules! against {
            ($buffers:expr, $ring:expr) => {{
                let panels = $buffers.key_panels(shape, split.head, 0);
                score_page(s, split, panels, $ring, keys, row_scores);
                weigh_page(
                    s,
                    split,
                    $buffers.value_rows(shape, split.head, 0),
                    keys,
                    row_scores,
                );
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
    let cache = split.part.cache;
    let (shape, map) = (cache.shape(), cache.map());
    let (dim, group) = (shape.head_dim(), shape.group());
    let start = map.window_start(split.position);
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
            let at = cache
                .layer(split.part.layer)
                .ring
                .offset(split.head, key / WIDTH);
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
    let width = split.part.cache.shape().padded_dim();
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

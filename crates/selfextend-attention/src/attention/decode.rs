//! One query against all keys: split over pages, so that every core has work whatever the number of
//! heads, and merged by log-sum-exp in the order of the pages.
//!
//! Each stored key and value is read once for all the query heads that share it.

use super::segment::LayerSegment;
use crate::cache::{DerivedRing, PAGE, Page, Stored, StoredQueries, WeightScratch};
use crate::parallel;
use crate::position::MAX_REGIONS;
use crate::shape::AttentionShape;
use crate::simd::kernels::{MAX_FEW, Rounded, Running, scores_few, soft_cap, softmax_row};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use std::cell::RefCell;

/// Buffers for all splits of a pass.
#[derive(Debug, Default)]
pub(super) struct DecodeScratch {
    /// Rotated queries of each (key head, token): region after region, `[group][component]`.
    queries: Vec<f32>,
    /// The same in the form that quantised keys are multiplied by; empty for other keys.
    rounded: Vec<Rounded>,
    /// Unnormalised results of each (page, token): `[group][padded component]`.
    partial: Vec<f32>,
    states: Vec<Running>,
}

/// The queries of a segment, in the heads that share a key head.
#[derive(Clone, Copy)]
struct Queries<'a> {
    segment: LayerSegment<'a>,
    head: usize,
}

impl<'a> Queries<'a> {
    /// How many tokens.
    fn tokens(&self) -> usize {
        self.segment.plan.tokens
    }

    /// One for each token.
    fn each(self) -> impl Iterator<Item = Query<'a>> + Clone {
        let Self { segment, head } = self;
        (0..self.tokens()).map(move |token| Query {
            segment,
            token,
            head,
        })
    }

    /// The pages that hold a key that one of them sees.
    fn pages(&self) -> impl Iterator<Item = usize> + Clone + use<'a> {
        let queries = *self;
        let end = queries.each().map(|query| query.end()).max();
        let pages = 0..end.unwrap_or(0).div_ceil(PAGE);
        pages.filter(move |&page| queries.each().any(|query| query.sees(page)))
    }
}

/// The heads of one query that share a key head.
#[derive(Clone, Copy)]
struct Query<'a> {
    segment: LayerSegment<'a>,
    token: usize,
    head: usize,
}

impl Query<'_> {
    /// The key after the last that it sees.
    fn end(&self) -> usize {
        self.segment.end(self.token)
    }

    /// Whether it sees a key of a page.
    fn sees(&self, page: usize) -> bool {
        let (token, from) = (self.token, page * PAGE);
        let mut regions = self.segment.regions().iter();
        regions.any(|region| region.touches(token, token, from, from + PAGE))
    }

    /// Copies the heads of this query, rotated for each region.
    fn rotate(&self, q: &[f32], to: &mut [f32]) {
        let shape = self.segment.cache.shape();
        let regions = to.chunks_exact_mut(shape.group() * shape.head_dim());
        for (region, to) in (0..self.segment.regions().len()).zip(regions) {
            for (row, to) in to.chunks_exact_mut(shape.head_dim()).enumerate() {
                let head = self.head * shape.group() + row;
                self.segment.query(q, region, self.token, head, to);
            }
        }
    }
}

/// Queries against the keys of one page, one after another: the page is read from memory once.
struct PageTask<'a> {
    queries: Queries<'a>,
    page: usize,
    /// Of each token, rotated for each region: `[region][group][component]`.
    rotated: &'a [f32],
    rounded: &'a [Rounded],
    /// Of each token.
    partial: &'a mut [f32],
    states: &'a mut [Running],
}

/// One query (all heads of a group) against the keys of one page.
struct Split<'a> {
    query: Query<'a>,
    /// The page's first key.
    first: usize,
    /// Rotated for each region: `[region][group][component]`.
    rotated: &'a [f32],
    /// The same rows in the form that quantised keys are multiplied by.
    rounded: &'a Rounded,
    partial: &'a mut [f32],
    states: &'a mut [Running],
}

impl PageTask<'_> {
    fn run(self, scratch: &mut ThreadScratch) {
        let shape = self.queries.segment.cache.shape();
        let partial = shape.group() * shape.padded_dim();
        let results = self.partial.chunks_exact_mut(partial);
        let results = results.zip(self.states.chunks_exact_mut(shape.group()));
        let rotated = self.rotated.chunks_exact(rotated_len(shape));
        let rows = self.queries.each().zip(rotated.zip(self.rounded));
        for ((query, (rotated, rounded)), (partial, states)) in rows.zip(results) {
            if !query.sees(self.page) {
                // Nothing, in the sum of all pages.
                partial.fill(0.0);
                states.fill(Running::EMPTY);
                continue;
            }
            let split = Split {
                query,
                first: self.page * PAGE,
                rotated,
                rounded,
                partial,
                states,
            };
            run(split, scratch);
        }
    }
}

/// Floats of a query's rotated rows, with room for every region.
fn rotated_len(shape: AttentionShape) -> usize {
    MAX_REGIONS * shape.group() * shape.head_dim()
}

pub(super) fn attend<'a>(
    shape: AttentionShape,
    segments: impl Iterator<Item = LayerSegment<'a>> + Clone + Send,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut DecodeScratch,
) {
    let all = segments
        .flat_map(|segment| (0..shape.kv_heads()).map(move |head| Queries { segment, head }));
    let count: usize = all.clone().map(|queries| queries.tokens()).sum();
    if count == 0 {
        return;
    }
    rotate(shape, all.clone(), count, q, scratch);
    let splits = |queries: &Queries| queries.pages().count() * queries.tokens();
    let splits: usize = all.clone().map(|queries| splits(&queries)).sum();
    let (width, rows) = (shape.group() * shape.padded_dim(), rotated_len(shape));
    scratch.partial.resize(splits * width, 0.0);
    scratch
        .states
        .resize(splits * shape.group(), Running::EMPTY);
    let (mut rotated, mut rounded) = (&scratch.queries[..], &scratch.rounded[..]);
    let pages = all.clone().flat_map(move |queries| {
        let mine = take(&mut rotated, queries.tokens() * rows);
        let both = (mine, take(&mut rounded, queries.tokens()));
        queries.pages().map(move |page| (queries, page, both))
    });
    let (mut partial, mut states) = (&mut scratch.partial[..], &mut scratch.states[..]);
    let tasks = pages.map(move |(queries, page, (rotated, rounded))| PageTask {
        queries,
        page,
        rotated,
        rounded,
        partial: take_mut(&mut partial, queries.tokens() * width),
        states: take_mut(&mut states, queries.tokens() * shape.group()),
    });
    parallel::for_each(tasks, |task| {
        THREAD.with_borrow_mut(|scratch| task.run(scratch));
    });
    let (mut partials, mut states) = (&scratch.partial[..], &scratch.states[..]);
    for queries in all {
        let tokens = queries.tokens();
        let count = queries.pages().count() * tokens;
        let partial = take(&mut partials, count * width).chunks_exact(width);
        let states = take(&mut states, count * shape.group()).chunks_exact(shape.group());
        let results = partial.zip(states);
        for query in queries.each() {
            let mine = results.clone().skip(query.token).step_by(tokens);
            merge(shape, query, mine, out);
        }
    }
}

/// Rotates the queries of all tokens for each region, and rounds them where keys are quantised.
fn rotate<'a>(
    shape: AttentionShape,
    all: impl Iterator<Item = Queries<'a>>,
    count: usize,
    q: &[f32],
    scratch: &mut DecodeScratch,
) {
    let rows = rotated_len(shape);
    scratch.queries.resize(count * rows, 0.0);
    let room = count.max(scratch.rounded.len());
    scratch.rounded.resize_with(room, Rounded::default);
    let rotated = scratch.queries.chunks_exact_mut(rows);
    let queries = all.flat_map(Queries::each);
    for ((query, to), rounded) in queries.zip(rotated).zip(&mut scratch.rounded) {
        query.rotate(q, to);
        if query.segment.cache.kv_type().is_quantized() {
            let used = query.segment.regions().len() * shape.group() * shape.head_dim();
            let (rows, depth) = (&to[..used], shape.head_dim());
            dispatch(RoundQueries {
                rows,
                depth,
                rounded,
            });
        }
    }
}

/// The first `count` of some numbers, which keep the others.
fn take<'a, T>(from: &mut &'a [T], count: usize) -> &'a [T] {
    let (first, rest) = from.split_at(count);
    *from = rest;
    first
}

/// The same of numbers to be written.
fn take_mut<'a, T>(from: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (first, rest) = std::mem::take(from).split_at_mut(count);
    *from = rest;
    first
}

/// Adds up the pages of one query in order: each holds sums of `2^(score - max)`, its heads one
/// after another.
fn merge<'a>(
    shape: AttentionShape,
    query: Query,
    pages: impl Iterator<Item = (&'a [f32], &'a [Running])> + Clone,
    out: &mut [f32],
) {
    let (dim, width, group) = (shape.head_dim(), shape.padded_dim(), shape.group());
    for row in 0..group {
        let states = pages.clone().map(|(_, states)| states[row]);
        let max = states.map(|s| s.max).fold(f32::NEG_INFINITY, f32::max);
        let head = query.head * group + row;
        let to =
            &mut out[((query.segment.row + query.token) * shape.heads() + head) * dim..][..dim];
        to.fill(0.0);
        let mut sum = 0.0;
        for (partial, states) in pages.clone() {
            let factor = (states[row].max - max).exp2();
            sum += states[row].sum * factor;
            let partial = &partial[row * width..row * width + dim];
            to.iter_mut()
                .zip(partial)
                .for_each(|(to, x)| *to += x * factor);
        }
        let total = query.segment.total(head, Running { max, sum });
        to.iter_mut().for_each(|x| *x /= total);
        query.segment.finish(to);
    }
}

/// Runs the kernel for what the split's page holds.
fn run(split: Split, scratch: &mut ThreadScratch) {
    let layer = split.query.segment.layer();
    macro_rules! with {
        ($stored:expr, $floats:expr) => {{
            let mut rings = [&[][..]; MAX_REGIONS];
            let held = rings.iter_mut().zip(&layer.rings);
            held.for_each(|(to, ring)| *to = $floats(ring));
            dispatch(SplitKernel {
                split,
                stored: $stored,
                rings,
                scratch,
            })
        }};
    }
    // A ring holds what its pages' keys are rounded to.
    match layer.pages.page_of(split.first) {
        Page::F32(stored) => with!(stored, DerivedRing::f32s),
        Page::F16(stored) => with!(stored, DerivedRing::f16s),
        Page::Q8(stored) => with!(stored, DerivedRing::f16s),
        Page::Q4(stored) => with!(stored, DerivedRing::f16s),
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct ThreadScratch {
    /// Scores, then weights, of one split: `[group][PAGE]`.
    scores: Vec<f32>,
    /// What scores of the split's rows begin with.
    bases: Vec<f32>,
    weights: WeightScratch,
}

thread_local! {
    static THREAD: RefCell<ThreadScratch> = RefCell::default();
}

struct RoundQueries<'a> {
    rows: &'a [f32],
    depth: usize,
    rounded: &'a mut Rounded,
}

impl Kernel for RoundQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.rounded.queries(s, self.rows, self.depth);
    }
}

struct SplitKernel<'a, 'b, P: Stored> {
    split: Split<'b>,
    stored: &'b P,
    rings: [&'b [P::Near]; MAX_REGIONS],
    scratch: &'a mut ThreadScratch,
}

impl<P: Stored> Kernel for SplitKernel<'_, '_, P> {
    type Output = ();
    const INTEGERS: bool = P::INTEGERS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            mut split,
            stored,
            rings,
            scratch,
        } = self;
        let group = split.query.segment.cache.shape().group();
        scratch.scores.resize(group * PAGE, 0.0);
        let keys = PAGE.min(split.query.end() - split.first);
        let (head, bases) = (split.query.head, &mut scratch.bases);
        let shape = split.query.segment.cache.shape();
        stored.bases(s, shape, head, split.rotated, bases);
        score_page(s, &split, stored, bases, &rings, keys, &mut scratch.scores);
        weigh_page(s, &mut split, stored, keys, scratch);
    }
}

/// How many panels of keys the prefetch runs ahead of the one being multiplied.
const AHEAD: usize = 6;

/// Scores of the group's rows against a page's panels, each in its region.
#[inline(always)]
fn score_page<S: Simd, P: Stored>(
    s: S,
    split: &Split,
    stored: &P,
    bases: &[f32],
    rings: &[&[P::Near]; MAX_REGIONS],
    keys: usize,
    to: &mut [f32],
) {
    let Query {
        segment,
        head,
        token,
    } = split.query;
    let (shape, regions) = (segment.cache.shape(), segment.regions());
    let (dim, group) = (shape.head_dim(), shape.group());
    for panel in 0..keys.div_ceil(WIDTH) {
        let key = split.first + panel * WIDTH;
        stored.prefetch_values(s, shape, head, panel);
        let (later, from) = (panel + AHEAD, key + AHEAD * WIDTH);
        let mut stored_regions = regions.iter().filter(|region| !region.is_derived());
        let read = stored_regions.any(|region| region.touches(token, token, from, from + WIDTH));
        if later < PAGE / WIDTH && read {
            stored.prefetch_keys(s, shape, head, later);
        }
        let row = &mut to[panel * WIDTH..];
        for first in (0..group).step_by(MAX_FEW) {
            let rows = first..group.min(first + MAX_FEW);
            let row = &mut row[first * PAGE..];
            let mut alone = true;
            for (r, region) in regions.iter().enumerate() {
                if !region.touches(token, token, key, key + WIDTH) {
                    continue;
                }
                let rows = r * group + rows.start..r * group + rows.end;
                let queries = &split.rotated[rows.start * dim..rows.end * dim];
                let all = StoredQueries {
                    floats: split.rotated,
                    rounded: split.rounded,
                    bases,
                };
                if std::mem::take(&mut alone) && !region.is_derived() {
                    stored.scores(s, shape, head, panel, all, rows, row, PAGE);
                    continue;
                }
                let mut near = [0.0; MAX_FEW * WIDTH];
                if region.is_derived() {
                    let at = segment.layer().rings[r].offset(head, key / WIDTH);
                    let near_keys = &rings[r][at..at + dim * WIDTH];
                    scores_few(s, queries, dim, near_keys, &mut near, WIDTH);
                } else {
                    stored.scores(s, shape, head, panel, all, rows, &mut near, WIDTH);
                }
                let begin = region.start(token).saturating_sub(key).min(WIDTH);
                let rows = near.chunks_exact(WIDTH).take(queries.len() / dim);
                for (r, near) in rows.enumerate() {
                    row[r * PAGE + begin..r * PAGE + WIDTH].copy_from_slice(&near[begin..]);
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
    let shape = split.query.segment.cache.shape();
    let padded = keys.next_multiple_of(WIDTH);
    let (kind, cap) = (split.query.segment.kind(), split.query.segment.soft_cap());
    let rows = scratch.scores.chunks_exact_mut(PAGE);
    for (row, state) in rows.zip(split.states.iter_mut()) {
        if let Some(cap) = cap {
            soft_cap(s, &mut row[..padded], cap);
        }
        row[keys..padded].fill(f32::NEG_INFINITY);
        if kind.lowering.has_gaps() {
            kind.mask(split.query.token, split.first, &mut row[..padded]);
        }
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

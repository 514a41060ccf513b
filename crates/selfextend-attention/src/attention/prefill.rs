//! Many queries at once: blocks of queries against tiles of keys.
//!
//! The query heads that share a key head form one tall block, so a tile of keys and values is
//! widened to floats once for all of them. Within a tile, groups of rows go through three steps:
//! scores panel by panel (each panel stays in the first-level cache for the whole group), the
//! online softmax row by row, and the weighted values column by column.

use super::segment::LayerSegment;
use crate::cache::{PAGE, Page, Rotations, Stored, derive_panels, with_stored};
use crate::lowering::LoweredRegion;
use crate::parallel;
use crate::position::MAX_REGIONS;
use crate::shape::AttentionShape;
use crate::simd::kernels::{Running, accumulate, scores, soft_cap, softmax_row};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use std::cell::RefCell;
use std::cmp::Reverse;

/// Keys in a tile. Divides a page.
const TILE: usize = 64;
/// Target number of rows (tokens times heads) of a block: enough to pay for widening a tile.
const BLOCK_ROWS: usize = 192;
/// Rows that pass over a tile together: a multiple of every level's micro-kernel.
const GROUP_ROWS: usize = 24;

/// Buffers for all blocks of a pass.
#[derive(Debug, Default)]
pub(super) struct PrefillScratch {
    /// Derived keys of each segment and region: `[kv_head][panel][component][16]`.
    derived: Vec<f32>,
    /// Results of each block: `[token][head of the group][padded component]`.
    out: Vec<f32>,
}

/// Queries `first..first + tokens` of a segment, for the heads that share one key head.
struct QueryBlock<'a> {
    segment: LayerSegment<'a>,
    regions: &'a [LoweredRegion],
    head: usize,
    first: usize,
    tokens: usize,
    /// Derived keys of this head, for each region that has them.
    derived: [Derived<'a>; MAX_REGIONS],
    out: &'a mut [f32],
}

impl QueryBlock<'_> {
    /// The key after the last that its last query sees: no other sees a later one.
    fn end(&self) -> usize {
        self.segment.end(self.first + self.tokens - 1)
    }
}

/// Keys derived for one region and head.
#[derive(Clone, Copy, Default)]
struct Derived<'a> {
    /// `[panel][component][16]`.
    keys: &'a [f32],
    /// The number of its first panel.
    first: usize,
}

impl<'a> Derived<'a> {
    fn panel(&self, number: usize, dim: usize) -> &'a [f32] {
        let at = (number - self.first) * dim * WIDTH;
        &self.keys[at..at + dim * WIDTH]
    }
}

pub(super) fn attend<'a>(
    shape: AttentionShape,
    segments: impl Iterator<Item = LayerSegment<'a>>,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut PrefillScratch,
) {
    let segments: &[LayerSegment] = &segments.collect::<Vec<_>>();
    if segments.is_empty() {
        return;
    }
    derive_keys(shape, segments, &mut scratch.derived);
    let tokens: usize = segments.iter().map(|segment| segment.plan.tokens).sum();
    scratch.out.clear();
    scratch
        .out
        .resize(tokens * shape.heads() * shape.padded_dim(), 0.0);
    let mut blocks = blocks(shape, segments, &scratch.derived, &mut scratch.out);
    // The longest first, so that no thread is left with a long one at the end.
    blocks.sort_by_key(|block| Reverse(block.tokens * block.end()));
    parallel::for_each(&mut blocks, |block| {
        THREAD.with_borrow_mut(|scratch| dispatch(BlockKernel { block, q, scratch }));
    });
    for block in &blocks {
        scatter(shape, block, out);
    }
}

fn rotations<'a>(segment: &LayerSegment<'a>) -> &'a [Rotations] {
    &segment.kind().rotations
}

/// Derives the keys that each segment's queries see in derived regions, in parallel over heads.
fn derive_keys(shape: AttentionShape, segments: &[LayerSegment], derived: &mut Vec<f32>) {
    let size = shape.head_dim() * WIDTH;
    let regions = || {
        let all = segments.iter().map(|segment| (segment, rotations(segment)));
        all.flat_map(|(segment, all)| all.iter().map(move |rotations| (segment, rotations)))
    };
    let panels: usize = regions()
        .map(|(_, rotations)| rotations.deltas.panels().len())
        .sum();
    derived.resize(panels * shape.kv_heads() * size, 0.0);
    let mut rest = &mut derived[..];
    let mut tasks = Vec::new();
    for (segment, rotations) in regions() {
        let panels = rotations.deltas.panels();
        for head in 0..shape.kv_heads() {
            for first in panels.clone().step_by(PAGE / WIDTH) {
                let some = first..panels.end.min(first + PAGE / WIDTH);
                let (to, tail) = std::mem::take(&mut rest).split_at_mut(some.len() * size);
                rest = tail;
                tasks.push((segment, rotations, head, some, to));
            }
        }
    }
    parallel::for_each(tasks, |(segment, rotations, head, panels, to)| {
        let (pages, rope) = (&segment.layer().pages, segment.rope());
        derive_panels(pages, rope, &rotations.deltas, head, panels, to);
    });
}

/// Cuts the queries of all segments into blocks that own their piece of `out`.
fn blocks<'a>(
    shape: AttentionShape,
    segments: &[LayerSegment<'a>],
    mut derived: &'a [f32],
    mut out: &'a mut [f32],
) -> Vec<QueryBlock<'a>> {
    let per_block = (BLOCK_ROWS / shape.group()).max(1);
    let row = shape.group() * shape.padded_dim();
    let mut blocks = Vec::new();
    for &segment in segments {
        // As they were derived: region after region, head after head.
        let regions = rotations(&segment).iter().map(|rotations| {
            let panels = rotations.deltas.panels();
            let size = panels.len() * shape.head_dim() * WIDTH;
            let (keys, rest) = derived.split_at(size * shape.kv_heads());
            derived = rest;
            (keys, size, panels.start)
        });
        let regions: Vec<_> = regions.collect();
        for head in 0..shape.kv_heads() {
            let mut mine = [Derived::default(); MAX_REGIONS];
            for (mine, &(keys, size, first)) in mine.iter_mut().zip(&regions) {
                let keys = &keys[head * size..(head + 1) * size];
                *mine = Derived { keys, first };
            }
            for first in (0..segment.plan.tokens).step_by(per_block) {
                let tokens = per_block.min(segment.plan.tokens - first);
                let (to, rest) = std::mem::take(&mut out).split_at_mut(tokens * row);
                out = rest;
                blocks.push(QueryBlock {
                    segment,
                    regions: segment.regions(),
                    head,
                    first,
                    tokens,
                    derived: mine,
                    out: to,
                });
            }
        }
    }
    blocks
}

fn scatter(shape: AttentionShape, block: &QueryBlock, out: &mut [f32]) {
    let (dim, group) = (shape.head_dim(), shape.group());
    for (row, from) in block.out.chunks_exact(shape.padded_dim()).enumerate() {
        let token = block.segment.row + block.first + row / group;
        let head = block.head * group + row % group;
        out[(token * shape.heads() + head) * dim..][..dim].copy_from_slice(&from[..dim]);
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct ThreadScratch {
    /// Rotated queries of each region, `[row][component]`.
    queries: [Vec<f32>; MAX_REGIONS],
    states: Vec<Running>,
    /// The tile's stored keys, `[panel][component][16]`.
    keys: Vec<f32>,
    /// The tile's values, `[padded component / 16][TILE][16]`.
    values: Vec<f32>,
    /// Scores, then weights, of a group of rows: `[row][TILE]`.
    scores: Vec<f32>,
}

thread_local! {
    static THREAD: RefCell<ThreadScratch> = RefCell::default();
}

struct BlockKernel<'a, 'b> {
    block: &'a mut QueryBlock<'b>,
    q: &'a [f32],
    scratch: &'a mut ThreadScratch,
}

impl Kernel for BlockKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { block, q, scratch } = self;
        prepare(block, q, scratch);
        let end = block.end();
        let (first, last) = (block.first, block.first + block.tokens - 1);
        for tile in (0..end).step_by(TILE) {
            let keys = TILE.min(end - tile);
            let seen = |region: &&LoweredRegion| region.touches(first, last, tile, tile + keys);
            let mut seen = block.regions.iter().filter(seen).peekable();
            if seen.peek().is_none() {
                continue;
            }
            let stored = seen.any(|region| !region.is_derived());
            load_tile(s, block, tile, keys, stored, scratch);
            let rows = block.tokens * block.segment.cache.shape().group();
            for first in (0..rows).step_by(GROUP_ROWS) {
                let rows = Rows {
                    first,
                    count: GROUP_ROWS.min(rows - first),
                    tile,
                    keys,
                };
                group_of_rows(s, block, rows, scratch);
            }
        }
        let shape = block.segment.cache.shape();
        let rows = block.out.chunks_exact_mut(shape.padded_dim());
        let heads = (0..shape.group()).cycle();
        for ((row, state), head) in rows.zip(&scratch.states).zip(heads) {
            let head = block.head * shape.group() + head;
            let total = block.segment.total(head, *state);
            row.iter_mut().for_each(|x| *x /= total);
            block.segment.finish(&mut row[..shape.head_dim()]);
        }
    }
}

/// Some rows of a block and the tile that they are multiplied with.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    count: usize,
    /// The tile's first key.
    tile: usize,
    /// Keys in the tile.
    keys: usize,
}

/// Rotates the block's queries and empties the running state.
fn prepare(block: &mut QueryBlock, q: &[f32], scratch: &mut ThreadScratch) {
    let shape = block.segment.cache.shape();
    let (dim, rows) = (shape.head_dim(), block.tokens * shape.group());
    let regions = 0..block.regions.len();
    for (region, queries) in regions.zip(&mut scratch.queries) {
        queries.resize(rows * dim, 0.0);
        for (row, to) in queries.chunks_exact_mut(dim).enumerate() {
            let token = block.first + row / shape.group();
            let head = block.head * shape.group() + row % shape.group();
            block.segment.query(q, region, token, head, to);
        }
    }
    scratch.states.clear();
    scratch.states.resize(rows, Running::EMPTY);
    scratch.keys.resize(TILE * dim, 0.0);
    scratch.values.resize(TILE * shape.padded_dim(), 0.0);
    scratch.scores.resize(GROUP_ROWS * TILE, 0.0);
}

/// Widens the tile's values, and its stored keys where some row needs them.
#[inline(always)]
fn load_tile<S: Simd>(
    s: S,
    block: &QueryBlock,
    tile: usize,
    keys: usize,
    with_keys: bool,
    scratch: &mut ThreadScratch,
) {
    let cache = block.segment.cache;
    let shape = cache.shape();
    let slot = tile % PAGE;
    let (head, page) = (block.head, block.segment.layer().pages.page_of(tile));
    with_stored!(page, |stored| {
        stored.widen_values(s, shape, head, slot, keys, TILE, &mut scratch.values);
        if with_keys {
            let panels = scratch.keys.chunks_exact_mut(shape.head_dim() * WIDTH);
            for (panel, to) in panels.take(keys.div_ceil(WIDTH)).enumerate() {
                stored.widen_panel(s, shape, head, slot / WIDTH + panel, to);
            }
        }
    });
}

/// Scores, softmax and weighted values of some rows against the loaded tile.
#[inline(always)]
fn group_of_rows<S: Simd>(s: S, block: &mut QueryBlock, rows: Rows, scratch: &mut ThreadScratch) {
    let shape = block.segment.cache.shape();
    let token = |row: usize| block.first + row / shape.group();
    // Keys of the tile that a row sees at most; the last row sees the most.
    let visible = |row: usize| block.segment.end(token(row)).saturating_sub(rows.tile);
    let end = rows.first + rows.count;
    let keys = rows.keys.min(visible(end - 1));
    if keys == 0 {
        return; // no row sees any of them
    }
    let panels = keys.div_ceil(WIDTH);
    for panel in 0..panels {
        for first in (rows.first..end).step_by(S::ROWS) {
            let some = first..end.min(first + S::ROWS);
            score_panel(s, block, rows, panel, some, scratch);
        }
    }
    let (kind, cap) = (block.segment.kind(), block.segment.soft_cap());
    let mut corrections = [1.0; GROUP_ROWS];
    for (row, correction) in corrections.iter_mut().enumerate().take(rows.count) {
        let weights = &mut scratch.scores[row * TILE..row * TILE + panels * WIDTH];
        let visible = visible(rows.first + row);
        if let Some(cap) = cap {
            soft_cap(s, weights, cap);
        }
        if visible < weights.len() {
            weights[visible..].fill(f32::NEG_INFINITY);
        }
        if kind.lowering.has_gaps() {
            kind.mask(token(rows.first + row), rows.tile, weights);
        }
        *correction = softmax_row(s, weights, &mut scratch.states[rows.first + row]);
    }
    let width = shape.padded_dim();
    accumulate(
        s,
        &scratch.scores,
        TILE,
        keys,
        &scratch.values,
        width,
        &corrections[..rows.count],
        &mut block.out[rows.first * width..end * width],
    );
}

/// Scores of rows `some` (of the block) against one panel, by its class: in no region, wholly in
/// one, or on a boundary, where each row selects from both.
#[inline(always)]
fn score_panel<S: Simd>(
    s: S,
    block: &QueryBlock,
    rows: Rows,
    panel: usize,
    some: std::ops::Range<usize>,
    scratch: &mut ThreadScratch,
) {
    let shape = block.segment.cache.shape();
    let (dim, group, count) = (shape.head_dim(), shape.group(), some.len());
    let key = rows.tile + panel * WIDTH;
    let token = |row: usize| block.first + row / group;
    let (first, last) = (token(some.start), token(some.end - 1));
    let at = (some.start - rows.first) * TILE + panel * WIDTH;
    let to = &mut scratch.scores[at..];
    let mut alone = true;
    for (r, region) in block.regions.iter().enumerate() {
        if !region.touches(first, last, key, key + WIDTH) {
            continue;
        }
        let queries = &scratch.queries[r][some.start * dim..some.end * dim];
        let keys = if region.is_derived() {
            block.derived[r].panel(key / WIDTH, dim)
        } else {
            &scratch.keys[panel * dim * WIDTH..(panel + 1) * dim * WIDTH]
        };
        if std::mem::take(&mut alone) {
            scores(s, queries, count, dim, keys, to, TILE);
            continue;
        }
        // Nearer keys than those of the regions before: they begin somewhere in this panel.
        let mut nearer = [0.0; GROUP_ROWS * WIDTH];
        scores(s, queries, count, dim, keys, &mut nearer, WIDTH);
        for (r, row) in some.clone().enumerate() {
            let begin = region.start(token(row)).saturating_sub(key).min(WIDTH);
            let from = &nearer[r * WIDTH + begin..(r + 1) * WIDTH];
            to[r * TILE + begin..r * TILE + WIDTH].copy_from_slice(from);
        }
    }
}

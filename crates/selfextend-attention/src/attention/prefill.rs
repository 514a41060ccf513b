//! Many queries at once: blocks of queries against tiles of keys.
//!
//! The query heads that share a key head form one tall block, so a tile of keys and values is
//! widened to floats once for all of them. Within a tile, groups of rows go through three steps:
//! scores panel by panel (each panel stays in the first-level cache for the whole group), the
//! online softmax row by row, and the weighted values column by column.

use super::{AttentionShape, Part};
use crate::cache::{PAGE, Page, Stored, derive_panels, with_stored};
use crate::parallel;
use crate::simd::kernels::{Running, accumulate, scores, soft_cap, softmax_row};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use std::cell::RefCell;

/// Keys in a tile. Divides a page.
const TILE: usize = 64;
/// Rows (tokens times heads) a block aims at: enough to pay for widening a tile.
const BLOCK_ROWS: usize = 192;
/// Rows that pass over a tile together: a multiple of every level's micro-kernel.
const GROUP_ROWS: usize = 24;

/// Buffers for all blocks of a pass.
#[derive(Debug, Default)]
pub(super) struct PrefillScratch {
    /// Derived window keys of each part: `[kv_head][panel][component][16]`.
    window: Vec<f32>,
    /// Results of each block: `[token][head of the group][padded component]`.
    out: Vec<f32>,
}

/// Queries `first..first + tokens` of a part, for the heads that share one key head.
struct Block<'a> {
    part: Part<'a>,
    head: usize,
    first: usize,
    tokens: usize,
    /// Window keys of this head, from panel `window_first` on.
    window: &'a [f32],
    window_first: usize,
    out: &'a mut [f32],
}

pub(super) fn attend<'a>(
    shape: AttentionShape,
    parts: impl Iterator<Item = Part<'a>>,
    q: &[f32],
    out: &mut [f32],
    scratch: &mut PrefillScratch,
) {
    let parts: &[Part] = &parts.collect::<Vec<_>>();
    if parts.is_empty() {
        return;
    }
    derive_windows(shape, parts, &mut scratch.window);
    let tokens: usize = parts.iter().map(|part| part.plan.tokens).sum();
    scratch.out.clear();
    scratch
        .out
        .resize(tokens * shape.heads() * shape.padded_dim(), 0.0);
    let mut blocks = blocks(shape, parts, &scratch.window, &mut scratch.out);
    // The longest first, so that no thread is left with a long one at the end.
    blocks.sort_by_key(|b| std::cmp::Reverse(b.tokens * (b.part.plan.start + b.first + b.tokens)));
    parallel::for_each(&mut blocks, |block| {
        THREAD.with_borrow_mut(|scratch| dispatch(BlockKernel { block, q, scratch }));
    });
    for block in &blocks {
        scatter(shape, block, out);
    }
}

/// Derives the window keys every part's queries can see, in parallel over heads.
fn derive_windows(shape: AttentionShape, parts: &[Part], window: &mut Vec<f32>) {
    let size = shape.head_dim() * WIDTH;
    let panels = |part: &Part| part.rotations().window_deltas.panels();
    window.resize(
        parts.iter().map(|p| panels(p).len()).sum::<usize>() * shape.kv_heads() * size,
        0.0,
    );
    let mut rest = &mut window[..];
    let mut tasks = Vec::new();
    for part in parts {
        for head in 0..shape.kv_heads() {
            for first in panels(part).step_by(PAGE / WIDTH) {
                let some = first..panels(part).end.min(first + PAGE / WIDTH);
                let (to, tail) = std::mem::take(&mut rest).split_at_mut(some.len() * size);
                rest = tail;
                tasks.push((part, head, some, to));
            }
        }
    }
    parallel::for_each(tasks, |(part, head, panels, to)| {
        let pages = &part.cache.layer(part.layer).pages;
        let deltas = &part.rotations().window_deltas;
        derive_panels(pages, &part.spec().rope, deltas, head, panels, to);
    });
}

/// Cuts the queries of all parts into blocks that own their piece of `out`.
fn blocks<'a>(
    shape: AttentionShape,
    parts: &[Part<'a>],
    mut window: &'a [f32],
    mut out: &'a mut [f32],
) -> Vec<Block<'a>> {
    let per_block = (BLOCK_ROWS / shape.group()).max(1);
    let row = shape.group() * shape.padded_dim();
    let mut blocks = Vec::new();
    for &part in parts {
        let panels = part.rotations().window_deltas.panels();
        for head in 0..shape.kv_heads() {
            let (mine, rest) = window.split_at(panels.len() * shape.head_dim() * WIDTH);
            window = rest;
            for first in (0..part.plan.tokens).step_by(per_block) {
                let tokens = per_block.min(part.plan.tokens - first);
                let (to, rest) = std::mem::take(&mut out).split_at_mut(tokens * row);
                out = rest;
                let window_first = panels.start;
                blocks.push(Block {
                    part,
                    head,
                    first,
                    tokens,
                    window: mine,
                    window_first,
                    out: to,
                });
            }
        }
    }
    blocks
}

fn scatter(shape: AttentionShape, block: &Block, out: &mut [f32]) {
    let (dim, group) = (shape.head_dim(), shape.group());
    for (row, from) in block.out.chunks_exact(shape.padded_dim()).enumerate() {
        let token = block.part.row + block.first + row / group;
        let head = block.head * group + row % group;
        out[(token * shape.heads() + head) * dim..][..dim].copy_from_slice(&from[..dim]);
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct ThreadScratch {
    base_queries: Vec<f32>,
    window_queries: Vec<f32>,
    states: Vec<Running>,
    /// The tile's base keys, `[panel][component][16]`.
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
    block: &'a mut Block<'b>,
    q: &'a [f32],
    scratch: &'a mut ThreadScratch,
}

impl Kernel for BlockKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { block, q, scratch } = self;
        prepare(block, q, scratch);
        let spec = block.part.spec();
        let map = spec.map;
        let first = block.part.plan.start + block.first;
        let last = first + block.tokens - 1;
        let visible = spec.first_visible(first) / TILE * TILE;
        for tile in (visible..=last).step_by(TILE) {
            let keys = TILE.min(last + 1 - tile);
            load_tile(s, block, tile, keys, tile < map.window_start(last), scratch);
            let rows = block.tokens * block.part.cache.shape().group();
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
        let width = block.part.cache.shape().padded_dim();
        for (row, state) in block.out.chunks_exact_mut(width).zip(&scratch.states) {
            row.iter_mut().for_each(|x| *x /= state.sum);
        }
    }
}

/// Some rows of a block and the tile they meet.
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
fn prepare(block: &mut Block, q: &[f32], scratch: &mut ThreadScratch) {
    let shape = block.part.cache.shape();
    let (dim, rows) = (shape.head_dim(), block.tokens * shape.group());
    scratch.base_queries.resize(rows * dim, 0.0);
    scratch.window_queries.resize(rows * dim, 0.0);
    for row in 0..rows {
        let token = block.first + row / shape.group();
        let head = block.head * shape.group() + row % shape.group();
        let at = row * dim..(row + 1) * dim;
        let base = &mut scratch.base_queries[at.clone()];
        block
            .part
            .query(q, token, head, base, &mut scratch.window_queries[at]);
    }
    scratch.states.clear();
    scratch.states.resize(rows, Running::EMPTY);
    scratch.keys.resize(TILE * dim, 0.0);
    scratch.values.resize(TILE * shape.padded_dim(), 0.0);
    scratch.scores.resize(GROUP_ROWS * TILE, 0.0);
}

/// Widens the tile's values, and its base keys where some row needs them.
#[inline(always)]
fn load_tile<S: Simd>(
    s: S,
    block: &Block,
    tile: usize,
    keys: usize,
    base: bool,
    scratch: &mut ThreadScratch,
) {
    let cache = block.part.cache;
    let shape = cache.shape();
    let slot = tile % PAGE;
    let (head, page) = (
        block.head,
        cache.layer(block.part.layer).pages.page_of(tile),
    );
    with_stored!(page, |stored| {
        stored.widen_values(s, shape, head, slot, keys, TILE, &mut scratch.values);
        if base {
            let panels = scratch.keys.chunks_exact_mut(shape.head_dim() * WIDTH);
            for (panel, to) in panels.take(keys.div_ceil(WIDTH)).enumerate() {
                stored.widen_panel(s, shape, head, slot / WIDTH + panel, to);
            }
        }
    });
}

/// Scores, softmax and weighted values of some rows against the loaded tile.
#[inline(always)]
fn group_of_rows<S: Simd>(s: S, block: &mut Block, rows: Rows, scratch: &mut ThreadScratch) {
    let shape = block.part.cache.shape();
    let start = block.part.plan.start + block.first;
    let position = |row: usize| start + row / shape.group();
    let end = rows.first + rows.count;
    if position(end - 1) < rows.tile {
        return; // all masked
    }
    let keys = rows.keys.min(position(end - 1) + 1 - rows.tile);
    let panels = keys.div_ceil(WIDTH);
    for panel in 0..panels {
        for first in (rows.first..end).step_by(S::ROWS) {
            let some = first..end.min(first + S::ROWS);
            let span = (position(some.start), position(some.end - 1));
            score_panel(s, block, rows, panel, some, span, scratch);
        }
    }
    let (spec, cap) = (block.part.spec(), block.part.soft_cap());
    let mut corrections = [1.0; GROUP_ROWS];
    for (row, correction) in corrections.iter_mut().enumerate().take(rows.count) {
        let weights = &mut scratch.scores[row * TILE..row * TILE + panels * WIDTH];
        let visible = (position(rows.first + row) + 1).saturating_sub(rows.tile);
        if let Some(cap) = cap {
            soft_cap(s, weights, cap);
        }
        if visible < weights.len() {
            weights[visible..].fill(f32::NEG_INFINITY);
        }
        if spec.sliding_window.is_some() {
            let first = spec.first_visible(position(rows.first + row));
            let hidden = first.saturating_sub(rows.tile).min(weights.len());
            weights[..hidden].fill(f32::NEG_INFINITY);
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

/// Scores of rows `some` (of the block) against one panel, by its class: hidden by the causal
/// mask, wholly in one region, or on the boundary, where both are computed and each row selects.
#[inline(always)]
fn score_panel<S: Simd>(
    s: S,
    block: &Block,
    rows: Rows,
    panel: usize,
    some: std::ops::Range<usize>,
    (first, last): (usize, usize),
    scratch: &mut ThreadScratch,
) {
    let cache = block.part.cache;
    let (map, dim) = (block.part.spec().map, cache.shape().head_dim());
    let key = rows.tile + panel * WIDTH;
    if key > last {
        return;
    }
    let count = some.len();
    let queries = some.start * dim..some.end * dim;
    let base_panel = panel * dim * WIDTH..(panel + 1) * dim * WIDTH;
    let at = (some.start - rows.first) * TILE + panel * WIDTH;
    let to = &mut scratch.scores[at..];
    let in_window = map.has_window() && key + WIDTH > map.window_start(first);
    if !in_window {
        let base = &scratch.base_queries[queries];
        scores(s, base, count, dim, &scratch.keys[base_panel], to, TILE);
        return;
    }
    let at = (key / WIDTH - block.window_first) * dim * WIDTH;
    let window_panel = &block.window[at..at + dim * WIDTH];
    scores(
        s,
        &scratch.window_queries[queries.clone()],
        count,
        dim,
        window_panel,
        to,
        TILE,
    );
    if key >= map.window_start(last) {
        return;
    }
    let mut distant = [0.0; GROUP_ROWS * WIDTH];
    let base = &scratch.base_queries[queries];
    scores(
        s,
        base,
        count,
        dim,
        &scratch.keys[base_panel],
        &mut distant,
        WIDTH,
    );
    let group = cache.shape().group();
    let start = block.part.plan.start + block.first;
    for (r, row) in some.enumerate() {
        let distant_keys = map
            .window_start(start + row / group)
            .saturating_sub(key)
            .min(WIDTH);
        let from = &distant[r * WIDTH..r * WIDTH + distant_keys];
        to[r * TILE..r * TILE + distant_keys].copy_from_slice(from);
    }
}

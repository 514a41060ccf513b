//! Attention of one layer for the new tokens of some sequences.

use super::segment::{HeadWeights, LayerSegment, Segment};
use super::{decode, prefill};
use crate::error::AttentionError;
use crate::parallel;
use std::iter::Scan;
use std::ops::Deref;

/// Buffers that passes reuse.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    prefill: prefill::PrefillScratch,
    decode: decode::DecodeScratch,
}

/// Attention of one layer for the new tokens of some sequences, flattened in the order of `segments`.
///
/// `q` is `[tokens, heads * head_dim]`, `k` and `v` are `[tokens, kv_heads * head_dim]`, none of
/// them rotated; `out` is like `q`. Keys and values are stored in the caches, which count them
/// only after [`KvCache::commit`](crate::KvCache::commit).
///
/// # Errors
/// [`AttentionError`] when the caches' shapes differ, a plan is not that of its cache's next tokens or
/// a slice's length does not fit.
pub fn attend(
    layer: usize,
    segments: &mut [Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) -> Result<(), AttentionError> {
    let weights = HeadWeights::default();
    attend_with(layer, segments, q, k, v, weights, out, scratch)
}

/// [`attend`] of a layer with numbers of its own.
///
/// # Errors
/// As [`attend`], and for a number of sinks that is not that of query heads, or of weights that is not
/// that of a head's components.
#[allow(clippy::too_many_arguments)]
pub fn attend_with(
    layer: usize,
    segments: &mut [Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    weights: HeadWeights,
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) -> Result<(), AttentionError> {
    let Some(first) = segments.first() else {
        return Ok(());
    };
    let shape = first.cache.shape();
    if segments
        .iter()
        .any(|segment| segment.cache.shape() != shape)
    {
        return Err(AttentionError::Shape(
            "sequences of one pass differ in shape".into(),
        ));
    }
    if segments.iter().any(|it| !it.cache.continues(it.plan)) {
        return Err(AttentionError::Shape(
            "a plan was made for other tokens than those that follow its sequence".into(),
        ));
    }
    let tokens: usize = segments.iter().map(|segment| segment.plan.tokens).sum();
    let q_width = shape.heads() * shape.head_dim();
    let kv_width = shape.kv_heads() * shape.head_dim();
    check_len("queries", q.len(), tokens * q_width)?;
    check_len("keys", k.len(), tokens * kv_width)?;
    check_len("values", v.len(), tokens * kv_width)?;
    check_len("output", out.len(), tokens * q_width)?;
    let HeadWeights { sinks, turned } = weights;
    for (what, numbers, expected) in [
        ("sinks", sinks, shape.heads()),
        ("weights of turned queries", turned, shape.head_dim()),
    ] {
        if !numbers.is_empty() {
            check_len(what, numbers.len(), expected)?;
        }
    }

    parallel::for_each(with_rows(segments.iter_mut()), |(segment, row)| {
        let range = row * kv_width..(row + segment.plan.tokens) * kv_width;
        let Segment { cache, plan } = segment;
        cache.append(layer, plan, &k[range.clone()], &v[range]);
        cache.update_rings(layer, plan);
    });

    let stored = with_rows(segments.iter()).map(|(segment, row)| LayerSegment {
        cache: &*segment.cache,
        plan: segment.plan,
        layer,
        row,
        weights,
    });
    let decoded = |segment: &LayerSegment| segment.plan.decode;
    let prefills = stored.clone().filter(|segment| !decoded(segment));
    prefill::attend(shape, prefills, q, out, &mut scratch.prefill);
    decode::attend(shape, stored.filter(decoded), q, out, &mut scratch.decode);
    Ok(())
}

/// Adds to a segment the row where it starts, and moves on to the next.
type NextRow<S> = fn(&mut usize, S) -> Option<(S, usize)>;

/// Segments with the row of the packed input where each starts.
fn with_rows<'a, S, I>(segments: I) -> Scan<I, usize, NextRow<S>>
where
    S: Deref<Target = Segment<'a>>,
    I: Iterator<Item = S>,
{
    segments.scan(0, |next, segment| {
        let row = *next;
        *next += segment.plan.tokens;
        Some((segment, row))
    })
}

fn check_len(what: &'static str, actual: usize, expected: usize) -> Result<(), AttentionError> {
    if actual == expected {
        Ok(())
    } else {
        Err(AttentionError::Length {
            what,
            actual,
            expected,
        })
    }
}

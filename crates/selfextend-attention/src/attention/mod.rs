//! Exact multi-region attention.
//!
//! For query `i` of a head, over the keys `j <= i`:
//!
//! ```text
//! score(i, j) = scale * (R(p_q(i)) q_i) · (R(p_k(j)) k_j)     p_q(i) - p_k(j) = relative(i, j)
//! out(i)      = sum_j softmax_j(score(i, j)) v_j
//! ```
//!
//! where `relative` is the position map's and `R` the rotary embedding; keys that the map hides are
//! left out. [`oracle`] is that formula in f64, pair by pair. [`attend`] is the same in tiles, with
//! memory linear in the length. It knows regions only (see [`crate::position`]): ranges of keys, and
//! positions of queries and keys, computed once in a [`StepPlan`]:
//!
//! * **prefill** (`prefill`): blocks of queries against tiles of keys with an online softmax.
//!   Panels of 16 keys are classified before they are multiplied, so the work is that of plain
//!   attention plus one extra panel per row of queries where two regions meet, and panels in no
//!   region cost nothing;
//! * **decode** (`decode`): one query against all keys, split over pages and merged in order.
//!
//! No result depends on the number of threads, and a prefill's do not depend on its chunks.

mod decode;
pub mod oracle;
mod prefill;

use crate::cache::{KindPlan, LayerCache, RegionPlan, StepPlan};
use crate::{AttentionError, KvCache, parallel};
use std::iter::Scan;
use std::ops::Deref;

/// Heads and head size of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    soft_cap: Option<f32>,
}

impl AttentionShape {
    /// `heads` query heads share `kv_heads` key/value heads of `head_dim` components; scores are
    /// scaled by `1/sqrt(head_dim)`.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] when one is zero or `kv_heads` does not divide `heads`.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Result<Self, AttentionError> {
        if heads == 0 || kv_heads == 0 || head_dim == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::Shape(format!(
                "{heads} query heads of size {head_dim} cannot share {kv_heads} key/value heads"
            )));
        }
        Ok(Self {
            heads,
            kv_heads,
            head_dim,
            scale: (head_dim as f32).sqrt().recip(),
            soft_cap: None,
        })
    }

    /// The same with another scale of the scores.
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// The same with scaled scores `s` bent to `cap * tanh(s / cap)` (Gemma 2, arXiv 2408.00118,
    /// section 2).
    pub fn with_soft_cap(self, cap: f32) -> Self {
        let soft_cap = Some(cap);
        Self { soft_cap, ..self }
    }

    /// Query heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Components of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// What scores are multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// What scores are bent to stay below.
    pub fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }

    /// Query heads that share a key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Components of a stored value row: the head size rounded up to a whole vector.
    pub(crate) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(crate::simd::WIDTH)
    }
}

/// One sequence's part of a pass: the tokens that follow its cache.
#[derive(Debug)]
pub struct Step<'a> {
    /// Where its keys and values are, and go.
    pub cache: &'a mut KvCache,
    /// Made by [`KvCache::plan`] for the number of new tokens.
    pub plan: &'a StepPlan,
}

/// Buffers that passes reuse.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    prefill: prefill::PrefillScratch,
    decode: decode::DecodeScratch,
}

/// Attention of one layer for the new tokens of some sequences, flattened in the order of `steps`.
///
/// `q` is `[tokens, heads * head_dim]`, `k` and `v` are `[tokens, kv_heads * head_dim]`, none of
/// them rotated; `out` is like `q`. Keys and values are stored in the caches, which count them
/// only after [`KvCache::commit`].
///
/// # Errors
/// [`AttentionError`] when the caches' shapes differ or a slice's length does not fit.
pub fn attend(
    layer: usize,
    steps: &mut [Step],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) -> Result<(), AttentionError> {
    let Some(first) = steps.first() else {
        return Ok(());
    };
    let shape = first.cache.shape();
    if steps.iter().any(|step| step.cache.shape() != shape) {
        return Err(AttentionError::Shape(
            "sequences of one pass differ in shape".into(),
        ));
    }
    let tokens: usize = steps.iter().map(|step| step.plan.tokens).sum();
    let q_width = shape.heads * shape.head_dim;
    let kv_width = shape.kv_heads * shape.head_dim;
    check_len("queries", q.len(), tokens * q_width)?;
    check_len("keys", k.len(), tokens * kv_width)?;
    check_len("values", v.len(), tokens * kv_width)?;
    check_len("output", out.len(), tokens * q_width)?;

    parallel::for_each(with_rows(steps.iter_mut()), |(step, row)| {
        let range = row * kv_width..(row + step.plan.tokens) * kv_width;
        step.cache
            .append(layer, step.plan, &k[range.clone()], &v[range]);
        if step.plan.decode {
            step.cache.update_rings(layer, step.plan);
        }
    });

    let parts = with_rows(steps.iter()).map(|(step, row)| Part {
        cache: &*step.cache,
        plan: step.plan,
        layer,
        row,
    });
    let decoded = |part: &Part| part.plan.decode;
    let prefills = parts.clone().filter(|part| !decoded(part));
    prefill::attend(shape, prefills, q, out, &mut scratch.prefill);
    decode::attend(shape, parts.filter(decoded), q, out, &mut scratch.decode);
    Ok(())
}

/// Adds to a step the row where it starts, and moves on to the next.
type NextRow<S> = fn(&mut usize, S) -> Option<(S, usize)>;

/// Steps with the row of the packed input where each starts.
fn with_rows<'a, S, I>(steps: I) -> Scan<I, usize, NextRow<S>>
where
    S: Deref<Target = Step<'a>>,
    I: Iterator<Item = S>,
{
    steps.scan(0, |next, step| {
        let row = *next;
        *next += step.plan.tokens;
        Some((step, row))
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

/// A step whose keys and values are stored.
#[derive(Clone, Copy)]
struct Part<'a> {
    cache: &'a KvCache,
    plan: &'a StepPlan,
    layer: usize,
    /// Its first row in the packed input and output.
    row: usize,
}

impl<'a> Part<'a> {
    fn layer(&self) -> &'a LayerCache {
        self.cache.layer(self.layer)
    }

    /// The plan for this layer.
    fn kind(&self) -> &'a KindPlan {
        &self.plan.kinds[self.layer().kind]
    }

    /// The soft cap of scores, which are logarithms in base 2.
    fn soft_cap(&self) -> Option<f32> {
        let cap = self.cache.shape().soft_cap;
        cap.map(|cap| cap * std::f32::consts::LOG2_E)
    }

    fn regions(&self) -> &'a [RegionPlan] {
        &self.kind().regions
    }

    /// Copies one head of the query of token `token`, rotated for a region and scaled so that
    /// scores are logarithms in base 2.
    fn query(&self, q: &[f32], region: &RegionPlan, token: usize, head: usize, to: &mut [f32]) {
        let shape = self.cache.shape();
        let from = ((self.row + token) * shape.heads + head) * shape.head_dim;
        let query = &q[from..from + shape.head_dim];
        let scale = shape.scale * self.plan.query_factors[token] * std::f32::consts::LOG2_E;
        to.iter_mut()
            .zip(query)
            .for_each(|(to, from)| *to = from * scale);
        self.cache
            .rope(self.layer)
            .rotate(&region.queries, token, to);
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

//! The definition of attention under any position map, in f64, pair by pair. Slow on purpose.

use crate::position::{PositionMap, Positions};
use crate::rope::Rope;
use crate::shape::AttentionShape;

/// Attention of `n` tokens over themselves: `q` is `[n, heads * head_dim]`, `k` and `v` are
/// `[n, kv_heads * head_dim]`, the result is like `q`.
///
/// For each pair that is seen, the query is rotated by the relative position of the map's
/// definition, and the key not at all: `(R(m - n) q)·k` (arXiv 2401.01325, equations 1 to 4).
pub fn attention(
    shape: AttentionShape,
    map: PositionMap,
    rope: &Rope,
    q: &[f32],
    k: &[f32],
    v: &[f32],
) -> Vec<f64> {
    with_sinks(shape, map, rope, &[], q, k, v)
}

/// The same with a sink for each query head: a score beside those of keys, without a value.
pub fn with_sinks(
    shape: AttentionShape,
    map: PositionMap,
    rope: &Rope,
    sinks: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
) -> Vec<f64> {
    let map = map.positions();
    let bands: Vec<_> = (0..map.bands())
        .map(|band| map.band(band).unwrap_or(&*map))
        .collect();
    let causal = |i, j| {
        let relative = |map: &&dyn Positions| (j <= i).then(|| map.relative(i, j)).flatten();
        bands.iter().map(relative).collect::<Option<Vec<f64>>>()
    };
    pairs(shape, causal, rope, sinks, q, k, v)
}

/// The same for any rule that gives the relative positions of a query and a key: one for each band of
/// pairs, the slowest first.
pub(super) fn pairs(
    shape: AttentionShape,
    relative: impl Fn(usize, usize) -> Option<Vec<f64>>,
    rope: &Rope,
    sinks: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
) -> Vec<f64> {
    let (heads, kv_heads, dim) = (shape.heads(), shape.kv_heads(), shape.head_dim());
    let n = q.len() / (heads * dim);
    let mut out = vec![0.0; q.len()];
    for i in 0..n {
        for h in 0..heads {
            let kv = h / shape.group();
            let query = &q[(i * heads + h) * dim..][..dim];
            let scores: Vec<f64> = (0..n)
                .map(|j| {
                    let Some(relative) = relative(i, j) else {
                        return f64::NEG_INFINITY;
                    };
                    let key = &k[(j * kv_heads + kv) * dim..][..dim];
                    let rotated = rotate(rope, &relative, query);
                    let dot: f64 = rotated
                        .iter()
                        .zip(key)
                        .map(|(q, &k)| q * f64::from(k))
                        .sum();
                    let score = dot * f64::from(shape.scale());
                    shape.soft_cap().map_or(score, |cap| {
                        let cap = f64::from(cap);
                        cap * (score / cap).tanh()
                    })
                })
                .collect();
            let sink = sinks.get(h).map(|&sink| f64::from(sink));
            let all = scores.iter().copied().chain(sink);
            let max = all.clone().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = all.map(|score| (score - max).exp()).sum();
            for (j, score) in scores.iter().enumerate() {
                let weight = (score - max).exp() / sum;
                let value = &v[(j * kv_heads + kv) * dim..][..dim];
                let to = &mut out[(i * heads + h) * dim..][..dim];
                to.iter_mut()
                    .zip(value)
                    .for_each(|(to, &v)| *to += weight * f64::from(v));
            }
        }
    }
    out
}

/// `R(position) x`, with a position for each band. Queries and keys both carry YaRN's magnitude.
fn rotate(rope: &Rope, positions: &[f64], x: &[f32]) -> Vec<f64> {
    let mut out: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let magnitude = rope.magnitude() * rope.magnitude();
    for t in 0..rope.pairs() {
        let (a, b) = rope.pair(t);
        let (cos, sin) = rope.angle(positions[rope.band(t, positions.len())], t);
        let (x, y) = (out[a], out[b]);
        out[a] = (x * cos - y * sin) * magnitude;
        out[b] = (x * sin + y * cos) * magnitude;
    }
    out
}

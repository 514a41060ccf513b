//! This crate inside another engine: one attention layer with projections of its own reads a text
//! in chunks, decodes token by token, and is held against the definition in f64.
//!
//! ```text
//! cargo run --example embed_attention
//! ```

use selfextend_attention::attention::oracle;
use selfextend_attention::{
    AttentionError, AttentionScratch, AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec,
    Segment, attend,
};

const HIDDEN: usize = 32;

/// The engine's part: rows of activations times a matrix, `[inputs][outputs]`.
fn multiply(x: &[f32], matrix: &[f32]) -> Vec<f32> {
    let outputs = matrix.len() / HIDDEN;
    let row = |x: &[f32]| -> Vec<f32> {
        let sum = |o: usize| (0..HIDDEN).map(|i| x[i] * matrix[i * outputs + o]).sum();
        (0..outputs).map(sum).collect()
    };
    x.chunks_exact(HIDDEN).flat_map(row).collect()
}

/// Numbers between -1 and 1 that look random.
fn numbers(count: usize, seed: f32) -> Vec<f32> {
    let number = |i| ((i as f32 + seed) * 12.9898).sin() * 43_758.547 % 1.0;
    (0..count).map(number).collect()
}

/// One attention layer of the engine, and the sequence that it reads.
struct Layer {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    cache: KvCache,
    scratch: AttentionScratch,
}

impl Layer {
    /// Attention for the next tokens, `[tokens, HIDDEN]`.
    fn read(&mut self, x: &[f32]) -> Result<Vec<f32>, AttentionError> {
        let tokens = x.len() / HIDDEN;
        let [q, k, v] = [&self.query, &self.key, &self.value].map(|matrix| multiply(x, matrix));
        let mut out = vec![0.0; q.len()];
        // A plan serves all layers of a model; several sequences are several segments.
        let plan = self.cache.plan(tokens);
        let cache = &mut self.cache;
        let mut segments = [Segment { cache, plan: &plan }];
        attend(0, &mut segments, &q, &k, &v, &mut out, &mut self.scratch)?;
        self.cache.commit(tokens);
        Ok(out)
    }
}

fn main() -> Result<(), AttentionError> {
    let shape = AttentionShape::new(4, 2, 16)?; // 4 query heads of size 16 share 2 key/value heads
    let rope = Rope::new(RopeSpec::new(16, 10_000.0))?;
    let map = PositionMap::self_extend(4, 32)?; // a group size of 4, a neighbour window of 32 tokens
    let mut layer = Layer {
        query: numbers(HIDDEN * 64, 0.1),
        key: numbers(HIDDEN * 32, 0.2),
        value: numbers(HIDDEN * 32, 0.3),
        cache: KvCache::new(shape, 1, KvType::F32, map, rope.clone()),
        scratch: AttentionScratch::default(),
    };
    let text = numbers(300 * HIDDEN, 0.4);
    let (prompt, answer) = text.split_at(280 * HIDDEN);
    let mut out = Vec::new();
    for tokens in prompt.chunks(100 * HIDDEN).chain(answer.chunks(HIDDEN)) {
        out.extend(layer.read(tokens)?);
    }
    let [q, k, v] = [&layer.query, &layer.key, &layer.value].map(|matrix| multiply(&text, matrix));
    let exact = oracle::attention(shape, map, &rope, &q, &k, &v);
    let errors = out
        .iter()
        .zip(&exact)
        .map(|(x, y)| (f64::from(*x) - y).abs());
    let largest = errors.fold(0.0, f64::max);
    println!("{} tokens; largest error: {largest:.1e}", layer.cache.len());
    assert!(out.len() == exact.len() && largest < 1e-4);
    Ok(())
}

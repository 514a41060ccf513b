//! selfextend's attention alone, without the model around it.

use crate::args::GroupAndWindow;
use crate::error::{BenchError, Result};
use crate::machine::Memory;
use crate::roofline::attention_flops;
use rayon::ThreadPool;
use selfextend_attention::attention::{AttentionScratch, Segment, attend};
use selfextend_attention::{
    AttentionError, AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec, parallel,
};
use serde::Serialize;
use std::time::Instant;

// SmolLM2-135M.
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const THETA: f64 = 100_000.0;
/// Tokens of a prefill that pass together, as in the engine.
const CHUNK: usize = 512;
/// Decode steps; the first is not counted, as it fills SelfExtend's ring.
const STEPS: usize = 16;
/// SelfExtend's settings unless others are given.
const SELF_EXTEND: GroupAndWindow = GroupAndWindow {
    group: 8,
    window: 1024,
};

/// One layer's speeds at one length, one sample for each round.
#[derive(Debug, Clone, Serialize)]
pub struct Alone {
    /// Which attention.
    pub map: String,
    /// Tokens of the prefill, and the depth of the decode.
    pub tokens: usize,
    /// Prefill: billions of operations per second.
    pub gflops: Vec<f64>,
    /// Decode: gigabytes of keys and values read per second, from memory and not from a cache.
    pub gb_s: Vec<f64>,
    #[serde(skip)]
    positions: Positions,
}

#[derive(Debug, Clone, Copy)]
enum Positions {
    Plain,
    SelfExtend(GroupAndWindow),
}

/// What is to be measured.
pub fn plan(lengths: &[usize], self_extend: Option<GroupAndWindow>) -> Vec<Alone> {
    let settings = self_extend.unwrap_or(SELF_EXTEND);
    let extended = format!("SelfExtend {},{}", settings.group, settings.window);
    let maps = [
        ("plain".to_owned(), Positions::Plain),
        (extended, Positions::SelfExtend(settings)),
    ];
    let row = |tokens: usize, (map, positions): (String, Positions)| Alone {
        map,
        tokens,
        gflops: Vec::new(),
        gb_s: Vec::new(),
        positions,
    };
    let lengths = lengths.iter().filter(|&&tokens| tokens > 0);
    lengths
        .flat_map(|&tokens| maps.clone().map(|map| row(tokens, map)))
        .collect()
}

impl Alone {
    /// Adds one sample of each.
    pub fn measure(&mut self, pool: &ThreadPool, memory: &Memory) -> Result<()> {
        let (gflops, gb_s) =
            run(self.positions, self.tokens, pool, memory).map_err(BenchError::failure)?;
        self.gflops.push(gflops);
        self.gb_s.push(gb_s);
        Ok(())
    }
}

fn run(
    positions: Positions,
    tokens: usize,
    pool: &ThreadPool,
    memory: &Memory,
) -> Result<(f64, f64), AttentionError> {
    let map = match positions {
        Positions::Plain => PositionMap::Plain,
        Positions::SelfExtend(settings) => {
            PositionMap::self_extend(settings.group, settings.window)?
        }
    };
    let shape = AttentionShape::new(HEADS, KV_HEADS, HEAD_DIM)?;
    let rope = Rope::new(RopeSpec::new(HEAD_DIM, THETA))?;
    let mut cache = KvCache::new(shape, 1, KvType::F16, map, rope);
    let mut pass = Pass::default();
    let mut seconds = 0.0;
    let mut stored = 0;
    while stored < tokens {
        let chunk = CHUNK.min(tokens - stored);
        seconds += pass.run(&mut cache, chunk, pool)?;
        stored += chunk;
    }
    let gflops = attention_flops(tokens, HEADS, HEAD_DIM) / seconds / 1e9;

    let mut rates = Vec::new();
    for step in 0..STEPS {
        // In a model the other layers and the weights push a layer's keys out of the caches
        // between two tokens; this does the same.
        memory.read(pool);
        let seconds = pass.run(&mut cache, 1, pool)?;
        let bytes = (cache.len() * 2 * KV_HEADS * HEAD_DIM * size_of::<u16>()) as f64;
        if step > 0 {
            rates.push(bytes / seconds / 1e9);
        }
    }
    // A model's step has tens of such passes: the median counts.
    let gb_s = crate::roofline::median(&rates).unwrap_or_default();
    Ok((gflops, gb_s))
}

/// Random inputs and the buffers of a pass.
#[derive(Default)]
struct Pass {
    random: u64,
    scratch: AttentionScratch,
    out: Vec<f32>,
}

impl Pass {
    /// Attention for the next `tokens` tokens; returns the seconds it took. As in a model, whose
    /// other layers run before, the threads are awake and the plan exists.
    fn run(
        &mut self,
        cache: &mut KvCache,
        tokens: usize,
        pool: &ThreadPool,
    ) -> Result<f64, AttentionError> {
        let q = self.numbers(tokens * HEADS * HEAD_DIM);
        let k = self.numbers(tokens * KV_HEADS * HEAD_DIM);
        let v = self.numbers(tokens * KV_HEADS * HEAD_DIM);
        self.out.resize(q.len(), 0.0);
        let plan = cache.plan(tokens);
        let layer = || {
            parallel::for_each(0..256, |task| {
                std::hint::black_box(task);
            });
            let start = Instant::now();
            let mut segments = [Segment { cache, plan: &plan }];
            let (out, scratch) = (&mut self.out, &mut self.scratch);
            attend(0, &mut segments, &q, &k, &v, out, scratch)?;
            Ok::<_, AttentionError>(start.elapsed())
        };
        let time = pool.install(|| parallel::awake(layer))?;
        cache.commit(tokens);
        Ok(time.as_secs_f64())
    }

    /// Numbers in -1..1.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        let mut number = || {
            // Knuth's constants; the high bits are the random ones.
            self.random = self
                .random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.random >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..count).map(|_| number()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_cover_their_range() {
        let numbers = Pass::default().numbers(10_000);
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        assert!(numbers.iter().all(|number| (-1.0..1.0).contains(number)));
        assert!(mean.abs() < 0.05, "{mean}");
        assert!(numbers.iter().any(|&it| it > 0.99) && numbers.iter().any(|&it| it < -0.99));
    }

    #[test]
    fn each_length_has_both_maps() {
        let rows = plan(&[0, 64, 128], None);
        let named: Vec<_> = rows.iter().map(|row| (&*row.map, row.tokens)).collect();
        let extended = "SelfExtend 8,1024";
        assert_eq!(
            named,
            [
                ("plain", 64),
                (extended, 64),
                ("plain", 128),
                (extended, 128)
            ]
        );
    }
}

//! What each method costs beside plain attention: one layer of SmolLM2's shape on one thread, f16,
//! a trained window of 8192. `methods [TOKENS] [ROUNDS] [CHUNK]` reads a chunk of more tokens, and
//! one more, after TOKENS; plain and method take turns, and the medians of each method's own turns
//! are compared.

use selfextend::Method;
use selfextend::method::table::METHODS;
use selfextend_attention::attention::{AttentionScratch, Segment, attend};
use selfextend_attention::{AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec};
use std::time::Instant;

const TRAINED: usize = 8192;
const CHUNK: usize = 512;

struct Layer {
    cache: KvCache,
    scratch: AttentionScratch,
}

impl Layer {
    fn new(map: PositionMap, tokens: usize) -> Self {
        let shape = AttentionShape::new(9, 3, 64).expect("nine heads share three");
        let rope = Rope::new(RopeSpec::new(64, 1e5)).expect("a valid embedding");
        let mut layer = Self {
            cache: KvCache::new(shape, 1, KvType::F16, map, rope),
            scratch: AttentionScratch::default(),
        };
        while layer.cache.len() < tokens {
            layer.step(CHUNK);
            layer.cache.commit(CHUNK);
        }
        layer
    }

    /// Seconds of a pass that is not kept.
    fn step(&mut self, tokens: usize) -> f64 {
        let numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 12.9898).sin()).collect() };
        let (q, kv) = (numbers(tokens * 9 * 64), numbers(tokens * 3 * 64));
        let mut out = q.clone();
        let start = Instant::now();
        let plan = self.cache.plan(tokens);
        let cache = &mut self.cache;
        let mut segments = [Segment { cache, plan: &plan }];
        attend(0, &mut segments, &q, &kv, &kv, &mut out, &mut self.scratch)
            .expect("lengths that fit");
        start.elapsed().as_secs_f64()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|n| n.parse())
        .collect::<Result<_, _>>()?;
    let tokens = numbers.first().copied().unwrap_or(15_360);
    let rounds = numbers.get(1).copied().unwrap_or(15);
    let chunk = numbers.get(2).copied().unwrap_or(CHUNK);
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()?;
    let mut plain = Layer::new(PositionMap::Plain, tokens);
    println!(
        "{:14} {:>20} {:>20}",
        "method",
        format!("{chunk} tokens, ms"),
        "one token, us"
    );
    for entry in METHODS {
        let Ok(method) = entry.name.parse::<Method>() else {
            continue;
        };
        let map = match method.resolve(TRAINED, tokens + chunk) {
            Ok(extension) if extension.map() != PositionMap::Plain => extension.map(),
            Ok(_) => continue,
            Err(error) => {
                println!("{:14} {error}", entry.name);
                continue;
            }
        };
        let mut layer = Layer::new(map, tokens);
        let mut turns = |tokens: usize, rounds: usize| {
            let pairs = (0..rounds).map(|_| (plain.step(tokens), layer.step(tokens)));
            let (plain, method): (Vec<_>, Vec<_>) = pairs.unzip();
            (median(plain), median(method))
        };
        let (many, one) = (turns(chunk, rounds), turns(1, rounds * 20));
        let show = |(plain, method): (f64, f64), unit: f64| {
            format!(
                "{:.1} {:+.1}%",
                method * unit,
                (method / plain - 1.0) * 100.0
            )
        };
        println!(
            "{:14} {:>20} {:>20}",
            entry.name,
            show(many, 1e3),
            show(one, 1e6)
        );
    }
    Ok(())
}

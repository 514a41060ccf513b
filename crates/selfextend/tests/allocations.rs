//! A decode step works in memory that is already there.

mod common;

use selfextend::{Input, LoadOptions, LogitRows, Model, SessionOptions, TensorFormat};
use selfextend_attention::{Frequencies, KvType, PositionMap, QueryScaling};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the thread pool may need for its own queue: a block for every 63 passes handed to it.
const POOL: usize = 4;

#[test]
fn decode_allocates_nothing_per_token_after_warm_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    common::write_tiny(&path, TensorFormat::Q4_1, 300);
    let options = LoadOptions {
        threads: 2,
        ..LoadOptions::default()
    };
    let model = Model::load(&path, options).unwrap();
    let maps = [PositionMap::Plain, PositionMap::self_extend(4, 16).unwrap()];
    for map in maps {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let mut session = model.session(SessionOptions {
                context: 1000,
                map,
                frequencies: Frequencies::Trained,
                kv_type,
                query_scaling: QueryScaling::None,
                chunk: 512,
            });
            let mut decode = |tokens: u32| {
                for token in 0..tokens {
                    let input = Input {
                        session: &mut session,
                        tokens: &[token % 300],
                        logits: LogitRows::Last,
                    };
                    let mut seen = 0;
                    let mut visit = |_: usize, _: usize, logits: &[f32]| seen += logits.len();
                    model
                        .forward(&mut [input], &mut |_| Ok(()), &mut visit)
                        .unwrap();
                    assert_eq!(seen, 300);
                }
            };
            decode(80);
            let region = Region::new(GLOBAL);
            decode(64);
            let change = region.change();
            let calls = change.allocations + change.reallocations;
            assert!(calls <= POOL, "{map:?} {kv_type:?}: {change:?}");
        }
    }
}

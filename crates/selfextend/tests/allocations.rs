//! A decode step works in memory that is already there.

mod common;

use selfextend::{
    Extension, Input, KvType, LoadOptions, LogitRows, Model, Phase, PositionMap, SessionOptions,
    TensorFormat,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the thread pool may need for its own queue: a block for every 63 passes handed to it.
const POOL: usize = 4;

#[test]
fn decode_allocates_nothing_per_token_after_warm_up() {
    // Integers, and blocks that are widened a panel at a time.
    for format in [TensorFormat::Q4_1, TensorFormat::IQ3S] {
        decode_allocates_nothing(format);
    }
}

fn decode_allocates_nothing(format: TensorFormat) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    common::write_tiny(&path, format, 300);
    let options = LoadOptions::new().with_threads(2);
    let model = Model::load(&path, options).unwrap();
    let maps = [PositionMap::Plain, PositionMap::self_extend(4, 16).unwrap()];
    for map in maps {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4] {
            let extension = Extension::from_map(map, 64, 1000);
            let options = SessionOptions::new(extension).with_kv_type(kv_type);
            let mut session = model.session(options).unwrap();
            let mut decode = |tokens: u32| {
                for token in 0..tokens {
                    let input = Input {
                        session: &mut session,
                        tokens: &[token % 300],
                        logits: LogitRows::Last,
                    };
                    let mut seen = 0;
                    let visit = |_: usize, _: usize, logits: &[f32]| seen += logits.len();
                    model.forward(Phase::ByLength, &mut [input], visit).unwrap();
                    assert_eq!(seen, 300);
                }
            };
            decode(80);
            let region = Region::new(GLOBAL);
            decode(64);
            let change = region.change();
            let calls = change.allocations + change.reallocations;
            assert!(calls <= POOL, "{format} {map:?} {kv_type:?}: {change:?}");
        }
    }
}

//! The kernels on one thread, beside what the core can do:
//! `cargo bench -p selfextend-attention --features unstable`.
//!
//! Items are floating-point operations (two for each multiply-add), bytes are those a decode step
//! reads. The `fastest` column is the one to compare on a shared machine.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use selfextend_attention::attention::{AttentionScratch, Segment, attend};
use selfextend_attention::simd::linear::{PanelFormat, Precision, Rounded, Tiles};
use selfextend_attention::simd::matmul::{
    Activations, Panels, Scratch, column_blocks, multiply_few, multiply_many,
};
use selfextend_attention::simd::{Kernel, Simd, WIDTH, dispatch};
use selfextend_attention::{
    AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec, parallel,
};

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build_global().expect("nothing has used the pool yet");
    divan::main();
}

/// Multiply-adds in registers alone: the roofline of everything that computes.
#[divan::bench]
fn fma_peak(bencher: Bencher) {
    /// A multiple of every number of chains.
    const FMAS: usize = 600_000;
    #[inline(always)]
    fn chains<S: Simd, const N: usize>(s: S) -> f32 {
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.1)));
        let mut acc = [s.splat(1.0); N];
        for _ in 0..FMAS / N {
            for x in &mut acc {
                *x = s.fma(*x, a, b);
            }
        }
        let mut sum = 0.0;
        for x in acc {
            sum += s.sum(x);
        }
        sum
    }
    struct Peak;
    impl Kernel for Peak {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            if S::ROWS >= 12 {
                chains::<S, 12>(s)
            } else {
                chains::<S, 6>(s)
            }
        }
    }
    bencher
        .counter(ItemsCount::new(FMAS * 2 * WIDTH))
        .bench(|| dispatch(Peak));
}

/// Heads of SmolLM2-135M.
fn shape() -> AttentionShape {
    AttentionShape::new(9, 3, 64).expect("nine heads share three")
}

/// What is compared: `cargo run --example methods` of the engine has every method.
fn map(name: &str) -> PositionMap {
    match name {
        "plain" => PositionMap::Plain,
        "selfextend" => PositionMap::self_extend(8, 1024).expect("settings that fit"),
        _ => unreachable!("{name} is no method of the benchmarks"),
    }
}

/// Numbers that look random, between -1 and 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| (i as f32 * 12.9898).sin() * 43_758.547 % 1.0)
        .collect()
}

/// A cache of `depth` tokens.
fn filled(map: PositionMap, kv_type: KvType, depth: usize) -> KvCache {
    let rope = Rope::new(RopeSpec::new(64, 1e5)).expect("a valid embedding");
    let mut cache = KvCache::new(shape(), 1, kv_type, map, rope);
    let (q, kv) = (numbers(512 * 9 * 64), numbers(512 * 3 * 64));
    let (mut out, mut scratch) = (q.clone(), AttentionScratch::default());
    while cache.len() < depth {
        step(&mut cache, 512, &q, &kv, &mut out, &mut scratch);
        cache.commit(512);
    }
    cache
}

fn step(
    cache: &mut KvCache,
    tokens: usize,
    q: &[f32],
    kv: &[f32],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let plan = cache.plan(tokens);
    let mut segments = [Segment { cache, plan: &plan }];
    attend(0, &mut segments, q, kv, kv, out, scratch).expect("lengths that fit");
}

const DEPTH: usize = 8192;

/// Few tokens, so that a sample is short and the fastest one undisturbed.
#[divan::bench(args = ["plain", "selfextend"], consts = [0, 1, 2, 3])]
fn prefill_64_at_8k<const KV: usize>(bencher: Bencher, name: &str) {
    let mut cache = filled(map(name), KV_TYPES[KV], DEPTH);
    let (q, kv) = (numbers(64 * 9 * 64), numbers(64 * 3 * 64));
    let (mut out, mut scratch) = (q.clone(), AttentionScratch::default());
    let pairs = 64 * DEPTH + 64 * 65 / 2;
    bencher
        .counter(ItemsCount::new(4 * 9 * 64 * pairs))
        .bench_local(|| step(&mut cache, 64, &q, &kv, &mut out, &mut scratch));
}

const KV_TYPES: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4];

#[divan::bench(args = ["plain", "selfextend"], consts = [0, 1, 2, 3])]
fn decode_at_8k<const KV: usize>(bencher: Bencher, name: &str) {
    let mut cache = filled(map(name), KV_TYPES[KV], DEPTH);
    let (q, kv) = (numbers(9 * 64), numbers(3 * 64));
    let (mut out, mut scratch) = (q.clone(), AttentionScratch::default());
    bencher
        .counter(BytesCount::new(cache.bytes()))
        .bench_local(|| step(&mut cache, 1, &q, &kv, &mut out, &mut scratch));
}

/// As in a model: the layers push each other out of the caches, so that keys and values come from
/// memory. Read by as many threads as there are.
#[divan::bench(args = ["plain", "selfextend"], consts = [1, 2])]
fn decode_from_memory<const KV: usize>(bencher: Bencher, name: &str) {
    const LAYERS: usize = 24;
    let mut layers: Vec<_> = (0..LAYERS)
        .map(|_| filled(map(name), KV_TYPES[KV], DEPTH))
        .collect();
    let bytes = layers.iter().map(KvCache::bytes).sum::<usize>();
    let (q, kv) = (numbers(9 * 64), numbers(3 * 64));
    let (mut out, mut scratch) = (q.clone(), AttentionScratch::default());
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
    let mut pass = || {
        for cache in &mut layers {
            step(cache, 1, &q, &kv, &mut out, &mut scratch);
        }
    };
    pool.install(&mut pass);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| pool.install(|| parallel::awake(&mut pass)));
}

const FORMATS: [PanelFormat; 7] = [
    PanelFormat::F32,
    PanelFormat::Q4_1,
    PanelFormat::Q8_0,
    PanelFormat::Q4K,
    PanelFormat::Q6K,
    PanelFormat::IQ4XS,
    PanelFormat::MXFP4,
];

const ROWS: usize = 3072;
const COLUMNS: usize = 768;

fn weights(format: PanelFormat) -> Vec<u8> {
    // Bytes below 0x3c make positive half floats below one, and harmless codes.
    let bytes = ROWS / WIDTH * format.panel_bytes(COLUMNS);
    (0..bytes).map(|i| (i * 7 % 60) as u8).collect()
}

/// Rounded activations as words and as bytes, which plain numbers do not read.
#[divan::bench(consts = [0, 1, 2, 3, 4, 5, 6], args = [Precision::Words, Precision::Bytes])]
fn linear_512_rows<const FORMAT: usize>(bencher: Bencher, precision: Precision) {
    let (format, x) = (FORMATS[FORMAT], numbers(512 * COLUMNS));
    let (data, mut rounded) = (weights(format), Rounded::default());
    let panel = format.panel_bytes(COLUMNS);
    let (mut out, mut scratch) = (vec![0.0; 512 * ROWS], Scratch::default());
    bencher
        .counter(ItemsCount::new(2 * 512 * ROWS * COLUMNS))
        .bench_local(|| {
            rounded.round(&x, COLUMNS, Tiles::Many, precision);
            let blocks = column_blocks(&mut out, ROWS, 8 * WIDTH);
            for (mut block, data) in blocks.zip(data.chunks(8 * panel)) {
                multiply_many(
                    Activations {
                        floats: &x,
                        rounded: &rounded,
                    },
                    Panels {
                        format,
                        columns: COLUMNS,
                        data,
                    },
                    &mut block,
                    &mut scratch,
                );
            }
        });
}

#[divan::bench(consts = [0, 1, 2, 3, 4, 5, 6])]
fn linear_1_row<const FORMAT: usize>(bencher: Bencher) {
    let (format, x) = (FORMATS[FORMAT], numbers(COLUMNS));
    let (data, mut rounded) = (weights(format), Rounded::default());
    let (mut out, mut scratch) = (vec![0.0; ROWS], Scratch::default());
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| {
            rounded.round(&x, COLUMNS, Tiles::Few, Precision::Words);
            let x = Activations {
                floats: &x,
                rounded: &rounded,
            };
            let weights = Panels {
                format,
                columns: COLUMNS,
                data: &data,
            };
            let mut block = column_blocks(&mut out, ROWS, ROWS)
                .next()
                .expect("one block");
            multiply_few(x, weights, &mut block, &mut scratch);
        });
}

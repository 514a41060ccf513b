//! The tiled implementation against the oracle, by an error rule, and the invariants.

mod nibbles;
mod sinks;
mod steps;
mod turned;

use super::{AttentionScratch, HeadWeights, Segment, attend, attend_with, oracle};
use crate::cache::{LayerKind, PAGE};
use crate::lowering::tests::BothSides;
use crate::position::{LmInfinite, Positions, Streaming};
use crate::{
    AttentionError, AttentionShape, KvCache, KvType, PairLayout, PositionMap, Rope, RopeScaling,
    RopeSpec,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::Arc;

/// Random queries, keys and values of `n` tokens.
struct Data {
    shape: AttentionShape,
    rope: Rope,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// One for each query head, or none.
    sinks: Vec<f32>,
    /// One for each component, or none.
    turned: Vec<f32>,
}

impl Data {
    fn new(heads: usize, group: usize, dim: usize, n: usize, size: f32, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut random = |len: usize, size: f32| -> Vec<f32> {
            (0..len)
                .map(|_| rng.random_range(-1.0..1.0) * size)
                .collect()
        };
        let rotary_dim = if dim.is_multiple_of(4) && seed.is_multiple_of(3) {
            dim / 2
        } else {
            dim - dim % 2
        };
        let layout = if seed.is_multiple_of(2) {
            PairLayout::HalfSplit
        } else {
            PairLayout::Interleaved
        };
        Self {
            shape: AttentionShape::new(heads * group, heads, dim).unwrap(),
            rope: Rope::new(RopeSpec {
                rotary_dim,
                layout,
                ..RopeSpec::new(dim, 1e4)
            })
            .unwrap(),
            q: random(n * heads * group * dim, size),
            k: random(n * heads * dim, size),
            v: random(n * heads * dim, 1.0),
            sinks: Vec::new(),
            turned: Vec::new(),
        }
    }

    fn tokens(&self) -> usize {
        self.k.len() / (self.shape.kv_heads() * self.shape.head_dim())
    }

    fn cache(&self, map: PositionMap, kv_type: KvType) -> KvCache {
        KvCache::new(self.shape, 1, kv_type, map, self.rope.clone())
    }

    /// Feeds tokens `from..to` in chunks and returns their outputs.
    fn feed(&self, cache: &mut KvCache, to: usize, chunks: impl Fn(usize) -> usize) -> Vec<f32> {
        let (qw, kw) = (self.q.len() / self.tokens(), self.k.len() / self.tokens());
        let mut out = vec![f32::NAN; (to - cache.len()) * qw];
        let (first, mut scratch) = (cache.len(), AttentionScratch::default());
        while cache.len() < to {
            let at = cache.len();
            let n = chunks(at).clamp(1, to - at);
            let plan = cache.plan(n);
            let (q, kv) = (at * qw..(at + n) * qw, at * kw..(at + n) * kw);
            let to = &mut out[(at - first) * qw..(at + n - first) * qw];
            let weights = HeadWeights {
                sinks: &self.sinks,
                turned: &self.turned,
            };
            attend_with(
                0,
                &mut [Segment { cache, plan: &plan }],
                &self.q[q],
                &self.k[kv.clone()],
                &self.v[kv],
                weights,
                to,
                &mut scratch,
            )
            .unwrap();
            cache.commit(n);
        }
        out
    }

    fn oracle(&self, map: PositionMap) -> Vec<f64> {
        let (rope, sinks) = (&self.rope, &self.sinks);
        oracle::with_sinks(self.shape, map, rope, sinks, &self.q, &self.k, &self.v)
    }
}

/// A score is a sum of `dim` products of at most `size`; its error in f32 moves a weight by that
/// much relatively, and weights average values of at most 1. Rotations add a few roundings.
fn tolerance(dim: usize, size: f32, kv_type: KvType) -> f64 {
    let unit = match kv_type {
        KvType::F32 => f64::from(f32::EPSILON),
        KvType::F16 => 2f64.powi(-11),
        // Half a step of the largest component's 127.
        KvType::Q8_0 => 1.0 / 254.0,
        // Half a step of the largest component's 8, which is one of the transformed head: random
        // numbers of at most 1 become 2.5 at most.
        KvType::Q4 => 2.5 / 16.0,
    };
    let score = f64::from(size * size) * (dim as f64).sqrt();
    unit * (2.0 + 6.0 * score)
}

fn assert_close(actual: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), exact.len());
    for (at, (a, e)) in actual.iter().zip(exact).enumerate() {
        let error = (f64::from(*a) - e).abs();
        assert!(
            error <= tolerance,
            "element {at}: {a} for {e}, error {error} > {tolerance}"
        );
    }
}

/// Any map, for sequences of up to 500 tokens.
fn any_map() -> impl Strategy<Value = PositionMap> {
    crate::position::tests::any_map(500)
}

fn any_kv() -> impl Strategy<Value = KvType> {
    prop_oneof![
        Just(KvType::F32),
        Just(KvType::F16),
        Just(KvType::Q8_0),
        Just(KvType::Q4)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prefill_in_chunks_is_the_definition(
        heads in 1usize..3, group in 1usize..8, dim in 1usize..70, n in 1usize..300,
        size in 0.1f32..4.0, chunk in 1usize..310, seed in any::<u64>(), map in any_map(), kv in any_kv(),
    ) {
        let data = Data::new(heads, group, dim, n, size, seed);
        let out = data.feed(&mut data.cache(map, kv), n, |_| chunk);
        assert_close(&out, &data.oracle(map), tolerance(dim, size, kv));
    }

    #[test]
    fn soft_caps_and_sliding_windows_are_the_definition(
        group in 1usize..5, dim in 1usize..40, n in 1usize..600, size in 0.1f32..4.0,
        chunk in prop_oneof![Just(1usize), 2usize..310], seed in any::<u64>(), kv in any_kv(),
        window in 1usize..400, cap in 0.5f32..60.0,
    ) {
        let mut data = Data::new(2, group, dim, n, size, seed);
        data.shape = data.shape.with_soft_cap(cap);
        // The hyperbolic tangent ends with a difference from 1, so its error is the cap's.
        let capped = 8.0 * f64::from(cap) * f64::from(f32::EPSILON);
        let tolerance = tolerance(dim, size, kv) + capped;
        let out = data.feed(&mut data.cache(PositionMap::Plain, kv), n, |_| chunk);
        assert_close(&out, &data.oracle(PositionMap::Plain), tolerance);
        // A query's window holds the keys of a shorter text that ends with it.
        let kind = LayerKind::new(PositionMap::Plain, data.rope.clone()).with_window(window);
        let mut cache = KvCache::with_kinds(data.shape, kv, vec![kind], [0]);
        let out = data.feed(&mut cache, n, |_| chunk);
        let row = out.len() / n;
        for i in (0..n).filter(|i| i % 37 == 0 || i + 1 == n) {
            let from = (i + 1).saturating_sub(window);
            let some = |x: &[f32]| x[from * (x.len() / n)..(i + 1) * (x.len() / n)].to_vec();
            let (q, k, v) = (some(&data.q), some(&data.k), some(&data.v));
            let all = oracle::attention(data.shape, PositionMap::Plain, &data.rope, &q, &k, &v);
            assert_close(&out[i * row..(i + 1) * row], &all[all.len() - row..], tolerance);
        }
    }

    /// A map that sees keys after its query (an encoder's) needs nothing but its spans: read in one
    /// pass, and its last token in a decode step.
    #[test]
    fn keys_on_both_sides_are_the_definition(
        group in 1usize..5, dim in 1usize..40, n in 6usize..400, near in 1usize..200,
        seed in any::<u64>(), kv in any_kv(),
    ) {
        let data = Data::new(2, group, dim, n, 1.0, seed);
        let map: Arc<dyn Positions> = Arc::new(BothSides { near });
        let exact = oracle::pairs(
            data.shape, |i, j| Some(vec![map.relative(i, j)?]), &data.rope, &[], &data.q, &data.k, &data.v,
        );
        let open = || {
            let kind = LayerKind::new(map.clone(), data.rope.clone());
            KvCache::with_kinds(data.shape, kv, vec![kind], [0])
        };
        let out = data.feed(&mut open(), n, |_| n);
        assert_close(&out, &exact, tolerance(dim, 1.0, kv));
        let stepped = data.feed(&mut open(), n, |at| if at == 0 { n - 1 } else { 1 });
        let last = exact.len() - exact.len() / n;
        assert_close(&stepped[last..], &exact[last..], tolerance(dim, 1.0, kv));
    }

    #[test]
    fn chunks_do_not_change_a_bit(
        n in 30usize..500, a in 5usize..500, b in 5usize..60, seed in any::<u64>(), map in any_map(), kv in any_kv(),
    ) {
        // Only chunks of the prefill path; a decode step agrees within rounding.
        let data = Data::new(2, 3, 16, n, 1.0, seed);
        let prefill = |size: usize| move |at: usize| if n - at < size + 5 { n - at } else { size };
        let one = data.feed(&mut data.cache(map, kv), n, prefill(a));
        let other = data.feed(&mut data.cache(map, kv), n, prefill(b));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn truncating_and_forking_equal_a_fresh_run_bit_for_bit(
        n in 10usize..400, keep in 1usize..400, seed in any::<u64>(), map in any_map(), kv in any_kv(), step in 1usize..9,
    ) {
        let keep = keep.min(n);
        let data = Data::new(1, 2, 8, n, 1.0, seed);
        // First runs of different histories: the ring of the truncated one has moved on.
        let mut cache = data.cache(map, kv);
        data.feed(&mut cache, n, |at| if at < n / 2 { 64 } else { 1 });
        let mut fork = cache.clone();
        let before = |at: usize| if at < n / 2 { 64.min(n / 2 - at) } else { 1 };
        for cache in [&mut cache, &mut fork] {
            // Keys that were freed are read again.
            if cache.truncate(keep) < keep {
                data.feed(cache, keep, before);
            }
        }
        let mut fresh = data.cache(map, kv);
        data.feed(&mut fresh, keep, before);
        let expected = data.feed(&mut fresh, n, |_| step);
        prop_assert_eq!(&data.feed(&mut cache, n, |_| step), &expected);
        prop_assert_eq!(&data.feed(&mut fork, n, |_| step), &expected);
    }

    #[test]
    fn sequences_packed_together_equal_each_alone(
        a in 1usize..200, b in 1usize..200, c in 1usize..200, seed in any::<u64>(), map in any_map(),
    ) {
        let lens = [a, b, c];
        let all: Vec<Data> = lens.iter().map(|&n| Data::new(2, 2, 12, n, 1.0, seed)).collect();
        let alone: Vec<f32> = all
            .iter()
            .flat_map(|data| data.feed(&mut data.cache(map, KvType::F16), data.tokens(), |_| 1000))
            .collect();
        let mut caches: Vec<KvCache> = all.iter().map(|data| data.cache(map, KvType::F16)).collect();
        let plans: Vec<_> = caches.iter().zip(lens).map(|(cache, n)| cache.plan(n)).collect();
        let mut segments: Vec<Segment> =
            caches.iter_mut().zip(&plans).map(|(cache, plan)| Segment { cache, plan }).collect();
        let join = |part: fn(&Data) -> &Vec<f32>| all.iter().flat_map(|d| part(d).clone()).collect::<Vec<_>>();
        let mut out = vec![0.0; alone.len()];
        let mut scratch = AttentionScratch::default();
        attend(0, &mut segments, &join(|d| &d.q), &join(|d| &d.k), &join(|d| &d.v), &mut out, &mut scratch).unwrap();
        prop_assert_eq!(out, alone);
    }

    #[test]
    fn no_group_or_a_short_text_is_plain(n in 1usize..200, more in 0usize..50, g in 1usize..9, seed in any::<u64>()) {
        let data = Data::new(2, 2, 16, n, 1.5, seed);
        let plain = data.feed(&mut data.cache(PositionMap::Plain, KvType::F32), n, |_| 64);
        let one = PositionMap::self_extend(1, 1 + more).unwrap();
        prop_assert_eq!(&data.feed(&mut data.cache(one, KvType::F32), n, |_| 64), &plain);
        let wide = PositionMap::self_extend(g, n + more).unwrap();
        let out = data.feed(&mut data.cache(wide, KvType::F32), n, |_| 64);
        let exact: Vec<f64> = plain.iter().map(|&x| f64::from(x)).collect();
        assert_close(&out, &exact, tolerance(16, 1.5, KvType::F32));
    }

    #[test]
    fn threads_do_not_change_a_bit(n in 10usize..600, seed in any::<u64>(), map in any_map(), step in prop_oneof![Just(1usize), Just(200)]) {
        let data = Data::new(3, 2, 16, n, 1.0, seed);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| data.feed(&mut data.cache(map, KvType::F16), n, |_| step))
        };
        let one = run(1);
        for threads in 2..=4 {
            prop_assert_eq!(&run(threads), &one, "{} threads", threads);
        }
    }
}

/// Lengths around every tile, page and panel edge, the head sizes of real models, and hostile
/// scores: equal ones, one key, huge ones, a window of 1, groups larger than the length.
#[test]
fn edges_and_hostile_values_agree_with_the_oracle() {
    let maps = [(1, 1), (3, 1), (1000, 16), (4, 64), (7, 130), (5, PAGE)];
    for (case, dim) in [64, 80, 96, 128, 256, 20].into_iter().enumerate() {
        for (n, size) in [
            (1, 1.0),
            (15, 0.0),
            (65, 1.0),
            (17, 30.0),
            (127, 1.0),
            (129, 1.0),
            (PAGE + 1, 1.0),
        ] {
            let data = Data::new(1, 1 + case % 3, dim, n, size, case as u64);
            for (g, w) in maps {
                let map = PositionMap::self_extend(g, w).unwrap();
                let exact = data.oracle(map);
                for step in [n, 1] {
                    let out = data.feed(&mut data.cache(map, KvType::F32), n, |_| step);
                    assert_close(&out, &exact, tolerance(dim, size, KvType::F32));
                }
            }
        }
    }
}

/// Where bytes hold keys and values exactly (multiples of a power of two up to 127, no rotation
/// to speak of), a prefill must be as close to the oracle as from floats, and a decode step as
/// close as 16 bits for its queries and weights allow.
#[test]
fn bytes_that_lose_nothing_agree_with_the_oracle_like_floats() {
    for (case, dim) in [64, 80, 96, 128, 256, 20].into_iter().enumerate() {
        for n in [1, 15, 17, 127, 129, PAGE + 1] {
            let mut data = Data::new(2, 1 + case % 4, dim, n, 1.0, case as u64);
            data.rope = Rope::new(RopeSpec {
                scaling: RopeScaling::Linear { factor: 1e30 },
                ..RopeSpec::new(dim, 1e4)
            })
            .unwrap();
            for numbers in [&mut data.k, &mut data.v] {
                for head in numbers.chunks_mut(dim) {
                    for block in head.chunks_mut(32) {
                        block[0] = 1.0;
                        block
                            .iter_mut()
                            .for_each(|x| *x = (*x * 127.0).round() / 128.0);
                    }
                }
            }
            for map in [PositionMap::Plain, PositionMap::self_extend(4, 20).unwrap()] {
                let exact = data.oracle(map);
                for step in [n, 1] {
                    let out = data.feed(&mut data.cache(map, KvType::Q8_0), n, |_| step);
                    let floats = tolerance(dim, 1.0, KvType::F32);
                    let rounding = 2f64.powi(-16) / f64::from(f32::EPSILON);
                    assert_close(
                        &out,
                        &exact,
                        floats * if step == 1 { rounding } else { 1.0 },
                    );
                }
            }
        }
    }
}

/// A map that forgets keeps a bounded cache, and a truncated one starts afresh where it must.
#[test]
fn forgotten_pages_are_freed() {
    let n = 20 * PAGE;
    let data = Data::new(1, 1, 8, n, 1.0, 1);
    let map = Streaming::new(4, 100).unwrap().into();
    let mut cache = data.cache(map, KvType::F32);
    let out = data.feed(&mut cache, n, |at| if at % PAGE == 0 { PAGE } else { 1 });
    let mut one = data.cache(PositionMap::Plain, KvType::F32);
    data.feed(&mut one, 1, |_| 1);
    let (most, page) = (cache.bytes(), one.bytes());
    // The sinks, the recent keys and the slack.
    assert!(most <= 4 * page, "{most} bytes, {page} a page");
    let exact = data.oracle(map);
    assert_close(&out, &exact, tolerance(8, 1.0, KvType::F32));
    // A few tokens fewer are still there; half of the text is gone.
    assert_eq!(cache.truncate(n - 9), n - 9);
    assert_eq!(cache.truncate(n / 2), 0);
    let again = data.feed(&mut cache, 200, |_| 64);
    assert_close(&again, &exact[..200 * 8], tolerance(8, 1.0, KvType::F32));
}

/// Layers of two kinds in one cache, one with a sliding window, agree with caches of their own.
#[test]
fn kinds_of_layers_do_not_mix() {
    let data = Data::new(1, 2, 16, 300, 1.0, 2);
    let map = PositionMap::self_extend(3, 40).unwrap();
    let window = LayerKind::new(PositionMap::Plain, data.rope.clone()).with_window(50);
    let kinds = vec![LayerKind::new(map, data.rope.clone()), window];
    let mut cache = KvCache::with_kinds(data.shape, KvType::F32, kinds, [1, 0]);
    let mut outs = [vec![], vec![]];
    for chunk in [200, 97, 1, 1, 1] {
        let at = cache.len();
        let plan = cache.plan(chunk);
        let rows = |x: &[f32]| x[at * x.len() / 300..(at + chunk) * x.len() / 300].to_vec();
        for (layer, out) in outs.iter_mut().enumerate() {
            let mut some = vec![f32::NAN; chunk * 32];
            let cache = &mut cache;
            let (q, k, v) = (rows(&data.q), rows(&data.k), rows(&data.v));
            let mut segments = [Segment { cache, plan: &plan }];
            attend(
                layer,
                &mut segments,
                &q,
                &k,
                &v,
                &mut some,
                &mut AttentionScratch::default(),
            )
            .unwrap();
            out.extend(some);
        }
        cache.commit(chunk);
    }
    // A sliding window of plain positions is LM-Infinite without sinks.
    let sliding = LmInfinite::new(0, 50).unwrap().into();
    for (out, map) in outs.iter().zip([sliding, map]) {
        assert_close(out, &data.oracle(map), tolerance(16, 1.0, KvType::F32));
    }
}

#[test]
fn the_window_costs_less_than_five_percent_at_sixteen_windows() {
    for (w, g) in [(1024, 8), (256, 4)] {
        let data = Data::new(1, 1, 64, 1, 1.0, 1);
        let bytes = |map| {
            let mut cache = data.cache(map, KvType::F16);
            let mut scratch = AttentionScratch::default();
            for n in [16 * w - 1, 1] {
                let plan = cache.plan(n);
                let x = vec![0.5; n * 64];
                let mut out = x.clone();
                attend(
                    0,
                    &mut [Segment {
                        cache: &mut cache,
                        plan: &plan,
                    }],
                    &x,
                    &x,
                    &x,
                    &mut out,
                    &mut scratch,
                )
                .unwrap();
                cache.commit(n);
            }
            cache.bytes() as f64
        };
        let ratio = bytes(PositionMap::self_extend(g, w).unwrap()) / bytes(PositionMap::Plain);
        assert!(ratio > 1.0 && ratio < 1.05, "W = {w}: {ratio}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let data = Data::new(1, 2, 8, 3, 1.0, 1);
    let mut cache = data.cache(PositionMap::Plain, KvType::F32);
    let plan = cache.plan(3);
    let mut out = vec![0.0; data.q.len()];
    let mut scratch = AttentionScratch::default();
    let mut segments = [Segment {
        cache: &mut cache,
        plan: &plan,
    }];
    let error = attend(
        0,
        &mut segments,
        &data.q[1..],
        &data.k,
        &data.v,
        &mut out,
        &mut scratch,
    );
    assert!(matches!(
        error,
        Err(AttentionError::Length {
            what: "queries",
            ..
        })
    ));
    assert!(AttentionShape::new(3, 2, 8).is_err());
}

/// Keys and values that are no numbers, of tokens that were never counted or are truncated, stay in
/// their pages until others are stored there. A weight of zero does not make them harmless.
#[test]
fn what_does_not_count_is_never_read() {
    let (data, tokens) = (Data::new(2, 2, 40, 60, 1.0, 7), 60);
    let self_extend = PositionMap::self_extend(4, 16).unwrap();
    let sinks = LmInfinite::new(4, 20).unwrap().into();
    for poison in [f32::NAN, f32::INFINITY, f32::MAX] {
        let kv_types = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4];
        let maps = [PositionMap::Plain, self_extend, sinks];
        let cases = maps.map(|map| kv_types.map(|kv_type| (map, kv_type)));
        for (map, kv_type) in cases.into_iter().flatten() {
            let chunks = |at: usize| [1, 9, 2, 1, 5][at % 5];
            let expected = data.feed(&mut data.cache(map, kv_type), tokens, chunks);
            let mut bad = Data::new(2, 2, 40, 60, 1.0, 8);
            bad.k.iter_mut().step_by(3).for_each(|x| *x = poison);
            bad.v.iter_mut().step_by(5).for_each(|x| *x = poison);
            let (mut cache, mut actual) = (data.cache(map, kv_type), Vec::new());
            while cache.len() < tokens {
                let at = cache.len();
                for count in [9, 3] {
                    if at + count <= tokens {
                        let mut counted = cache.clone();
                        bad.feed(&mut counted, at + count, |_| count);
                        assert_eq!(counted.truncate(at), at);
                        cache = counted;
                    }
                }
                let next = (at + chunks(at)).min(tokens);
                actual.extend(data.feed(&mut cache, next, chunks));
            }
            assert!(actual == expected, "{poison}, {map}, {kv_type:?}");
            assert!(actual.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn a_plan_for_other_tokens_is_refused() {
    let data = Data::new(1, 2, 8, 6, 1.0, 1);
    let mut cache = data.cache(PositionMap::Plain, KvType::F32);
    let plan = cache.plan(3);
    data.feed(&mut cache, 2, |_| 2);
    let mut segments = [Segment {
        cache: &mut cache,
        plan: &plan,
    }];
    let (q, kv) = (&data.q[..3 * 16], &data.k[..3 * 8]);
    let (mut out, mut scratch) = (vec![0.0; 3 * 16], AttentionScratch::default());
    let error = attend(0, &mut segments, q, kv, kv, &mut out, &mut scratch);
    assert!(matches!(error, Err(AttentionError::Shape(_))), "{error:?}");
}

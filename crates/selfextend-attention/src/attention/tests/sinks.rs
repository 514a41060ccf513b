//! Sinks: a score of each head without a value.

use super::*;

/// Sinks from far below every score to far above.
fn any_sinks() -> impl Strategy<Value = Vec<f32>> {
    let one = prop_oneof![6 => -4.0f32..4.0, 1 => -200.0f32..200.0];
    prop::collection::vec(one, 3 * 7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sinks_are_the_definition(
        heads in 1usize..3, group in 1usize..8, dim in 1usize..70, n in 1usize..300,
        size in 0.1f32..4.0, chunk in prop_oneof![Just(1usize), 2usize..310], seed in any::<u64>(),
        map in any_map(), kv in any_kv(), sinks in any_sinks(),
    ) {
        let mut data = Data::new(heads, group, dim, n, size, seed);
        data.sinks = sinks[..heads * group].to_vec();
        let out = data.feed(&mut data.cache(map, kv), n, |_| chunk);
        assert_close(&out, &data.oracle(map), tolerance(dim, size, kv));
    }

    #[test]
    fn sinks_of_layers_with_a_window_and_a_cap_are_the_definition(
        group in 1usize..5, dim in 1usize..40, n in 1usize..400, chunk in prop_oneof![Just(1usize), 2usize..310],
        seed in any::<u64>(), kv in any_kv(), window in 1usize..300, cap in 0.5f32..60.0,
        sinks in any_sinks(),
    ) {
        let mut data = Data::new(2, group, dim, n, 1.0, seed);
        data.shape = data.shape.with_soft_cap(cap);
        data.sinks = sinks[..2 * group].to_vec();
        let tolerance = tolerance(dim, 1.0, kv) + 8.0 * f64::from(cap) * f64::from(f32::EPSILON);
        let kind = LayerKind::new(PositionMap::Plain, data.rope.clone()).with_window(window);
        let mut cache = KvCache::with_kinds(data.shape, kv, vec![kind], [0]);
        let out = data.feed(&mut cache, n, |_| chunk);
        let row = out.len() / n;
        for i in (0..n).filter(|i| i % 37 == 0 || i + 1 == n) {
            let from = (i + 1).saturating_sub(window);
            let some = |x: &[f32]| x[from * (x.len() / n)..(i + 1) * (x.len() / n)].to_vec();
            let (q, k, v) = (some(&data.q), some(&data.k), some(&data.v));
            let (map, rope) = (PositionMap::Plain, &data.rope);
            let all = oracle::with_sinks(data.shape, map, rope, &data.sinks, &q, &k, &v);
            assert_close(&out[i * row..(i + 1) * row], &all[all.len() - row..], tolerance);
        }
    }

    /// A key of zeros with a value of zeros is a sink of 0, whatever its position: the definition of
    /// attention without sinks, asked in another way.
    #[test]
    fn a_sink_of_zero_is_a_key_of_zeros(
        group in 1usize..5, dim in 1usize..40, n in 1usize..200, chunk in 1usize..210, seed in any::<u64>(),
    ) {
        let mut data = Data::new(2, group, dim, n, 1.0, seed);
        let mut longer = Data::new(2, group, dim, n + 1, 1.0, seed);
        for (longer, own) in [
            (&mut longer.q, &data.q),
            (&mut longer.k, &data.k),
            (&mut longer.v, &data.v),
        ] {
            let row = own.len() / n;
            longer[..row].fill(0.0);
            longer[row..].copy_from_slice(own);
        }
        data.sinks = vec![0.0; 2 * group];
        let exact = longer.oracle(PositionMap::Plain);
        let out = data.feed(&mut data.cache(PositionMap::Plain, KvType::F32), n, |_| chunk);
        let first = exact.len() / (n + 1);
        assert_close(&out, &exact[first..], tolerance(dim, 1.0, KvType::F32));
    }

    #[test]
    fn sinks_in_other_chunks_do_not_change_a_bit(
        n in 30usize..400, a in 5usize..400, b in 5usize..60, seed in any::<u64>(), map in any_map(), kv in any_kv(),
        sinks in any_sinks(),
    ) {
        let mut data = Data::new(2, 3, 16, n, 1.0, seed);
        data.sinks = sinks[..6].to_vec();
        let prefill = |size: usize| move |at: usize| if n - at < size + 5 { n - at } else { size };
        let one = data.feed(&mut data.cache(map, kv), n, prefill(a));
        let other = data.feed(&mut data.cache(map, kv), n, prefill(b));
        prop_assert_eq!(one, other);
    }
}

#[test]
fn sinks_that_are_not_those_of_all_heads_are_refused() {
    let data = Data::new(2, 2, 8, 3, 1.0, 1);
    let mut cache = data.cache(PositionMap::Plain, KvType::F32);
    let plan = cache.plan(3);
    let mut out = vec![0.0; data.q.len()];
    let mut segments = [Segment {
        cache: &mut cache,
        plan: &plan,
    }];
    let (q, k, v, mut scratch) = (&data.q, &data.k, &data.v, AttentionScratch::default());
    let weights = HeadWeights {
        sinks: &[0.0; 2],
        ..HeadWeights::default()
    };
    let error = attend_with(0, &mut segments, q, k, v, weights, &mut out, &mut scratch);
    let wrong = matches!(error, Err(AttentionError::Length { what: "sinks", .. }));
    assert!(wrong, "{error:?}");
}

//! Weights of queries that were rotated: where both are normalised after their rotation.

use super::*;

impl Data {
    /// The definition in f64, pair by pair: `sum of w * R(p_q(i)) q * R(p_k(j)) k` over components, with
    /// the positions that the map gives queries and keys in the region of the pair.
    fn turned_oracle(&self, map: PositionMap) -> Vec<f64> {
        let map = map.positions();
        let (heads, kv_heads, dim) = (
            self.shape.heads(),
            self.shape.kv_heads(),
            self.shape.head_dim(),
        );
        let magnitude = self.rope.magnitude();
        let rotated = |x: &[f32], position: f64| -> Vec<f64> {
            let mut out: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            for t in 0..self.rope.pairs() {
                let (a, b) = self.rope.pair(t);
                let (cos, sin) = self.rope.angle(position, t);
                let (x, y) = (out[a] * magnitude, out[b] * magnitude);
                (out[a], out[b]) = (x * cos - y * sin, x * sin + y * cos);
            }
            out
        };
        let mut out = vec![0.0; self.q.len()];
        for (row, to) in out.chunks_exact_mut(dim).enumerate() {
            let (i, h) = (row / heads, row % heads);
            let kv = |j: usize| (j * kv_heads + h / self.shape.group()) * dim;
            let mut weights = Vec::new();
            for region in 0..map.regions().len() {
                let q = rotated(&self.q[row * dim..][..dim], map.query(region, i));
                for j in map.span(region, i) {
                    let k = rotated(&self.k[kv(j)..][..dim], map.key(region, j));
                    let products = q.iter().zip(&k).zip(&self.turned);
                    let dot: f64 = products.map(|((q, k), w)| q * k * f64::from(*w)).sum();
                    weights.push((j, dot * f64::from(self.shape.scale())));
                }
            }
            let most = weights.iter().map(|it| it.1).fold(f64::MIN, f64::max);
            let sum: f64 = weights.iter().map(|it| (it.1 - most).exp()).sum();
            for (j, score) in weights {
                let values = self.v[kv(j)..][..dim].iter();
                let weight = (score - most).exp() / sum;
                to.iter_mut()
                    .zip(values)
                    .for_each(|(to, v)| *to += weight * f64::from(*v));
            }
        }
        out
    }
}

/// Maps whose bands all have the same positions.
fn any_plain_map() -> impl Strategy<Value = PositionMap> {
    any_map().prop_filter("one band", |map| map.positions().bands() == 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weights_of_turned_queries_are_the_definition(
        heads in 1usize..3, group in 1usize..5, dim in 1usize..70, n in 1usize..200, size in 0.1f32..3.0,
        chunk in prop_oneof![Just(1usize), 2usize..210], seed in any::<u64>(), map in any_plain_map(),
        kv in any_kv(), weights in prop::collection::vec(-1.5f32..1.5, 70),
    ) {
        let mut data = Data::new(heads, group, dim, n, size, seed);
        data.turned = weights[..dim].to_vec();
        let out = data.feed(&mut data.cache(map, kv), n, |_| chunk);
        assert_close(&out, &data.turned_oracle(map), 1.5 * tolerance(dim, size, kv));
    }
}

#[test]
fn weights_that_are_not_those_of_a_head_are_refused() {
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
        turned: &[1.0; 9],
        ..HeadWeights::default()
    };
    let error = attend_with(0, &mut segments, q, k, v, weights, &mut out, &mut scratch);
    let wrong =
        matches!(error, Err(AttentionError::Length { what, .. }) if what.contains("turned"));
    assert!(wrong, "{error:?}");
}

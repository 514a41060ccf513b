//! Four bits: exact where they lose nothing, and what they lose where they do.

use super::*;
use crate::simd::kernels::hadamard;

/// Keys and values whose transforms are codes times 1/16 in every block, the largest of them -8.
fn exact_numbers(dim: usize, numbers: &mut [f32]) {
    for head in numbers.chunks_mut(dim) {
        for block in head.chunks_mut(32) {
            for x in block.iter_mut() {
                *x = (*x * 7.0).round() / 16.0;
            }
            block[0] = -0.5;
        }
        hadamard(head);
    }
}

/// No rotation to speak of.
fn still(dim: usize) -> Rope {
    let scaling = RopeScaling::Linear { factor: 1e30 };
    Rope::new(RopeSpec {
        scaling,
        ..RopeSpec::new(dim, 1e4)
    })
    .unwrap()
}

/// Where codes hold transformed keys and values exactly, a prefill must be as close to the oracle as
/// from floats, and a decode step as close as 16 bits for its queries and weights allow. Keys of the
/// window are derived, so they are in the half floats of a ring.
#[test]
fn four_bits_that_lose_nothing_agree_with_the_oracle_like_floats() {
    for (case, dim) in [64, 80, 96, 128, 256, 20, 33].into_iter().enumerate() {
        for n in [1, 15, 17, 127, 129, PAGE + 1] {
            let mut data = Data::new(2, 1 + case % 4, dim, n, 1.0, case as u64);
            if dim % 2 == 0 {
                data.rope = still(dim);
            } else {
                let mut spec = data.rope.spec().clone();
                spec.scaling = RopeScaling::Linear { factor: 1e30 };
                data.rope = Rope::new(spec).unwrap();
            }
            exact_numbers(dim, &mut data.k);
            exact_numbers(dim, &mut data.v);
            // So that the offset of the second page is zero.
            for both in data.k.chunks_exact_mut(2 * 2 * dim) {
                let (even, odd) = both.split_at_mut(2 * dim);
                odd.iter_mut()
                    .zip(even)
                    .for_each(|(odd, even)| *odd = -*even);
            }
            for map in [PositionMap::Plain, PositionMap::self_extend(4, 20).unwrap()] {
                let exact = data.oracle(map);
                for step in [n, 1] {
                    let out = data.feed(&mut data.cache(map, KvType::Q4), n, |_| step);
                    let floats = tolerance(dim, 1.0, KvType::F32);
                    let derived = map != PositionMap::Plain;
                    let unit = if derived {
                        2f64.powi(-11)
                    } else if step == 1 {
                        2f64.powi(-16)
                    } else {
                        f64::from(f32::EPSILON)
                    };
                    assert_close(&out, &exact, floats * unit / f64::from(f32::EPSILON));
                }
            }
        }
    }
}

/// Root of the mean squared difference.
fn difference(out: &[f32], exact: &[f64]) -> f64 {
    let squares = out
        .iter()
        .zip(exact)
        .map(|(a, e)| (f64::from(*a) - e).powi(2));
    (squares.sum::<f64>() / exact.len() as f64).sqrt()
}

/// Keys with a few components that stand out, as models have them, rotated by their positions: the
/// definition within what is left of four bits, in prefill and decode, under several regions. Bytes
/// are the yardstick: sixteen times finer steps.
#[test]
fn components_that_stand_out_cost_little() {
    let n = 300;
    for dim in [64, 80, 128] {
        let mut data = Data::new(2, 3, dim, n, 1.0, 11);
        for head in data.k.chunks_mut(dim) {
            head[7] += 12.0;
            head[dim / 2 + 3] *= 9.0;
        }
        for map in [PositionMap::Plain, PositionMap::self_extend(4, 40).unwrap()] {
            let exact = data.oracle(map);
            for step in [n, 1] {
                let error = |kv_type| {
                    let out = data.feed(&mut data.cache(map, kv_type), n, |_| step);
                    difference(&out, &exact)
                };
                let (four, eight) = (error(KvType::Q4), error(KvType::Q8_0));
                assert!(four < 16.0 * eight, "{dim} {map} {step}: {four}, {eight}");
                assert!(four > eight, "{dim} {map} {step}: {four}, {eight}");
            }
        }
    }
}

/// Keys that are one mean key and a little noise, rotated by their positions: what queries of the
/// last hundred keys lose is less than a fifth where pages know the mean of the page before.
#[test]
fn the_mean_of_the_page_before_is_not_rounded() {
    let (n, dim) = (3 * PAGE, 64);
    let mut data = Data::new(1, 2, dim, n, 1.0, 5);
    data.rope = Rope::new(RopeSpec {
        layout: PairLayout::HalfSplit,
        ..RopeSpec::new(dim, 1e4)
    })
    .unwrap();
    for head in data.k.chunks_mut(dim) {
        for (c, x) in head.iter_mut().enumerate() {
            // In pairs that turn slowly: the others have no mean over a page.
            let mean = if c % (dim / 2) < 26 { 0.0 } else { 8.0 };
            *x = 0.1 * *x + mean * (c as f32 * 1.3).sin();
        }
    }
    // What values lose is not looked at.
    exact_numbers(dim, &mut data.v);
    let map = PositionMap::self_extend(4, 40).unwrap();
    for map in [PositionMap::Plain, map] {
        let out = |kv_type, step| {
            let kind = LayerKind::new(map, data.rope.clone()).with_window(100);
            let mut cache = KvCache::with_kinds(data.shape, kv_type, vec![kind], [0]);
            data.feed(&mut cache, n, |_| step)
        };
        let exact: Vec<f64> = out(KvType::F32, n).iter().map(|x| f64::from(*x)).collect();
        for step in [n, 1] {
            let out = out(KvType::Q4, step);
            let page = out.len() / 3;
            let first = difference(&out[..page], &exact[..page]);
            let last = difference(&out[2 * page..], &exact[2 * page..]);
            assert!(5.0 * last < first, "{map} {step}: {last}, {first}");
        }
    }
}

/// 16 bytes of codes and 2 of scale for 32 numbers, where half floats take 64; and a page's offset.
#[test]
fn four_bits_take_nine_thirty_seconds_of_half_floats() {
    for dim in [64, 96, 128, 256] {
        let data = Data::new(2, 2, dim, 3, 1.0, 1);
        let bytes = |kv_type| {
            let mut cache = data.cache(PositionMap::Plain, kv_type);
            data.feed(&mut cache, 3, |_| 3);
            cache.bytes()
        };
        let offsets = 2 * dim * size_of::<f32>();
        assert_eq!(
            bytes(KvType::Q4) - offsets,
            bytes(KvType::F16) * 18 / 64,
            "{dim}"
        );
    }
}

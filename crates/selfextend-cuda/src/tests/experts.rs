//! Sparse layers against f64: what is chosen, and the products of what was.

use super::linear::{FORMATS, block_len, blocks, with_ops};
use super::{Half, ops::random};
use crate::experts::{ExpertScratch, Experts, Routing, Score};
use crate::linear::FEW;
use crate::matrix::Matrix;
use crate::ops::{Buffer, Curve, Ops};
use crate::packed::Format;
use crate::{CudaError, Device};
use rand::{SeedableRng, rngs::StdRng};

/// Experts of a token with their weights, as `Routing` says, by sorting.
fn chosen(routing: &Routing, router: &[f32], bias: &[f32]) -> Vec<(usize, f64)> {
    let numbers: Vec<f64> = router.iter().map(|x| f64::from(*x)).collect();
    let softmax = |of: &[f64]| -> Vec<f64> {
        let most = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = of.iter().map(|x| (x - most).exp()).sum();
        of.iter().map(|x| (x - most).exp() / sum).collect()
    };
    let scores = match routing.score {
        Score::Softmax => softmax(&numbers),
        Score::ChosenSoftmax => numbers,
        Score::Sigmoid => numbers.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
    };
    // In floats, as equals are decided there.
    let rank = |n: usize| scores[n] as f32 + bias.get(n).copied().unwrap_or(0.0);
    let size = scores.len() / routing.groups;
    let worth = |group: &usize| {
        let mut its: Vec<f32> = (group * size..(group + 1) * size).map(rank).collect();
        its.sort_by(|a, b| b.total_cmp(a));
        its[0] + its.get(1).copied().unwrap_or(0.0)
    };
    let mut groups: Vec<usize> = (0..routing.groups).collect();
    groups.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    let groups = &groups[..routing.groups_used];
    let mut all: Vec<usize> = (0..scores.len())
        .filter(|n| groups.contains(&(n / size)))
        .collect();
    all.sort_by(|a, b| rank(*b).total_cmp(&rank(*a)));
    all.truncate(routing.used);
    all.sort_unstable();
    let mut weights: Vec<f64> = all.iter().map(|n| scores[*n]).collect();
    if routing.score == Score::ChosenSoftmax {
        weights = softmax(&weights);
    } else if routing.normalised {
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|x| *x /= sum);
    }
    let scaled = weights.iter().map(|x| x * f64::from(routing.scale));
    all.into_iter().zip(scaled).collect()
}

fn routing(score: Score, used: usize) -> Routing {
    Routing {
        used,
        score,
        normalised: false,
        scale: 1.0,
        groups: 1,
        groups_used: 1,
    }
}

fn on_device<N: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits>(
    device: &Device,
    numbers: &[N],
) -> Buffer<N> {
    let mut buffer = Buffer::default();
    buffer.write(device, numbers).unwrap();
    buffer
}

#[test]
fn experts_are_chosen_as_their_routing_says() {
    with_ops::<half::f16>(|device, ops| {
        let mut rng = StdRng::seed_from_u64(21);
        for (score, normalised, [experts, used], [groups, groups_used]) in [
            (Score::Softmax, false, [64, 8], [1, 1]),
            (Score::Softmax, true, [128, 8], [1, 1]),
            (Score::ChosenSoftmax, false, [8, 2], [1, 1]),
            (Score::ChosenSoftmax, false, [5, 5], [1, 1]),
            (Score::Sigmoid, true, [256, 8], [8, 4]),
            (Score::Sigmoid, false, [6, 2], [3, 2]),
            (Score::Sigmoid, true, [4, 2], [4, 3]),
            (Score::Softmax, true, [160, 6], [8, 3]),
            (Score::Softmax, false, [1, 1], [1, 1]),
        ] {
            let how = Routing {
                normalised,
                scale: 1.7,
                groups,
                groups_used,
                ..routing(score, used)
            };
            let tokens = 70;
            let mut router = random(&mut rng, tokens * experts);
            // Equals: all of a row, and most of others.
            router[..experts].fill(0.5);
            for x in &mut router[experts..20 * experts] {
                *x = (*x * 2.0).round() / 2.0;
            }
            for with_bias in [false, true] {
                let bias: Vec<f32> = random(&mut rng, experts)
                    .iter()
                    .map(|x| (x * 4.0).round() / 8.0)
                    .collect();
                let bias = if with_bias { &bias[..] } else { &[] };
                let on = with_bias.then(|| device.stream().clone_htod(bias).unwrap());
                let mut scratch = ExpertScratch::default();
                let rows = on_device(device, &router);
                ops.choose(experts, (&how, on.as_ref()), &rows, &mut scratch)
                    .unwrap();
                let (its, weights) = scratch.chosen(device).unwrap();
                assert_eq!(its.len(), tokens * used);
                for (token, row) in router.chunks(experts).enumerate() {
                    let expected = chosen(&how, row, bias);
                    let its = &its[token * used..][..used];
                    let names: Vec<usize> = its.iter().map(|n| *n as usize).collect();
                    let wanted: Vec<usize> = expected.iter().map(|(n, _)| *n).collect();
                    assert_eq!(names, wanted, "{how:?}, bias {with_bias}, token {token}");
                    for (weight, (_, exact)) in weights[token * used..].iter().zip(expected) {
                        let error = (f64::from(*weight) - exact).abs();
                        assert!(error <= 2e-6 * exact.abs(), "{how:?}: {weight} for {exact}");
                    }
                }
            }
        }
    });
}

/// So that it shows in what the layer gives.
#[test]
fn what_is_no_number_is_chosen_first() {
    with_ops::<half::f16>(|device, ops| {
        let mut router = vec![0.0; 3 * 40];
        (router[7], router[40 + 39], router[80 + 33]) = (f32::NAN, f32::NAN, f32::INFINITY);
        let how = routing(Score::ChosenSoftmax, 2);
        let mut scratch = ExpertScratch::default();
        let rows = on_device(device, &router);
        ops.choose(40, (&how, None), &rows, &mut scratch).unwrap();
        let (chosen, weights) = scratch.chosen(device).unwrap();
        assert_eq!(chosen, [0, 7, 0, 39, 0, 33]);
        assert!(weights[..4].iter().any(|x| x.is_nan()));
    });
}

/// Gate, up and down of an expert as floats.
type Floats = [Vec<f32>; 3];

/// What a layer gives, and the mean square of it.
struct Exact {
    out: Vec<f64>,
    size: f64,
}

fn product(weights: &[f32], x: &[f64]) -> Vec<f64> {
    let rows = weights.chunks_exact(x.len());
    rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
        .collect()
}

fn exact(experts: &[Floats], how: &Routing, x: &[f32], router: &[f32]) -> Exact {
    let tokens = router.len() / experts.len();
    let hidden = x.len() / tokens;
    let mut out = Vec::new();
    for (x, router) in x.chunks(hidden).zip(router.chunks(experts.len())) {
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut sum = vec![0.0; hidden];
        for (n, weight) in chosen(how, router, &[]) {
            let [gate, up, down] = &experts[n];
            let both = product(gate, &x).into_iter().zip(product(up, &x));
            let inner: Vec<f64> = both.map(|(a, b)| a / (1.0 + (-a).exp()) * b).collect();
            for (sum, x) in sum.iter_mut().zip(product(down, &inner)) {
                *sum += weight * x;
            }
        }
        out.extend(sum);
    }
    let size = out.iter().map(|x| x * x).sum::<f64>() / out.len() as f64;
    Exact { out, size }
}

/// The error rule. For few rows, sums are f32 and a weight is off by the roundings of its block's scale
/// and middle, which are as large as the block's largest weights: 2^-17, where 16 bits anywhere would give
/// 2^-12. For many, weights, activations and what lies between are rounded to 16 bits: an output is off
/// by the roundings of some hundred terms of two products, which add up at random to some of them. As
/// root mean squares, and eight times as much for the worst.
fn check<T: Half>(what: &str, actual: &[f32], exact: &Exact, tokens: usize) {
    let unit = if tokens <= FEW {
        1.0 / f64::from(1 << 17)
    } else {
        6.0 * T::UNIT
    };
    let size = exact.size.sqrt();
    let errors = || {
        let pairs = actual.iter().zip(&exact.out);
        pairs.map(|(a, e)| (f64::from(*a) - e).abs())
    };
    assert_eq!(actual.len(), exact.out.len());
    let mean = (errors().map(|e| e * e).sum::<f64>() / actual.len() as f64).sqrt();
    let worst = errors().fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
    println!(
        "{what}, {tokens} tokens: {:.2e} (limit {unit:.1e})",
        mean / size
    );
    let is_in = mean <= unit * size && worst <= 8.0 * unit * size;
    assert!(
        is_in,
        "{what}, {tokens} tokens: {mean} and {worst} of {size}"
    );
}

/// A layer of some experts, of which one gets no token and one gets all.
fn layer<T: Half>(
    (device, ops): (&Device, &Ops<T>),
    what: &str,
    [hidden, width]: [usize; 2],
    make: &mut dyn FnMut(usize, usize) -> (Matrix<T>, Vec<f32>),
    rng: &mut StdRng,
) {
    let count = 5;
    let (mut matrices, mut floats) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (gate, a) = make(width, hidden);
        let (up, b) = make(width, hidden);
        let (down, c) = make(hidden, width);
        matrices.push([gate, up, down]);
        floats.push([a, b, c]);
    }
    let experts = Experts::new(device, matrices).unwrap();
    // What makes the products with gates about 1.
    let squares = floats.iter().flat_map(|it| &it[0]).map(|w| w * w);
    let size = (squares.sum::<f32>() / (count * width) as f32).sqrt();
    let how = Routing {
        normalised: true,
        ..routing(Score::Softmax, 2)
    };
    let (mut scratch, mut out) = (ExpertScratch::default(), Buffer::default());
    for tokens in [40, 1, 3, 8, 9, 150] {
        let x: Vec<f32> = random(rng, tokens * hidden)
            .iter()
            .map(|x| x / size)
            .collect();
        let mut router = random(rng, tokens * count);
        for row in router.chunks_mut(count) {
            (row[1], row[3]) = (9.0 + row[1], -9.0);
        }
        let exact = exact(&floats, &how, &x, &router);
        let (bx, rows) = (on_device(device, &x), on_device(device, &router));
        for _ in 0..2 {
            let given = (&bx, &rows);
            ops.mix(
                &experts,
                (&how, None),
                Curve::Silu,
                given,
                &mut out,
                &mut scratch,
            )
            .unwrap();
            check::<T>(what, &out.read(device).unwrap(), &exact, tokens);
        }
    }
}

fn every_layout<T: Half>() {
    with_ops::<T>(|device, ops| {
        let mut rng = StdRng::seed_from_u64(22);
        for (format, name) in FORMATS {
            let long = block_len(format) == 256;
            for size in if long {
                [[256, 512], [512, 256]]
            } else {
                [[384, 128], [128, 256]]
            } {
                let mut other = StdRng::seed_from_u64(23);
                let mut make =
                    |rows, columns| packed(device, format, name, [rows, columns], &mut other);
                layer(
                    (device, ops),
                    &format!("{name} {size:?}"),
                    size,
                    &mut make,
                    &mut rng,
                );
            }
        }
        for size in [[24, 9], [70, 132], [576, 200]] {
            let mut other = StdRng::seed_from_u64(24);
            let mut make = |rows, columns| {
                let numbers = random(&mut other, rows * columns).into_iter();
                let numbers: Vec<T> = numbers.map(T::round).collect();
                let floats = numbers.iter().map(|w| w.wide() as f32).collect();
                (
                    Matrix::new(device, &numbers, rows, columns).unwrap(),
                    floats,
                )
            };
            layer(
                (device, ops),
                &format!("{} {size:?}", T::NAME),
                size,
                &mut make,
                &mut rng,
            );
        }
    });
}

fn packed<T: Half>(
    device: &Device,
    format: Format,
    name: &str,
    [rows, columns]: [usize; 2],
    rng: &mut StdRng,
) -> (Matrix<T>, Vec<f32>) {
    let count = rows * columns / block_len(format);
    let (bytes, floats) = blocks(name, format, count, rng);
    (
        Matrix::packed(device, format, &bytes, rows, columns).unwrap(),
        floats,
    )
}

#[test]
fn f16() {
    every_layout::<half::f16>();
}

#[test]
fn bf16() {
    every_layout::<half::bf16>();
}

/// A pass of few tokens that is recorded and replayed with other tokens gives what it gives at once,
/// whatever experts they choose.
#[test]
fn recorded_passes_follow_their_routing() {
    with_ops::<half::f16>(|device, ops| {
        let mut rng = StdRng::seed_from_u64(25);
        let matrices = (0..6).map(|_| {
            [[64, 256], [64, 256], [256, 64]].map(|[rows, columns]| {
                let numbers = random(&mut rng, rows * columns).into_iter();
                let numbers: Vec<half::f16> = numbers.map(half::f16::from_f32).collect();
                Matrix::new(device, &numbers, rows, columns).unwrap()
            })
        });
        let experts = Experts::new(device, matrices.collect()).unwrap();
        let how = routing(Score::Sigmoid, 2);
        let (mut x, mut router) = (Buffer::default(), Buffer::default());
        let mut buffers: [(Buffer<f32>, ExpertScratch<half::f16>); 2] = Default::default();
        for step in 0..8 {
            x.write(device, &random(&mut rng, 2 * 256)).unwrap();
            router.write(device, &random(&mut rng, 2 * 6)).unwrap();
            let mut results = Vec::new();
            for (recorded, (out, scratch)) in buffers.iter_mut().enumerate() {
                if recorded == 1 {
                    device.record();
                }
                ops.mix(
                    &experts,
                    (&how, None),
                    Curve::Silu,
                    (&x, &router),
                    out,
                    scratch,
                )
                .unwrap();
                device.play().unwrap();
                results.push(out.read(device).unwrap());
            }
            assert_eq!(results[0], results[1], "step {step}");
        }
    });
}

#[test]
fn what_are_no_experts_is_refused() {
    with_ops::<half::f16>(|device, ops| {
        let plain = |rows: usize, columns: usize| {
            let numbers = vec![half::f16::ONE; rows * columns];
            Matrix::new(device, &numbers, rows, columns).unwrap()
        };
        let packed = |rows: usize, columns: usize| {
            let bytes = vec![0; rows * columns / 32 * 18];
            Matrix::packed(device, Format::Q4_0, &bytes, rows, columns).unwrap()
        };
        for refused in [
            vec![],
            vec![[plain(8, 16), plain(8, 16), plain(16, 9)]],
            vec![[plain(128, 128), packed(128, 128), plain(128, 128)]],
            vec![[packed(32, 32), packed(32, 32), packed(32, 32)]],
            vec![
                [plain(8, 16), plain(8, 16), plain(16, 8)],
                [plain(9, 16), plain(9, 16), plain(16, 9)],
            ],
        ] {
            let refused = Experts::new(device, refused);
            assert!(matches!(refused, Err(CudaError::Shape(_))), "{refused:?}");
        }
        let two = || [plain(8, 16), plain(8, 16), plain(16, 8)];
        let experts = Experts::new(device, vec![two(), two()]).unwrap();
        let (x, router) = (on_device(device, &[0.5; 32]), on_device(device, &[0.0; 4]));
        let mix = |how: Routing, router: &Buffer<f32>| {
            let (mut out, mut scratch) = (Buffer::default(), ExpertScratch::default());
            let given = (&x, router);
            ops.mix(
                &experts,
                (&how, None),
                Curve::Silu,
                given,
                &mut out,
                &mut scratch,
            )
        };
        assert!(mix(routing(Score::Softmax, 2), &router).is_ok());
        assert!(mix(routing(Score::Softmax, 3), &router).is_err());
        assert!(mix(routing(Score::Softmax, 0), &router).is_err());
        let short = on_device(device, &[0.0; 3]);
        assert!(mix(routing(Score::Softmax, 1), &short).is_err());
    });
}

//! What runs between attention layers, against f64.

use super::{Half, device};
use crate::matrix::Matrix;
use crate::ops::{Buffer, Curve, Ops};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(super) fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-2.0..2.0)).collect()
}

/// `limit` relative to the largest exact number, or to 1.
fn assert_close(actual: &[f32], exact: &[f64], limit: f64) {
    assert_eq!(actual.len(), exact.len());
    let size = exact.iter().fold(1.0f64, |size, x| size.max(x.abs()));
    for (at, (a, e)) in actual.iter().zip(exact).enumerate() {
        let error = (f64::from(*a) - e).abs();
        assert!(error <= limit * size, "element {at}: {a} for {e}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

fn every_operation<T: Half>() {
    let Some(device) = device() else { return };
    let ops = match Ops::<T>::new(&device) {
        Ok(ops) => ops,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    let mut rng = StdRng::seed_from_u64(7);
    for (tokens, width) in [(1, 64), (3, 576), (130, 200)] {
        let (x, y) = (
            random(&mut rng, tokens * width),
            random(&mut rng, tokens * width),
        );
        let weight = random(&mut rng, width);
        let on_device = |x: &[f32]| {
            let mut buffer = Buffer::default();
            buffer.write(&device, x).unwrap();
            buffer
        };
        let (bx, by) = (on_device(&x), on_device(&y));
        let bw = device.stream().clone_htod(&weight).unwrap();
        let mut out = Buffer::default();

        ops.rms_norm(&bx, &bw, 1e-5, &mut out).unwrap();
        let exact: Vec<f64> = x
            .chunks(width)
            .flat_map(|row| {
                let row = wide(row);
                let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scaled = row.into_iter().zip(&weight);
                scaled
                    .map(move |(x, &w)| x / (mean + 1e-5).sqrt() * f64::from(w))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_close(&out.read(&device).unwrap(), &exact, 1e-6);

        let combined = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            let pairs = wide(&x).into_iter().zip(wide(&y));
            pairs.map(|(x, y)| f(x, y)).collect()
        };
        let curves: [(Curve, &dyn Fn(f64) -> f64); 6] = [
            (Curve::Silu, &|x| x / (1.0 + (-x).exp())),
            (Curve::Gelu, &|x| {
                0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
            }),
            (Curve::GeluTanh, &|x| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }),
            (Curve::GeluSigmoid, &|x| x / (1.0 + (-1.702 * x).exp())),
            (Curve::Relu, &|x| x.max(0.0)),
            (Curve::ReluSquared, &|x| x.max(0.0).powi(2)),
        ];
        for (curve, exact) in curves {
            let mut gate = on_device(&x);
            ops.gate(curve, &mut gate, &by).unwrap();
            let both = combined(&|x, y| exact(x) * y);
            assert_close(&gate.read(&device).unwrap(), &both, 1e-6);
            let mut alone = on_device(&x);
            ops.activate(curve, &mut alone).unwrap();
            let alone_exact = combined(&|x, _| exact(x));
            assert_close(&alone.read(&device).unwrap(), &alone_exact, 1e-6);
        }
        let mut bent = on_device(&x);
        ops.xielu(&mut bent, [0.8, 1.3, 0.5, -1e-6]).unwrap();
        let [positive, negative, epsilon] = [0.8f32, 1.3, -1e-6].map(f64::from);
        let exact = combined(&|x, _| match x > 0.0 {
            true => positive * x * x + 0.5 * x,
            false => (x.min(epsilon).exp_m1() - x) * negative + 0.5 * x,
        });
        assert_close(&bent.read(&device).unwrap(), &exact, 1e-6);
        let mut scaled = on_device(&x);
        ops.scale(&mut scaled, 1.7).unwrap();
        let exact = combined(&|x, _| x * f64::from(1.7f32));
        assert_close(&scaled.read(&device).unwrap(), &exact, 1e-6);
        let mut cut = on_device(&x);
        ops.clamp(&mut cut, 0.5).unwrap();
        let exact = combined(&|x, _| x.clamp(-0.5, 0.5));
        assert_close(&cut.read(&device).unwrap(), &exact, 1e-6);
        ops.soft_cap(&mut scaled, 2.5).unwrap();
        let exact = combined(&|x, _| 2.5 * (x * f64::from(1.7f32) / 2.5).tanh());
        assert_close(&scaled.read(&device).unwrap(), &exact, 1e-6);

        let bias = random(&mut rng, width);
        let bb = device.stream().clone_htod(&bias).unwrap();
        for with_bias in [false, true] {
            let given = with_bias.then_some(&bb);
            ops.layer_norm(&bx, &bw, given, 1e-5, &mut out).unwrap();
            let exact: Vec<f64> = x
                .chunks(width)
                .flat_map(|row| {
                    let row = wide(row);
                    let mean = row.iter().sum::<f64>() / width as f64;
                    let squares = row.iter().map(|x| (x - mean).powi(2));
                    let deviation = (squares.sum::<f64>() / width as f64 + 1e-5).sqrt();
                    let scaled = row.into_iter().zip(weight.iter().zip(&bias));
                    scaled
                        .map(move |(x, (&w, &b))| {
                            let b = if with_bias { f64::from(b) } else { 0.0 };
                            (x - mean) / deviation * f64::from(w) + b
                        })
                        .collect::<Vec<_>>()
                })
                .collect();
            assert_close(&out.read(&device).unwrap(), &exact, 2e-6);
        }

        let mut sum = on_device(&x);
        ops.add(&mut sum, &by).unwrap();
        assert_close(&sum.read(&device).unwrap(), &combined(&|x, y| x + y), 1e-6);

        let mut biased = on_device(&x);
        ops.add_bias(&mut biased, &bw).unwrap();
        let exact: Vec<f64> = wide(&x)
            .iter()
            .enumerate()
            .map(|(i, x)| x + f64::from(weight[i % width]))
            .collect();
        assert_close(&biased.read(&device).unwrap(), &exact, 1e-6);

        let mut product = on_device(&x);
        ops.multiply(&mut product, &bw).unwrap();
        let exact: Vec<f64> = wide(&x)
            .iter()
            .enumerate()
            .map(|(i, x)| x * f64::from(weight[i % width]))
            .collect();
        assert_close(&product.read(&device).unwrap(), &exact, 1e-6);

        let switches = random(&mut rng, tokens);
        let mut weighed = on_device(&x);
        ops.weigh(&mut weighed, &on_device(&switches)).unwrap();
        let exact: Vec<f64> = wide(&x)
            .iter()
            .enumerate()
            .map(|(i, x)| x / (1.0 + (-f64::from(switches[i / width])).exp()))
            .collect();
        assert_close(&weighed.read(&device).unwrap(), &exact, 1e-6);

        let targets: Vec<u32> = (0..tokens).map(|t| ((t * 37) % width) as u32).collect();
        let scores = ops.scores(&bx, &targets).unwrap();
        for ((row, &target), (log_probability, is_top)) in x.chunks(width).zip(&targets).zip(scores)
        {
            let row = wide(row);
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            let exact = row[target as usize] - sum.ln();
            assert!(
                (log_probability - exact).abs() < 1e-5,
                "{log_probability} for {exact}"
            );
            assert_eq!(is_top, row.iter().all(|&x| x <= row[target as usize]));
        }
        // The most probable one, and of equals the first.
        let mut even = vec![1.0; tokens * width];
        even[width - 1] = 2.0;
        let last = [(width - 1) as u32].into_iter().chain(vec![0; tokens - 1]);
        let scores = ops
            .scores(&on_device(&even), &last.collect::<Vec<_>>())
            .unwrap();
        assert!(scores.iter().all(|(_, is_top)| *is_top));
        assert!(ops.scores(&bx, &vec![width as u32; tokens]).is_err());

        let wanted: Vec<u32> = (0..tokens as u32).rev().step_by(2).collect();
        ops.take_rows(&bx, width, &wanted, &mut out).unwrap();
        let rows = |from: &[f32]| -> Vec<f32> {
            let row = |&r: &u32| from[r as usize * width..][..width].to_vec();
            wanted.iter().flat_map(row).collect()
        };
        assert_eq!(out.read(&device).unwrap(), rows(&x));
        assert!(
            ops.take_rows(&bx, width, &[tokens as u32], &mut out)
                .is_err()
        );

        let narrow = |x: &[f32]| -> Vec<T> { x.iter().map(|&x| T::round(x)).collect() };
        let back = |x: &[T]| -> Vec<f32> { x.iter().map(|x| x.wide() as f32).collect() };
        let table = Matrix::new(&device, &narrow(&x), tokens, width).unwrap();
        ops.embed(&table, &wanted, &mut out).unwrap();
        assert_eq!(out.read(&device).unwrap(), rows(&back(&narrow(&x))));

        let mut small = Buffer::default();
        ops.narrow(&bx, &mut small).unwrap();
        assert_eq!(small.read(&device).unwrap(), narrow(&x));
        ops.widen(&small, tokens, [width, width], &mut out).unwrap();
        assert_eq!(out.read(&device).unwrap(), back(&narrow(&x)));
        ops.widen(&small, tokens, [width - 7, width], &mut out)
            .unwrap();
        let cut = narrow(&x);
        let cut: Vec<T> = cut
            .chunks(width)
            .flat_map(|row| row[..width - 7].to_vec())
            .collect();
        assert_eq!(out.read(&device).unwrap(), back(&cut));
    }
}

/// Passes that are recorded and played give what the same kernels give when launched at once, from the
/// first step, which has no graph yet, over those that replay one, to those after buffers moved.
#[test]
fn recorded_passes() {
    let Some(device) = device() else { return };
    let Ok(ops) = Ops::<half::f16>::new(&device) else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(8);
    let width = 192;
    let table: Vec<half::f16> = random(&mut rng, 50 * width)
        .into_iter()
        .map(half::f16::from_f32)
        .collect();
    let table = Matrix::new(&device, &table, 50, width).unwrap();
    let weight = device
        .stream()
        .clone_htod(&random(&mut rng, width))
        .unwrap();
    let mut buffers: [[Buffer<f32>; 3]; 2] = Default::default();
    for (step, tokens) in [2, 2, 2, 1, 3, 3, 40, 2, 2, 70].into_iter().enumerate() {
        let ids: Vec<u32> = (0..tokens).map(|_| rng.random_range(0..50)).collect();
        let factor = rng.random_range(0.5..2.0);
        let mut results = Vec::new();
        for (recorded, [x, normed, gate]) in buffers.iter_mut().enumerate() {
            if recorded == 1 {
                device.record();
            }
            ops.embed(&table, &ids, x).unwrap();
            ops.scale(x, factor).unwrap();
            ops.rms_norm(x, &weight, 1e-5, normed).unwrap();
            // Every third step does more.
            if step % 3 == 0 {
                ops.add(normed, x).unwrap();
            }
            ops.take_rows(normed, width, &(0..tokens).collect::<Vec<_>>(), gate)
                .unwrap();
            ops.gate(Curve::Silu, gate, x).unwrap();
            device.play().unwrap();
            results.push(gate.read(&device).unwrap());
        }
        assert!(results[0].iter().any(|x| *x != 0.0));
        assert_eq!(results[0], results[1], "step {step}");
    }
}

#[test]
fn f16() {
    every_operation::<half::f16>();
}

#[test]
fn bf16() {
    every_operation::<half::bf16>();
}

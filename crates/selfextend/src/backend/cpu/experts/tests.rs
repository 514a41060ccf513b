use super::*;
use crate::backend::cpu::{Cpu, CpuScratch};
use crate::backend::{Backend, Expert};
use crate::config::{Activation, Score};
use crate::tensor::{RawTensor, TensorFormat};
use rand::{Rng, SeedableRng, rngs::StdRng};

const HIDDEN: usize = 64;
const WIDTH: usize = 32;

/// A layer of experts with biases, and its weights as floats.
struct Layer {
    experts: Vec<Expert<CpuMatrix, Vec<f32>>>,
    floats: Vec<[Vec<f32>; 6]>,
    routing: Routing,
    used: usize,
}

/// Random numbers of a format; Q8_0 has a scale for each 32.
fn tensor(format: TensorFormat, rows: usize, columns: usize, rng: &mut StdRng) -> RawTensor {
    let mut data = Vec::new();
    for _ in 0..rows * columns / 32 {
        match format {
            TensorFormat::Q8_0 => {
                data.extend(half::f16::from_f32(0.002).to_le_bytes());
                data.extend((0..32).map(|_| rng.random::<u8>()));
            }
            _ => data.extend((0..32).flat_map(|_| rng.random_range(-0.25f32..0.25).to_le_bytes())),
        }
    }
    RawTensor {
        name: String::new(),
        format,
        rows,
        columns,
        data,
    }
}

fn layer(format: TensorFormat, count: usize, used: usize) -> Layer {
    let mut rng = StdRng::seed_from_u64(5);
    let (mut experts, mut floats) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let shapes = [(WIDTH, HIDDEN), (WIDTH, HIDDEN), (HIDDEN, WIDTH)];
        let [gate, up, down] =
            shapes.map(|(rows, columns)| tensor(format, rows, columns, &mut rng));
        let biases = shapes.map(|(rows, _)| -> Vec<f32> {
            (0..rows).map(|_| rng.random_range(-0.5..0.5)).collect()
        });
        let [a, b, c] = biases.clone();
        floats.push([gate.to_floats(), up.to_floats(), down.to_floats(), a, b, c]);
        let matrix = |tensor| CpuMatrix::new(tensor, false).unwrap();
        experts.push(Expert {
            gate: matrix(gate),
            up: matrix(up),
            down: matrix(down),
            biases: Some(biases),
        });
    }
    let routing = Routing {
        score: Score::ChosenSoftmax,
        ..Routing::SOFTMAX
    };
    Layer {
        experts,
        floats,
        routing,
        used,
    }
}

fn random(len: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(9);
    (0..len).map(|_| rng.random_range(-1f32..1.0)).collect()
}

impl Layer {
    fn run(&self, x: &[f32], router: &[f32], phase: Phase) -> Vec<f32> {
        let mixture = Mixture {
            experts: &self.experts,
            choice_bias: None,
            used: self.used,
            routing: self.routing,
            activation: Activation::Silu,
            limit: None,
        };
        let (mut out, mut scratch) = (Vec::new(), CpuScratch::default());
        let cpu = Cpu::default();
        cpu.enter(phase, &mut scratch);
        let (x, router) = (x.to_vec(), router.to_vec());
        cpu.mix(mixture, &x, &router, &mut out, &mut scratch)
            .unwrap();
        out
    }

    /// The formula in doubles, for one token whose experts and weights are known.
    fn expected(&self, x: &[f32], chosen: &[(usize, f64)]) -> Vec<f64> {
        let product = |matrix: &[f32], bias: &[f32], x: &[f64]| -> Vec<f64> {
            let rows = matrix.chunks_exact(x.len()).zip(bias);
            let dot = |row: &[f32]| {
                row.iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w) * x)
                    .sum::<f64>()
            };
            rows.map(|(row, bias)| dot(row) + f64::from(*bias))
                .collect()
        };
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut out = vec![0.0; HIDDEN];
        for (expert, weight) in chosen {
            let [gate, up, down, a, b, c] = &self.floats[*expert];
            let (gate, up) = (product(gate, a, &x), product(up, b, &x));
            let inner = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u);
            let given = product(down, c, &inner.collect::<Vec<_>>());
            out.iter_mut()
                .zip(given)
                .for_each(|(out, x)| *out += weight * x);
        }
        out
    }
}

/// Router numbers for tokens whose experts all differ, for one at which experts tie, and for an
/// expert (the fifth) that gets no token.
#[test]
fn each_token_is_read_by_its_experts() {
    let layer = layer(TensorFormat::F32, 5, 2);
    let router = [
        [3.0, 2.0, 0.0, 0.0, -9.0],
        [0.0, 0.0, 3.0, 2.0, -9.0],
        [1.0, 1.0, 1.0, 1.0, -9.0],
    ];
    let high = 1f64.exp() / (1.0 + 1f64.exp());
    let chosen = [
        [(0, high), (1, 1.0 - high)],
        [(2, high), (3, 1.0 - high)],
        [(0, 0.5), (1, 0.5)],
    ];
    let x = random(3 * HIDDEN);
    for phase in [Phase::Prefill, Phase::Decode] {
        let out = layer.run(&x, &router.concat(), phase);
        let rows = out.chunks_exact(HIDDEN).zip(x.chunks_exact(HIDDEN));
        for ((out, x), chosen) in rows.zip(chosen) {
            for (out, expected) in out.iter().zip(layer.expected(x, &chosen)) {
                let error = (f64::from(*out) - expected).abs();
                assert!(error < 1e-5, "{phase:?} {chosen:?}: {out} {expected}");
            }
        }
    }
}

/// What a token gets is bit for bit the same in any company, and on any number of threads.
#[test]
fn company_changes_nothing() {
    for format in [TensorFormat::F32, TensorFormat::Q8_0] {
        let layer = layer(format, 7, 3);
        let tokens = 90;
        let x = random(tokens * HIDDEN);
        let router = random(tokens * 7);
        for phase in [Phase::Prefill, Phase::Decode] {
            let whole = layer.run(&x, &router, phase);
            for some in [1, 3, 16, 37] {
                let parts = x.chunks(some * HIDDEN).zip(router.chunks(some * 7));
                let parts = parts.map(|(x, router)| layer.run(x, router, phase));
                assert!(
                    parts.collect::<Vec<_>>().concat() == whole,
                    "{format} {some}"
                );
            }
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let again = pool.unwrap().install(|| layer.run(&x, &router, phase));
                assert!(again == whole, "{format}: {threads} threads");
            }
        }
    }
}

#[test]
fn a_pass_without_tokens_gives_nothing() {
    let layer = layer(TensorFormat::F32, 3, 2);
    assert!(layer.run(&[], &[], Phase::Prefill).is_empty());
}

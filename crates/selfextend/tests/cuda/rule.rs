//! What logits are held to (see `main.rs`), and how the tests open models.

use crate::common::{session, write_tiny};
use selfextend::{
    Device, Error, KvType, LinearMode, LoadOptions, Model, PositionMap, Session, TensorFormat,
};
use std::path::Path;

const FACTOR: f64 = 6.0;
const ROW: f64 = 3.0;
pub const F16: f64 = 1.0 / 2048.0;
pub const BF16: f64 = 1.0 / 256.0;
/// What a cache of bytes adds to `u` against another: of some ten roundings of a layer two are to
/// bytes, of the keys and of the values, which moves a number by at most 1/254 of the largest of its
/// block. Both sides round to bytes, and numbers that differ a little may come to differ by a byte:
/// four roundings of ten. (On the CPU bytes move the logits of SmolLM2 by 0.026, which this rule,
/// for one side, has at 0.06; those of the tiny model by 0.0024, at 0.02.)
pub const BYTES: f64 = 0.632 / 254.0;

pub fn options(device: Device) -> LoadOptions {
    let linear = match device {
        Device::Cpu => LinearMode::F32,
        Device::Cuda(_) => LinearMode::Rounded,
    };
    LoadOptions::new().with_linear(linear).with_device(device)
}

/// A model on the first GPU; `None`, with a word about it, where there is none.
pub fn on_device(path: &Path) -> Option<Model> {
    match Model::load(path, options(Device::Cuda(0))) {
        Ok(model) => Some(model),
        Err(Error::Device(reason))
            if reason.contains("no NVIDIA driver") || reason.contains("has no CUDA") =>
        {
            let required = std::env::var("SELFEXTEND_CUDA").is_ok_and(|it| it == "required");
            assert!(!required, "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

pub fn on_cpu(path: &Path) -> Model {
    Model::load(path, options(Device::Cpu)).unwrap()
}

pub fn maps() -> [PositionMap; 3] {
    [PositionMap::Plain, self_extend(4, 16), self_extend(7, 30)]
}

pub fn self_extend(group_size: usize, window: usize) -> PositionMap {
    PositionMap::self_extend(group_size, window).unwrap()
}

pub fn open(model: &Model, map: PositionMap, chunk: usize) -> Session {
    session(model, map, KvType::F16, chunk)
}

pub fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let visit = &mut |_, row: &[f32]| rows.push(row.to_vec());
    session.append_all(ids, visit).unwrap();
    rows
}

/// Also of what is no number.
pub fn beyond(error: f64, limit: f64) -> bool {
    error.is_nan() || error > limit
}

/// What was off, told at the end, so that one run of a test says everything.
#[derive(Default)]
pub struct Report {
    failed: Vec<String>,
}

impl Report {
    pub fn rule(layers: usize, unit: f64) -> f64 {
        FACTOR * unit * (layers as f64 + 2.0).sqrt()
    }

    /// Holds rows of logits against others by the rule: all together, and the worst.
    pub fn rows(&mut self, what: &str, actual: &[Vec<f32>], expected: &[Vec<f32>], limit: f64) {
        if actual.len() != expected.len() {
            let counts = format!("{} rows for {}", actual.len(), expected.len());
            return self.failed.push(format!("{what}: {counts}"));
        }
        let (mut worst, mut at, mut most) = (0.0, 0, 0.0f64);
        let (mut all_errors, mut all_sizes) = (0.0, 0.0);
        for (row, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let (actual, expected) = (wide(actual), wide(expected));
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            let size: f64 = expected.iter().map(|e| (e - mean).powi(2)).sum();
            let errors = || actual.iter().zip(&expected).map(|(a, e)| (a - e).abs());
            let error: f64 = errors().map(|error| error * error).sum();
            let ratio = (error / size).sqrt();
            most = errors().fold(most, f64::max);
            (all_errors, all_sizes) = (all_errors + error, all_sizes + size);
            if beyond(ratio, worst) {
                (worst, at) = (ratio, row);
            }
            if ratio.is_nan() {
                break;
            }
        }
        let all = (all_errors / all_sizes).sqrt();
        self.at_most(&format!("{what}: relative error"), all, limit);
        let row = format!("{what}: of row {at} (largest difference {most:.1e}), relative error");
        self.at_most(&row, worst, ROW * limit);
    }

    pub fn at_most(&mut self, what: &str, value: f64, limit: f64) {
        let line = format!("{what}: {value:.2e} (limit {limit:.1e})");
        println!("{line}");
        if beyond(value.abs(), limit) {
            self.failed.push(line);
        }
    }

    pub fn end(self) {
        let failed = self.failed.join("\n");
        assert!(failed.is_empty(), "beyond the rule:\n{failed}");
    }
}

/// Rows of flat logits.
pub fn rows(logits: &[f32], vocab: usize) -> Vec<Vec<f32>> {
    logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

/// A tiny model's text.
pub fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i * 7 + i / 3) % VOCAB).collect()
}

pub const VOCAB: u32 = 50;

/// Those that have kernels on a GPU.
pub const K_QUANTS: [TensorFormat; 4] = [
    TensorFormat::Q3K,
    TensorFormat::Q4K,
    TensorFormat::Q5K,
    TensorFormat::Q6K,
];

/// A tiny model on the GPU and on the CPU.
pub fn tiny(dtype: TensorFormat) -> Option<(Model, Model)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny(&path, dtype, VOCAB as usize);
    Some((on_device(&path)?, on_cpu(&path)))
}

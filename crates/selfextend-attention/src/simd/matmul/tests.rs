//! Products against f64, at every level and for every format.

use super::*;
use crate::simd::linear::{BLOCK, block_sums};
use crate::simd::{Level, dispatch_at};
use half::{bf16, f16};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A random panel matrix and its exact values `[row][column]`.
fn random(
    format: PanelFormat,
    rows: usize,
    columns: usize,
    rng: &mut StdRng,
) -> (Vec<u8>, Vec<f32>) {
    let panels = rows.div_ceil(WIDTH);
    let mut data = vec![0u8; panels * format.panel_bytes(columns)];
    let mut exact = vec![0.0; panels * WIDTH * columns];
    let (bytes, block) = (format.block_bytes(), format.block());
    for (at, unit) in data.chunks_exact_mut(bytes).enumerate() {
        let (panel, b) = (at / (columns / block), at % (columns / block));
        for lane in 0..WIDTH {
            let half = |unit: &mut [u8], at: usize, x: f32| -> f32 {
                let x = f16::from_f32(x);
                unit[2 * (at * WIDTH + lane)..][..2].copy_from_slice(&x.to_le_bytes());
                x.to_f32()
            };
            let float = |unit: &mut [u8], at: usize, x: f32| -> f32 {
                unit[4 * (at * WIDTH + lane)..][..4].copy_from_slice(&x.to_le_bytes());
                x
            };
            let mut set = |c: usize, x: f32| {
                exact[(panel * WIDTH + lane) * columns + b * block + c] = x;
            };
            match format {
                PanelFormat::F32 => {
                    let x: f32 = rng.random_range(-1.0..1.0);
                    unit[4 * lane..4 * lane + 4].copy_from_slice(&x.to_le_bytes());
                    set(0, x);
                }
                PanelFormat::F16 => set(0, half(unit, 0, rng.random_range(-1.0..1.0))),
                PanelFormat::BF16 => {
                    let x = bf16::from_f32(rng.random_range(-1.0..1.0));
                    unit[2 * lane..2 * lane + 2].copy_from_slice(&x.to_le_bytes());
                    set(0, x.to_f32());
                }
                PanelFormat::I8Wide | PanelFormat::I8Short => {
                    let scale = float(unit, 0, rng.random_range(-0.1..0.1));
                    let wide = format == PanelFormat::I8Wide;
                    let low = if wide {
                        float(unit, 1, rng.random_range(-1.0..1.0))
                    } else {
                        0.0
                    };
                    for c in 0..block {
                        let code: i8 = rng.random();
                        unit[64 * (1 + usize::from(wide)) + c * WIDTH + lane] = code as u8;
                        set(c, f32::from(code) * scale + low);
                    }
                }
                PanelFormat::U4Wide => {
                    let scale = float(unit, 0, rng.random_range(-0.1..0.1));
                    let low = float(unit, 1, rng.random_range(-1.0..1.0));
                    for c in 0..BLOCK / 2 {
                        let code: u8 = rng.random();
                        unit[128 + c * WIDTH + lane] = code;
                        set(c, f32::from(code & 15) * scale + low);
                        set(c + BLOCK / 2, f32::from(code >> 4) * scale + low);
                    }
                }
                PanelFormat::I8 { minimum } => {
                    let scale = half(unit, 0, rng.random_range(-0.1..0.1));
                    let low = if minimum {
                        half(unit, 1, rng.random_range(-1.0..1.0))
                    } else {
                        0.0
                    };
                    for c in 0..BLOCK {
                        let code: i8 = rng.random();
                        unit[32 * (1 + usize::from(minimum)) + c * WIDTH + lane] = code as u8;
                        set(c, f32::from(code) * scale + low);
                    }
                }
                PanelFormat::U4 => {
                    let scale = half(unit, 0, rng.random_range(-0.1..0.1));
                    let low = half(unit, 1, rng.random_range(-1.0..1.0));
                    for c in 0..BLOCK / 2 {
                        let code: u8 = rng.random();
                        unit[64 + c * WIDTH + lane] = code;
                        set(c, f32::from(code & 15) * scale + low);
                        set(c + BLOCK / 2, f32::from(code >> 4) * scale + low);
                    }
                }
            }
        }
    }
    (data, exact)
}

const FORMATS: [PanelFormat; 9] = [
    PanelFormat::F32,
    PanelFormat::F16,
    PanelFormat::I8 { minimum: false },
    PanelFormat::I8 { minimum: true },
    PanelFormat::U4,
    PanelFormat::BF16,
    PanelFormat::U4Wide,
    PanelFormat::I8Wide,
    PanelFormat::I8Short,
];

/// What continuous batching relies on: bit for bit.
#[test]
fn a_row_of_few_does_not_depend_on_the_others() {
    const ROWS: usize = 15;
    let mut rng = StdRng::seed_from_u64(8);
    let (n, k) = (40, 320);
    for format in FORMATS {
        let (data, _) = random(format, n, k, &mut rng);
        let x: Vec<f32> = (0..ROWS * k).map(|_| rng.random_range(-1.0..1.0)).collect();
        let weights = Panels {
            format,
            columns: k,
            data: &data,
        };
        for level in Level::available() {
            let multiply = |x: &[f32]| {
                let mut sums = Vec::new();
                if format.block() > 1 {
                    block_sums(x, &mut sums);
                }
                let mut out = vec![f32::NAN; x.len() / k * n];
                let mut block = column_blocks(&mut out, n, n).next().unwrap();
                let (out_block, sums) = (&mut block, &sums);
                dispatch_at(
                    level,
                    Few {
                        x,
                        sums,
                        weights,
                        out: out_block,
                    },
                );
                out
            };
            let alone: Vec<f32> = x.chunks(k).flat_map(multiply).collect();
            for rows in 2..=ROWS {
                assert_eq!(
                    multiply(&x[..rows * k]),
                    alone[..rows * n],
                    "{format:?} {rows}"
                );
            }
        }
    }
}

#[test]
fn both_products_agree_with_f64_at_every_level_and_format() {
    let mut rng = StdRng::seed_from_u64(7);
    for format in FORMATS {
        for (m, n, k) in [
            (1, 16, 32),
            (2, 40, 64),
            (3, 7, 320),
            (8, 33, 608),
            (21, 50, 96),
            (130, 19, 640),
        ] {
            let k = if format.block() == 1 { k - 1 } else { k };
            let (data, exact) = random(format, n, k, &mut rng);
            let x: Vec<f32> = (0..m * k).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut sums = Vec::new();
            if format.block() > 1 {
                block_sums(&x, &mut sums);
            }
            let weights = Panels {
                format,
                columns: k,
                data: &data,
            };
            for level in Level::available() {
                let mut out = vec![f32::NAN; m * n];
                let mut block = column_blocks(&mut out, n, n).next().unwrap();
                if m <= FEW_ROWS {
                    dispatch_at(
                        level,
                        Few {
                            x: &x,
                            sums: &sums,
                            weights,
                            out: &mut block,
                        },
                    );
                    check(&out, &x, &exact, k, n);
                    out.fill(f32::NAN);
                    block = column_blocks(&mut out, n, n).next().unwrap();
                }
                dispatch_at(
                    level,
                    Many {
                        x: &x,
                        weights,
                        out: &mut block,
                        buffer: &mut Vec::new(),
                    },
                );
                check(&out, &x, &exact, k, n);
            }
        }
    }
}

fn check(out: &[f32], x: &[f32], weights: &[f32], k: usize, n: usize) {
    for (at, &actual) in out.iter().enumerate() {
        let (row, column) = (at / n, at % n);
        let pairs = x[row * k..(row + 1) * k]
            .iter()
            .zip(&weights[column * k..(column + 1) * k]);
        let (mut exact, mut size) = (0.0, 0.0);
        for (x, w) in pairs {
            exact += f64::from(*x) * f64::from(*w);
            size += f64::from(x.abs()) * (f64::from(w.abs()) + 1.0);
        }
        let bound = size * f64::from(f32::EPSILON) * ((k as f64).sqrt() + 8.0);
        assert!(
            (f64::from(actual) - exact).abs() <= bound,
            "row {row} column {column}: {actual} for {exact}"
        );
    }
}

#[test]
fn column_blocks_cover_a_matrix_once() {
    let mut data = vec![0.0; 3 * 20];
    for mut block in column_blocks(&mut data, 20, 16) {
        for row in 0..3 {
            block.panel(row, 0).iter_mut().for_each(|x| *x += 1.0);
        }
    }
    assert!(data.iter().all(|&x| x == 1.0));
    assert_eq!(
        column_blocks(&mut [], 20, 16)
            .map(|b| b.columns())
            .sum::<usize>(),
        20
    );
}

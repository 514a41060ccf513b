//! Products against f64, at every level and for every format.

use super::few::few_at;
use super::*;
use crate::simd::Level;
use crate::simd::linear::{BlockReader, Precision};
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
    let bytes = format.panel_bytes(columns);
    let mut data = vec![0u8; panels * bytes];
    let mut exact = vec![0.0; panels * WIDTH * columns];
    let (unit_bytes, unit) = (format.unit_bytes(), format.unit());
    for (panel, data) in data.chunks_exact_mut(bytes).enumerate() {
        for (n, bytes) in data.chunks_exact_mut(unit_bytes).enumerate() {
            for lane in 0..WIDTH {
                fill(format, bytes, lane, rng);
                let at = (panel * WIDTH + lane) * columns + n * unit;
                format.weights(bytes, lane, &mut exact[at..at + unit]);
            }
        }
    }
    (data, exact)
}

/// Fills one row of a unit.
fn fill(format: PanelFormat, unit: &mut [u8], lane: usize, rng: &mut StdRng) {
    let x: f32 = rng.random_range(-1.0..1.0);
    let Some(integers) = format.integers() else {
        let bytes = match format {
            PanelFormat::Blocks(reader) => (0..reader.bytes()).map(|_| rng.random()).collect(),
            PanelFormat::F32 => x.to_le_bytes().to_vec(),
            PanelFormat::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
            _ => bf16::from_f32(x).to_le_bytes().to_vec(),
        };
        return unit[bytes.len() * lane..][..bytes.len()].copy_from_slice(&bytes);
    };
    // The half float is shared by all blocks of a unit. Factors and codes go to their limits.
    let (scale, minimum) = (f16::from_f32(x / 10.0), f16::from_f32(x / 7.0));
    let (factors, most) = match format {
        PanelFormat::Q2K => (0..=15, 3),
        PanelFormat::Q3K => (-32..=31, 7),
        PanelFormat::Q4K => (0..=63, 15),
        PanelFormat::Q5K => (0..=63, 31),
        PanelFormat::Q6K => (-128..=127, 63),
        PanelFormat::IQ4XS => (-32..=31, 15),
        PanelFormat::IQ4NL | PanelFormat::MXFP4 => (1..=1, 15),
        PanelFormat::Q4_0 | PanelFormat::Q4_1 => (1..=1, 15),
        PanelFormat::Q5_0 | PanelFormat::Q5_1 => (1..=1, 31),
        _ => (1..=1, 255),
    };
    for block in 0..integers.unit() / integers.block() {
        if integers.has_powers() {
            integers.put_power(unit, lane, rng.random_range(120..128));
        } else {
            let scale = (scale, rng.random_range(factors.clone()));
            integers.put_scale(unit, lane, block, scale);
        }
        if integers.has_minimum() {
            integers.put_minimum(
                unit,
                lane,
                block,
                (minimum, rng.random_range(factors.clone())),
            );
        }
        let codes: Vec<u8> = (0..integers.block())
            .map(|_| rng.random_range(0..=most))
            .collect();
        integers.put_codes(unit, lane, block, &codes);
    }
}

const FORMATS: [PanelFormat; 18] = [
    PanelFormat::F32,
    PanelFormat::F16,
    PanelFormat::BF16,
    PanelFormat::Q4_0,
    PanelFormat::Q4_1,
    PanelFormat::Q5_0,
    PanelFormat::Q5_1,
    PanelFormat::Q8_0,
    PanelFormat::Q2K,
    PanelFormat::Q3K,
    PanelFormat::Q4K,
    PanelFormat::Q5K,
    PanelFormat::Q6K,
    PanelFormat::IQ4NL,
    PanelFormat::IQ4XS,
    PanelFormat::MXFP4,
    PanelFormat::Blocks(&Shorts {
        columns: 256,
        chunk: 64,
    }),
    PanelFormat::Blocks(&Shorts {
        columns: 64,
        chunk: 16,
    }),
];

/// Blocks of 12-bit integers, each in two bytes, and of a byte for each scale.
#[derive(Debug)]
struct Shorts {
    columns: usize,
    chunk: usize,
}

impl BlockReader for Shorts {
    fn columns(&self) -> usize {
        self.columns
    }
    fn bytes(&self) -> usize {
        2 * self.columns + self.columns / self.chunk
    }
    fn chunk(&self) -> usize {
        self.chunk
    }
    fn read(&self, block: &[u8], integers: &mut [i16], scales: &mut [f32]) {
        let (words, bytes) = block.split_at(2 * self.columns);
        for (to, word) in integers.iter_mut().zip(words.as_chunks().0) {
            // The largest sum is that of -2047, which a chunk of 64 has room for.
            *to = (i16::from_le_bytes(*word) >> 4).max(-2047);
        }
        for (to, byte) in scales.iter_mut().zip(bytes) {
            *to = f32::from(*byte as i8) / 65536.0;
        }
    }
}

/// By which kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Few(Precision),
    /// As bytes where both the level and the activations are for that.
    Many(Precision),
}
use Precision::{Bytes, Words};

impl Way {
    const ALL: [Self; 4] = [
        Self::Few(Words),
        Self::Many(Words),
        Self::Few(Bytes),
        Self::Many(Bytes),
    ];

    fn precision(self) -> Precision {
        match self {
            Self::Few(precision) | Self::Many(precision) => precision,
        }
    }
}

/// The products of all rows at a level.
fn products(level: Level, way: Way, x: &[f32], weights: Panels, n: usize) -> Vec<f32> {
    let mut rounded = Rounded::default();
    if weights.format.is_quantised() {
        let tiles = match way {
            Way::Few(_) => Tiles::Few,
            Way::Many(_) => Tiles::Many,
        };
        rounded.round(x, weights.columns, tiles, way.precision());
    }
    let x = Activations {
        floats: x,
        rounded: &rounded,
    };
    let mut out = vec![f32::NAN; x.floats.len() / weights.columns * n];
    let mut block = column_blocks(&mut out, n, n).next().unwrap();
    let (to, scratch) = (&mut block, &mut Scratch::default());
    if let Way::Few(_) = way {
        few_at(level, x, weights, to, scratch);
    } else {
        many_at(level, x, weights, to, scratch);
    }
    out
}

/// What continuous batching relies on: bit for bit. Integers promise more: few rows and many agree.
#[test]
fn a_row_does_not_depend_on_the_others() {
    const ROWS: usize = 15;
    let mut rng = StdRng::seed_from_u64(8);
    let (n, k) = (40, 512);
    for format in FORMATS {
        let (data, _) = random(format, n, k, &mut rng);
        let x: Vec<f32> = (0..ROWS * k).map(|_| rng.random_range(-1.0..1.0)).collect();
        let weights = Panels {
            format,
            columns: k,
            data: &data,
        };
        for (level, precision) in Level::available()
            .into_iter()
            .flat_map(|l| [(l, Words), (l, Bytes)])
        {
            let one = |x| products(level, Way::Few(precision), x, weights, n);
            let alone: Vec<f32> = x.chunks(k).flat_map(one).collect();
            for rows in 2..=ROWS {
                let few = products(level, Way::Few(precision), &x[..rows * k], weights, n);
                assert_eq!(few, alone[..rows * n], "{format:?} {rows}");
                let ways = Way::ALL
                    .into_iter()
                    .filter(|way| way.precision() == precision);
                for way in ways.filter(|_| format.is_quantised()) {
                    let many = products(level, way, &x[..rows * k], weights, n);
                    assert_eq!(many, few, "{format:?} {rows} {way:?} {level:?}");
                }
            }
        }
    }
}

#[test]
fn both_products_agree_with_f64_at_every_level_and_format() {
    let mut rng = StdRng::seed_from_u64(7);
    for format in FORMATS {
        for (m, n, k) in [
            (1, 16, 32usize),
            (2, 40, 64),
            (3, 7, 320),
            (8, 33, 608),
            (21, 50, 96),
            (130, 19, 640),
        ] {
            let k = match format.unit() {
                1 => k - 1,
                unit => k.next_multiple_of(unit),
            };
            let (data, exact) = random(format, n, k, &mut rng);
            let x: Vec<f32> = (0..m * k).map(|_| rng.random_range(-1.0..1.0)).collect();
            let weights = Panels {
                format,
                columns: k,
                data: &data,
            };
            for level in Level::available() {
                for way in Way::ALL {
                    let out = products(level, way, &x, weights, n);
                    check(format, way, &out, &x, &exact, k, n);
                }
            }
        }
    }
}

/// What a row's activations become as bytes.
fn bytes_of(x: &[f32]) -> Vec<f32> {
    let rounded = x.chunks(64).flat_map(|x| {
        let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
        let code = move |x: &f32| (x * (127.0 / most)).round_ties_even();
        x.iter().map(move |x| code(x) * (most / 127.0))
    });
    rounded.collect()
}

fn check(
    format: PanelFormat,
    way: Way,
    out: &[f32],
    x: &[f32],
    weights: &[f32],
    k: usize,
    n: usize,
) {
    let rounded = match way.precision() {
        Bytes if format.is_quantised() => x.chunks(k).flat_map(bytes_of).collect(),
        _ => x.to_vec(),
    };
    let x = &rounded;
    for (at, &actual) in out.iter().enumerate() {
        let (row, column) = (at / n, at % n);
        let x = &x[row * k..(row + 1) * k];
        let pairs = x.iter().zip(&weights[column * k..(column + 1) * k]);
        let (mut exact, mut size, mut rounding) = (0.0, 0.0, 0.0);
        for (x, w) in pairs {
            exact += f64::from(*x) * f64::from(*w);
            size += f64::from(x.abs()) * (f64::from(w.abs()) + 1.0);
            rounding += (f64::from(*w) / 32768.0).powi(2);
        }
        let mut bound = size * f64::from(f32::EPSILON) * ((k as f64).sqrt() + 8.0);
        if format.is_quantised() && way.precision() == Words {
            // Activations are below one and rounded to 2^-15 of it, independently: five deviations.
            bound += 5.0 * f64::sqrt(rounding / 3.0);
        }
        assert!(
            (f64::from(actual) - exact).abs() <= bound,
            "{format:?} {way:?} row {row} column {column}: {actual} for {exact}"
        );
    }
}

/// Every code and factor at the limit that its format can hold: no sum overflows.
#[test]
fn the_largest_sums_fit() {
    for format in FORMATS {
        let Some(integers) = format.integers() else {
            continue;
        };
        let (factor, code) = match format {
            PanelFormat::Q6K => (-128i8, 0),
            PanelFormat::Q3K => (-32, 0),
            PanelFormat::Q2K => (15, 3),
            PanelFormat::Q4K => (63, 15),
            PanelFormat::Q5K => (63, 31),
            PanelFormat::Q8_0 | PanelFormat::IQ4NL => (1, 0),
            PanelFormat::IQ4XS => (-32, 0),
            PanelFormat::Q4_0 | PanelFormat::Q4_1 | PanelFormat::MXFP4 => (1, 15),
            _ => (1, 31),
        };
        let k = 256;
        let mut data = vec![0; format.panel_bytes(k)];
        for unit in data.chunks_exact_mut(integers.unit_bytes()) {
            for (lane, block) in (0..WIDTH)
                .flat_map(|lane| (0..integers.unit() / integers.block()).map(move |b| (lane, b)))
            {
                if integers.has_powers() {
                    integers.put_power(unit, lane, 128);
                } else {
                    integers.put_scale(unit, lane, block, (f16::ONE, factor));
                }
                integers.put_codes(unit, lane, block, &vec![code; integers.block()]);
            }
        }
        let weights = Panels {
            format,
            columns: k,
            data: &data,
        };
        let mut weights_of_row = vec![0.0; integers.unit()];
        format.weights(&data, 0, &mut weights_of_row);
        let weight = weights_of_row[0];
        for (level, way, sign) in Level::available().into_iter().flat_map(|level| {
            let ways = Way::ALL.into_iter();
            ways.flat_map(move |way| [(level, way, 1.0), (level, way, -1.0)])
        }) {
            let out = products(level, way, &vec![sign; k], weights, WIDTH);
            let expected = sign * weight * k as f32;
            for actual in out {
                assert!(
                    (actual - expected).abs() <= 1e-6 * expected.abs(),
                    "{format:?} {level:?} {way:?}: {actual} for {expected}"
                );
            }
        }
    }
}

/// The same for blocks of a file: integers of -2047 in chunks of 64.
#[test]
fn the_largest_sums_of_blocks_fit() {
    let reader: &'static dyn BlockReader = &Shorts {
        columns: 256,
        chunk: 64,
    };
    let mut block = [0x00, 0x80].repeat(256);
    block.resize(reader.bytes(), 64);
    let weights = Panels {
        format: PanelFormat::Blocks(reader),
        columns: 256,
        data: &block.repeat(WIDTH),
    };
    let expected = -2047.0 * 64.0 / 65536.0 * 256.0;
    for (level, way) in Level::available()
        .into_iter()
        .flat_map(|level| Way::ALL.map(|way| (level, way)))
    {
        for actual in products(level, way, &[1.0; 256], weights, WIDTH) {
            let error: f32 = actual - expected;
            assert!(error.abs() <= 1e-6 * -expected, "{level:?}: {actual}");
        }
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

//! The layouts of ggml's quantised blocks, the only place that knows them.
//!
//! Origin: the structs of llama.cpp's `ggml-common.h`, and the order of codes and of packed scales
//! in gguf-py's `quants.py`.

use super::sub_block::{MOST, Scale, SubBlock, part};
use super::{TensorFormat, lattice};
use half::f16;
use selfextend_attention::simd::linear::{FP4, IQ4};

impl SubBlock {
    /// Columns of a sub-block of a format.
    pub(crate) fn len(format: TensorFormat) -> usize {
        match format {
            TensorFormat::Q2K | TensorFormat::Q3K | TensorFormat::Q6K => 16,
            TensorFormat::IQ2XS | TensorFormat::IQ2S | TensorFormat::IQ1M => 16,
            TensorFormat::NVFP4 => 16,
            _ => format.block_len().min(MOST),
        }
    }

    /// Sub-blocks of a block.
    pub(crate) fn count(format: TensorFormat) -> usize {
        format.block_len() / Self::len(format)
    }

    /// Sub-block `n` of a block.
    ///
    /// # Panics
    /// For formats whose numbers stand alone, which have no blocks.
    pub(crate) fn read(format: TensorFormat, block: &[u8], n: usize) -> Self {
        match format {
            TensorFormat::Q4_0 => {
                let codes = nibbles(part(block, 2));
                Self::new(Scale::read(block), None, |c| codes[c] as i8 - 8)
            }
            TensorFormat::Q4_1 => {
                let codes = nibbles(part(block, 4));
                Self::new(Scale::read(block), Some(Scale::read(&block[2..])), |c| {
                    codes[c] as i8
                })
            }
            TensorFormat::Q5_0 => {
                let codes = five_bits(part(block, 2));
                Self::new(Scale::read(block), None, |c| codes[c] as i8 - 16)
            }
            TensorFormat::Q5_1 => {
                let codes = five_bits(part(block, 4));
                Self::new(Scale::read(block), Some(Scale::read(&block[2..])), |c| {
                    codes[c] as i8
                })
            }
            TensorFormat::Q8_0 => {
                let codes: &[u8; MOST] = part(block, 2);
                Self::new(Scale::read(block), None, |c| codes[c] as i8)
            }
            TensorFormat::Q2K => q2_k(block, n),
            TensorFormat::Q3K => q3_k(block, n),
            TensorFormat::Q4K => q4_k(block, n),
            TensorFormat::Q5K => q5_k(block, n),
            TensorFormat::Q6K => q6_k(block, n),
            TensorFormat::IQ4NL => {
                let codes = nibbles(part(block, 2));
                Self::new(Scale::read(block), None, |c| IQ4.value(codes[c]))
            }
            TensorFormat::IQ4XS => iq4_xs(block, n),
            TensorFormat::MXFP4 => {
                // A power of two, halved because the values of codes are doubled.
                let scale = Scale::of(f16::ONE).shifted(i16::from(block[0]) - 128);
                let codes = nibbles(part(block, 1));
                Self::new(scale, None, |c| FP4.value(codes[c]))
            }
            TensorFormat::NVFP4 => nvfp4(block, n),
            TensorFormat::TQ1_0 => tq1_0(block, n),
            TensorFormat::TQ2_0 => tq2_0(block, n),
            TensorFormat::IQ3S => lattice::iq3_s(block, n),
            TensorFormat::IQ3XXS => lattice::iq3_xxs(block, n),
            TensorFormat::IQ2S => lattice::iq2_s(block, n),
            TensorFormat::IQ2XS => lattice::iq2_xs(block, n),
            TensorFormat::IQ2XXS => lattice::iq2_xxs(block, n),
            TensorFormat::IQ1S => lattice::iq1_s(block, n),
            TensorFormat::IQ1M => lattice::iq1_m(block, n),
            TensorFormat::F32 | TensorFormat::F16 | TensorFormat::BF16 => {
                panic!("{format} has no blocks")
            }
        }
    }
}

/// 32 codes of 4 bits in 16 bytes: the low halves of all bytes, then the high ones.
fn nibbles(bytes: &[u8; 16]) -> [u8; MOST] {
    std::array::from_fn(|c| bytes[c % 16] >> (c / 16 * 4) & 15)
}

/// As [`nibbles`], after 32 fifth bits.
fn five_bits(bytes: &[u8; 20]) -> [u8; MOST] {
    let fifth = u32::from_le_bytes(*part(bytes, 0));
    let lower = nibbles(part(bytes, 4));
    std::array::from_fn(|c| lower[c] | ((fifth >> c & 1) as u8) << 4)
}

/// 16 bytes (a scale in the low half, a minimum in the high), 64 bytes of codes, two half floats.
fn q2_k(block: &[u8], n: usize) -> SubBlock {
    let scales = block[n];
    let (d, dmin) = (Scale::read(&block[80..]), Scale::read(&block[82..]));
    let (scale, minimum) = (d.times(scales & 15), (-dmin).times(scales >> 4));
    let codes = two_bits(part(block, 16), n);
    SubBlock::short(scale, Some(minimum), |c| codes[c] as i8)
}

/// Sub-block `n` of 256 codes of two bits: 128 columns are four runs of 32, which share 32 bytes.
fn two_bits(codes: &[u8; 64], n: usize) -> [u8; 16] {
    let bytes: &[u8; 16] = part(codes, n / 8 * 32 + n % 2 * 16);
    bytes.map(|byte| byte >> (n % 8 / 2 * 2) & 3)
}

/// 32 bytes of third bits, 64 of lower two, 12 bytes of sixteen 6-bit scales, a half float.
fn q3_k(block: &[u8], n: usize) -> SubBlock {
    let scales = &block[96..108];
    // Lower four bits in the first eight bytes, upper two in the last four.
    let lower = scales[n % 8] >> (n / 8 * 4) & 15;
    let upper = scales[8 + n % 4] >> (n / 4 * 2) & 3;
    let scale = Scale::read(&block[108..]).times((lower | upper << 4).wrapping_sub(32));
    let (high, low): (&[u8; 16], _) = (part(block, n % 2 * 16), two_bits(part(block, 32), n));
    SubBlock::short(scale, None, |c| {
        // The code is centred on 0: a third bit that is not set takes 4 away.
        let third = high[c] >> (n / 2) & 1;
        low[c] as i8 - 4 * (1 - third as i8)
    })
}

/// Scale and minimum of sub-block `n` of Q4_K and Q5_K: two half floats, then eight pairs of 6 bits
/// in 12 bytes, the last four of each with their upper two bits in the upper bits of the first four.
fn scale_and_minimum(block: &[u8], n: usize) -> (Scale, Option<Scale>) {
    let packed = &block[4..16];
    let (scale, minimum) = if n < 4 {
        (packed[n] & 63, packed[n + 4] & 63)
    } else {
        (
            (packed[n + 4] & 15) | (packed[n - 4] >> 6 << 4),
            (packed[n + 4] >> 4) | (packed[n] >> 6 << 4),
        )
    };
    let (d, dmin) = (Scale::read(block), Scale::read(&block[2..]));
    (d.times(scale), Some((-dmin).times(minimum)))
}

/// Sub-block `n` of 256 codes of 4 bits: two sub-blocks share 32 bytes.
fn wide_nibbles(codes: &[u8; 128], n: usize) -> [u8; MOST] {
    let bytes: &[u8; MOST] = part(codes, n / 2 * MOST);
    bytes.map(|byte| byte >> (n % 2 * 4) & 15)
}

/// Scales and minima, 128 bytes of codes.
fn q4_k(block: &[u8], n: usize) -> SubBlock {
    let (scale, minimum) = scale_and_minimum(block, n);
    let codes = wide_nibbles(part(block, 16), n);
    SubBlock::new(scale, minimum, |c| codes[c] as i8)
}

/// As Q4_K, with 32 bytes of fifth bits before the codes: bit `n` is that of sub-block `n`.
fn q5_k(block: &[u8], n: usize) -> SubBlock {
    let (scale, minimum) = scale_and_minimum(block, n);
    let (fifth, lower): (&[u8; MOST], _) = (part(block, 16), wide_nibbles(part(block, 48), n));
    SubBlock::new(scale, minimum, |c| {
        (lower[c] | (fifth[c] >> n & 1) << 4) as i8
    })
}

/// 128 bytes of lower four bits, 64 of upper two, 16 scales (signed bytes), a half float. Each half
/// of a block is four runs of 32 columns; of the lower bits, the first two runs share 64 bytes with
/// the last two.
fn q6_k(block: &[u8], n: usize) -> SubBlock {
    let scale = Scale::read(&block[208..]).times(block[192 + n]);
    let lower: &[u8; 16] = part(block, n / 8 * 64 + n % 4 * 16);
    let upper = two_bits(part(block, 128), n);
    SubBlock::short(scale, None, |c| {
        let lower = lower[c] >> (n % 8 / 4 * 4) & 15;
        (lower | upper[c] << 4) as i8 - 32
    })
}

/// A half float, 8 scales of 6 bits (their upper two in a word, the lower four in 4 bytes), then for
/// each 32 columns 16 bytes of codes.
fn iq4_xs(block: &[u8], n: usize) -> SubBlock {
    let upper = u16::from_le_bytes(*part(block, 2)) >> (2 * n) & 3;
    let lower = block[4 + n / 2] >> (n % 2 * 4) & 15;
    let scale = (lower | (upper as u8) << 4).wrapping_sub(32);
    let codes = nibbles(part(block, 8 + 16 * n));
    SubBlock::new(Scale::read(block).times(scale), None, |c| {
        IQ4.value(codes[c])
    })
}

/// Four scales, floats of a byte (E4M3), and for each of their 16 columns 8 bytes of codes.
fn nvfp4(block: &[u8], n: usize) -> SubBlock {
    let half = match block[n] {
        // Not a number, which ggml reads as zero.
        0x7f => f16::ZERO,
        // Its exponent is smaller by 8 than that of a half float with the same bits, and the values
        // of codes are doubled. The sign does not count.
        byte => f16::from_bits(u16::from(byte & 0x7f) << 7),
    };
    let bytes: &[u8; 8] = part(block, 4 + 8 * n);
    SubBlock::short(Scale::of(half).shifted(7), None, |c| {
        FP4.value(bytes[c % 8] >> (c / 8 * 4))
    })
}

/// Digits of base 3, five in a byte: in 32 bytes, in 16 and, four only, in 4. A half float.
fn tq1_0(block: &[u8], n: usize) -> SubBlock {
    SubBlock::new(Scale::read(&block[52..]), None, |c| {
        let column = 32 * n + c;
        let (at, digit) = match column {
            0..160 => (column % 32, column / 32),
            160..240 => (32 + column % 16, (column - 160) / 16),
            _ => (48 + column % 4, (column - 240) / 4),
        };
        // A byte is a fraction of 256; times 3 for each digit that comes before, without the whole.
        let fraction = block[at].wrapping_mul([1, 3, 9, 27, 81][digit]);
        ((u16::from(fraction) * 3) >> 8) as i8 - 1
    })
}

/// 64 bytes of codes, a half float. 128 columns are four runs of 32, which share 32 bytes.
fn tq2_0(block: &[u8], n: usize) -> SubBlock {
    let bytes: &[u8; MOST] = part(block, n / 4 * MOST);
    SubBlock::new(Scale::read(&block[64..]), None, |c| {
        (bytes[c] >> (n % 4 * 2) & 3) as i8 - 1
    })
}

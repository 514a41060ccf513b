//! The blocks of ggml's IQ1, IQ2 and IQ3 formats: points of lattices, signs apart.
//!
//! Origin: the structs of llama.cpp's `ggml-common.h`, and the order of indices, signs and packed
//! scales in gguf-py's `quants.py`. A scale there is `d * (0.5 + s) / 4` (IQ2), `d * (0.5 + s) / 2`
//! (IQ3_XXS) or a weight `d * (2 * s + 1) * (point +- 1/8)` (IQ1); here it is `d * (2 * s + 1)` times
//! a power of two, which is the same number in every case.

use super::grids;
use super::sub_block::{Scale, SubBlock, part};
use half::f16;

/// An odd factor from a code `s`: `2 * s + 1`.
fn odd(scale: Scale, s: u8) -> Scale {
    scale.times(2 * (s & 15) + 1)
}

/// 4 bits in the halves of bytes, the lower half first.
fn nibble(bytes: &[u8], n: usize) -> u8 {
    bytes[n / 2] >> (n % 2 * 4) & 15
}

fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*part(block, at))
}

fn long_word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*part(block, at))
}

/// Seven signs and an eighth that makes their number even.
fn even(signs: u32) -> u8 {
    let signs = (signs & 127) as u8;
    signs | ((signs.count_ones() & 1) as u8) << 7
}

/// Eight numbers, with a sign for each.
fn signed(point: [i8; 8], signs: u8) -> [i8; 8] {
    std::array::from_fn(|c| {
        // All bits set where the sign is: its complement and one more is the number below zero.
        let sign = -((signs >> c & 1) as i8);
        (point[c] ^ sign) - sign
    })
}

fn join(points: [[i8; 4]; 2]) -> [i8; 8] {
    let [[a, b, c, d], [e, f, g, h]] = points;
    [a, b, c, d, e, f, g, h]
}

/// A half float, then for each 32 columns four bytes of indices and a word of signs and scale.
pub(super) fn iq2_xxs(block: &[u8], n: usize) -> SubBlock {
    let (indices, rest): (&[u8; 4], _) = (part(block, 2 + 8 * n), long_word(block, 6 + 8 * n));
    let scale = odd(Scale::read(block), (rest >> 28) as u8).shifted(-3);
    SubBlock::of::<4>(scale, |i| {
        let point = grids::IQ2_XXS[usize::from(indices[i])];
        signed(point, even(rest >> (7 * i)))
    })
}

/// A half float, 32 words of 9 bits of an index and 7 signs, 16 scales of 4 bits.
pub(super) fn iq2_xs(block: &[u8], n: usize) -> SubBlock {
    let scale = odd(Scale::read(block), nibble(&block[66..], n)).shifted(-3);
    SubBlock::of::<2>(scale, |i| {
        let word = word(block, 2 + 4 * n + 2 * i);
        let point = grids::IQ2_XS[usize::from(word & 511)];
        signed(point, even(u32::from(word >> 9)))
    })
}

/// A half float, 32 bytes of indices, 32 of signs, 8 of upper two bits of indices, 16 scales of
/// 4 bits.
pub(super) fn iq2_s(block: &[u8], n: usize) -> SubBlock {
    let scale = odd(Scale::read(block), nibble(&block[74..], n)).shifted(-3);
    SubBlock::of::<2>(scale, |i| {
        let i = 2 * n + i;
        let upper = usize::from(block[66 + i / 4] >> (i % 4 * 2) & 3);
        let point = grids::IQ2_S[usize::from(block[2 + i]) | upper << 8];
        signed(point, block[34 + i])
    })
}

/// A half float, 64 bytes of indices, 8 words of signs and scale.
pub(super) fn iq3_xxs(block: &[u8], n: usize) -> SubBlock {
    let (indices, rest): (&[u8; 8], _) = (part(block, 2 + 8 * n), long_word(block, 66 + 4 * n));
    let scale = odd(Scale::read(block), (rest >> 28) as u8).shifted(-2);
    SubBlock::of::<4>(scale, |i| {
        let point = |i: usize| grids::IQ3_XXS[usize::from(indices[i])];
        signed(
            join([point(2 * i), point(2 * i + 1)]),
            even(rest >> (7 * i)),
        )
    })
}

/// A half float, 64 bytes of indices, 8 of their ninth bits, 32 of signs, 8 scales of 4 bits.
pub(super) fn iq3_s(block: &[u8], n: usize) -> SubBlock {
    let scale = odd(Scale::read(block), nibble(&block[106..], n));
    let (indices, ninth): (&[u8; 8], _) = (part(block, 2 + 8 * n), block[66 + n]);
    let signs: &[u8; 4] = part(block, 74 + 4 * n);
    SubBlock::of::<4>(scale, |i| {
        let point = |i: usize| {
            let ninth = usize::from(ninth >> i & 1);
            grids::IQ3_S[usize::from(indices[i]) | ninth << 8]
        };
        signed(join([point(2 * i), point(2 * i + 1)]), signs[i])
    })
}

/// A point of IQ1 in eighths: an eighth is added to each number or taken away.
fn eighths(index: usize, less: bool) -> [i8; 8] {
    let eighth = if less { -1 } else { 1 };
    grids::IQ1_S[index].map(|number| 8 * number + eighth)
}

/// A half float, 32 bytes of indices, 8 words of their upper three bits, a scale of 3 bits and the
/// sign of the eighth.
pub(super) fn iq1_s(block: &[u8], n: usize) -> SubBlock {
    let rest = word(block, 34 + 2 * n);
    let scale = odd(Scale::read(block), (rest >> 12) as u8 & 7).shifted(-3);
    SubBlock::of::<4>(scale, |i| {
        let upper = usize::from(rest >> (3 * i) & 7);
        let index = usize::from(block[2 + 4 * n + i]) | upper << 8;
        eighths(index, rest >> 15 == 1)
    })
}

/// 32 bytes of indices, 16 of their upper three bits with the sign of the eighth, four words of
/// four scales of 3 bits each, with four bits of a half float above them.
pub(super) fn iq1_m(block: &[u8], n: usize) -> SubBlock {
    let half = (0..4).map(|i| word(block, 48 + 2 * i) >> 12 << (4 * i));
    let half = f16::from_bits(half.fold(0, |half, bits| half | bits));
    let s = word(block, 48 + n / 4 * 2) >> (n % 4 * 3);
    let scale = odd(Scale::of(half), s as u8 & 7).shifted(-3);
    SubBlock::of::<2>(scale, |i| {
        let rest = block[32 + n] >> (4 * i);
        let index = usize::from(block[2 * n + i]) | usize::from(rest & 7) << 8;
        eighths(index, rest & 8 != 0)
    })
}

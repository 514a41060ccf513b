//! From ggml's k-quants to panels: super-blocks of 256 columns, whose sub-blocks have scales (and
//! minima) that are small integers times half floats. The products are exact in floats.
//!
//! Layouts: ggml's, as candle documents them in `quantized::k_quants`.

use candle_core::quantized::GgmlDType;
use half::f16;
use selfextend_attention::simd::WIDTH;
use selfextend_attention::simd::linear::BLOCK;

/// Columns of a super-block.
pub(super) const SUPER: usize = 256;

/// Writes one super-block of one row into its units of a panel.
pub(super) fn pack(dtype: GgmlDType, block: &[u8], units: &mut [u8], lane: usize) {
    match dtype {
        GgmlDType::Q4K => pack_q4(block, units, lane),
        GgmlDType::Q5K => pack_q5(block, units, lane),
        GgmlDType::Q6K => pack_q6(block, units, lane),
        _ => pack_q3(block, units, lane),
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Writes row `n` of a unit's scales.
fn put_scale(unit: &mut [u8], n: usize, lane: usize, scale: f32) {
    unit[4 * (n * WIDTH + lane)..][..4].copy_from_slice(&scale.to_le_bytes());
}

/// Writes codes after `rows` rows of scales.
fn put_codes(unit: &mut [u8], rows: usize, lane: usize, codes: impl Iterator<Item = u8>) {
    let codes_at = 4 * rows * WIDTH;
    for (c, code) in codes.enumerate() {
        unit[codes_at + c * WIDTH + lane] = code;
    }
}

/// Scale and minimum of sub-block `n` of Q4_K and Q5_K: eight pairs of 6 bits in 12 bytes, the
/// last four of each with their upper two bits in the upper bits of the first four.
fn scale_and_minimum(block: &[u8], n: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if n < 4 {
        (packed[n] & 63, packed[n + 4] & 63)
    } else {
        (
            (packed[n + 4] & 15) | (packed[n - 4] >> 6 << 4),
            (packed[n + 4] >> 4) | (packed[n] >> 6 << 4),
        )
    };
    let (d, dmin) = (half(block), half(&block[2..]));
    (d * f32::from(scale), -dmin * f32::from(minimum))
}

/// 32 codes of sub-block `n`: the low or the high halves of 32 bytes.
fn nibbles(codes: &[u8], n: usize) -> impl Iterator<Item = u8> + Clone {
    let some = codes[n / 2 * BLOCK..][..BLOCK].iter();
    some.map(move |byte| {
        if n.is_multiple_of(2) {
            byte & 15
        } else {
            byte >> 4
        }
    })
}

/// Half floats `d` and `dmin`, 12 bytes of scales and minima, 128 bytes of codes.
fn pack_q4(block: &[u8], units: &mut [u8], lane: usize) {
    let size = units.len() / (SUPER / BLOCK);
    for (n, unit) in units.chunks_exact_mut(size).enumerate() {
        let (scale, minimum) = scale_and_minimum(block, n);
        put_scale(unit, 0, lane, scale);
        put_scale(unit, 1, lane, minimum);
        let codes = nibbles(&block[16..], n);
        let pairs = codes.clone().zip(codes.skip(BLOCK / 2)).take(BLOCK / 2);
        put_codes(unit, 2, lane, pairs.map(|(low, high)| low | high << 4));
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the codes: bit `n` is that of sub-block `n`.
fn pack_q5(block: &[u8], units: &mut [u8], lane: usize) {
    let size = units.len() / (SUPER / BLOCK);
    for (n, unit) in units.chunks_exact_mut(size).enumerate() {
        let (scale, minimum) = scale_and_minimum(block, n);
        put_scale(unit, 0, lane, scale);
        put_scale(unit, 1, lane, minimum);
        let high = block[16..48].iter().map(move |byte| (byte >> n & 1) << 4);
        let codes = nibbles(&block[48..], n).zip(high);
        put_codes(unit, 2, lane, codes.map(|(low, high)| low | high));
    }
}

/// 128 bytes of lower four bits, 64 of upper two, 16 scales (signed bytes), a half float. Each
/// half of a super-block is four runs of 32 columns.
fn pack_q6(block: &[u8], units: &mut [u8], lane: usize) {
    const SHORT: usize = BLOCK / 2;
    let (low, high, scales, d) = (
        &block[..128],
        &block[128..192],
        &block[192..208],
        half(&block[208..]),
    );
    let size = units.len() / (SUPER / SHORT);
    for (n, unit) in units.chunks_exact_mut(size).enumerate() {
        put_scale(unit, 0, lane, d * f32::from(scales[n] as i8));
        let code = |c: usize| {
            let column = n * SHORT + c;
            let (part, run, at) = (column / 128, column % 128 / 32, column % 32);
            let low = low[part * 64 + run % 2 * 32 + at] >> (run / 2 * 4) & 15;
            let high = high[part * 32 + at] >> (2 * run) & 3;
            (low | high << 4).wrapping_sub(32)
        };
        put_codes(unit, 1, lane, (0..SHORT).map(code));
    }
}

/// 32 bytes of third bits, 64 of lower two, 12 bytes of sixteen 6-bit scales, a half float.
fn pack_q3(block: &[u8], units: &mut [u8], lane: usize) {
    const SHORT: usize = BLOCK / 2;
    let (high, low, scales, d) = (
        &block[..32],
        &block[32..96],
        &block[96..108],
        half(&block[108..]),
    );
    let size = units.len() / (SUPER / SHORT);
    for (n, unit) in units.chunks_exact_mut(size).enumerate() {
        // Lower four bits in the first eight bytes, upper two in the last four.
        let lower = scales[n % 8] >> (n / 8 * 4) & 15;
        let upper = scales[8 + n % 4] >> (n / 4 * 2) & 3;
        let scale = i32::from(lower | upper << 4) - 32;
        put_scale(unit, 0, lane, d * scale as f32);
        let code = |c: usize| {
            let column = n * SHORT + c;
            let (run, at) = (column / 32, column % 32);
            let bits = low[column / 128 * 32 + at] >> (run % 4 * 2) & 3;
            let is_high = high[at] >> run & 1 == 1;
            bits.wrapping_sub(if is_high { 0 } else { 4 })
        };
        put_codes(unit, 1, lane, (0..SHORT).map(code));
    }
}

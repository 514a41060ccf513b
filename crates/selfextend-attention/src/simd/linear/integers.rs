//! The integers of quantised weights, and how panels store them.

use super::tables::Table;
use crate::simd::vector::WIDTH;
use half::f16;

/// Columns of activations that share a scale; the most that a sum of products covers.
pub const CHUNK: usize = 64;

/// Columns that share the half floats of [`SHARED`] scales.
pub(super) const SUPER: usize = 256;

/// Columns that are widened at once, a multiple of every unit: with their rows of activations they
/// stay in the second-level cache, and one panel of them in the first.
pub(in crate::simd) const WIDENED: usize = 2 * SUPER;

/// Bytes of 16 pairs of 16-bit numbers.
pub(super) const VECTOR: usize = 2 * WIDTH * size_of::<i16>();

/// What scales and minima are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scales {
    /// Half floats, one for each block.
    Own,
    /// A half float for 256 columns times a signed byte for each block.
    Shared,
    /// Powers of two, one for each block: `2^(e - 128)` for a byte `e`, which a half float cannot
    /// hold. There are no minima.
    Powers,
}

/// The integers of a quantised panel and how they are stored.
///
/// A unit is 16 rows of one block, or of 256 columns whose scales share a half float. It holds
///
/// 1. 16 scales and, if there are any (always where they are shared), 16 minima: half floats, or 16
///    bytes of exponents;
/// 2. if they are shared: 16 factors of scales for each block, then those of minima if there are
///    any: signed bytes;
/// 3. for each block its codes: vectors of 16 pairs of 16-bit words, a pair for each row. Word
///    `c % 2` of a pair holds some bits of column `c` beside those of columns `c + 2`, `c + 4`...:
///    first the lower four bits (or all two or eight) of all columns, then the upper ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integers {
    /// Bits of a code in the first vectors.
    pub(super) low: usize,
    /// Bits of a code in the last vector.
    pub(super) high: usize,
    /// Columns of a block: 16 or 32.
    pub(super) block: usize,
    pub(super) scales: Scales,
    pub(super) minimum: bool,
    pub(super) centre: i16,
    /// What codes stand for, where that is not themselves.
    pub(super) table: Option<&'static Table>,
}

impl Integers {
    pub(super) const fn new(bits: usize, block: usize, scales: Scales) -> Self {
        let low = if bits == 5 || bits == 6 { 4 } else { bits };
        Self {
            low,
            high: bits - low,
            block,
            scales,
            minimum: false,
            centre: 0,
            table: None,
        }
    }

    pub(super) const fn centred_on(self, centre: i16) -> Self {
        Self { centre, ..self }
    }

    pub(super) const fn with_minimum(self) -> Self {
        Self {
            minimum: true,
            ..self
        }
    }

    pub(super) const fn through(self, table: &'static Table) -> Self {
        Self {
            table: Some(table),
            ..self
        }
    }

    pub(super) const fn shared(self) -> bool {
        matches!(self.scales, Scales::Shared)
    }

    /// Columns of a block.
    pub const fn block(self) -> usize {
        self.block
    }

    /// Whether blocks have minima.
    pub const fn has_minimum(self) -> bool {
        self.minimum
    }

    /// The code of a weight of zero, where there is no minimum and codes stand for themselves.
    pub const fn centre(self) -> i16 {
        self.centre
    }

    /// Columns of a unit of storage.
    pub const fn unit(self) -> usize {
        if self.shared() { SUPER } else { self.block }
    }

    /// Bytes of a unit.
    pub const fn unit_bytes(self) -> usize {
        self.codes_at(self.unit() / self.block)
    }

    /// Columns whose products are summed as integers: those that share a scale, but not so many that
    /// `chunk * 16383 * largest weight` reaches 2^31, where a weight is its centred code times its
    /// factor. That is 31 * 63 for Q5_K in 64 columns, 32 * 128 for Q6_K and 127 * 32 for IQ4_XS in 32.
    pub(super) const fn chunk(self) -> usize {
        if self.shared() && self.high < 2 && self.table.is_none() {
            CHUNK
        } else {
            CHUNK / 2
        }
    }

    /// Bytes of the half floats or exponents.
    const fn halves(self) -> usize {
        match self.scales {
            Scales::Powers => WIDTH,
            Scales::Own if !self.minimum => WIDTH * size_of::<f16>(),
            _ => 2 * WIDTH * size_of::<f16>(),
        }
    }

    /// Where the factors of block `block` are.
    pub(super) const fn factors_at(self, block: usize) -> usize {
        self.halves() + WIDTH * block
    }

    /// Where the factors of the minimum of block `block` are.
    pub(super) const fn minima_at(self, block: usize) -> usize {
        self.factors_at(self.unit() / self.block + block)
    }

    /// Where the codes of block `block` are.
    pub(super) const fn codes_at(self, block: usize) -> usize {
        let blocks = self.unit() / self.block;
        let factors = match (self.shared(), self.minimum) {
            (false, _) => 0,
            (true, false) => blocks,
            (true, true) => 2 * blocks,
        };
        let vectors = self.block / 2 / (16 / self.low) + if self.high > 0 { 1 } else { 0 };
        self.halves() + factors * WIDTH + block * vectors * VECTOR
    }

    /// Writes the scale of a block of row `lane` of a unit: a half float and, if it is shared, a
    /// factor.
    ///
    /// # Panics
    /// When the unit is too short.
    pub fn put_scale(self, unit: &mut [u8], lane: usize, block: usize, scale: (f16, i8)) {
        self.put_number(unit, lane, 0, self.factors_at(block), scale);
    }

    /// Writes the scale of a block of row `lane` of a unit whose scales are powers of two:
    /// `2^(exponent - 128)`.
    ///
    /// # Panics
    /// When the unit is too short.
    pub fn put_power(self, unit: &mut [u8], lane: usize, exponent: u8) {
        assert!(self.has_powers());
        unit[lane] = exponent;
    }

    /// Whether scales are powers of two.
    pub const fn has_powers(self) -> bool {
        matches!(self.scales, Scales::Powers)
    }

    /// The code of a weight, given without its scale and minimum.
    pub fn code(self, weight: i8) -> u8 {
        match self.table {
            Some(table) => table.code(weight),
            None => (i16::from(weight) + self.centre) as u8,
        }
    }

    /// As [`Integers::put_scale`], for the minimum.
    ///
    /// # Panics
    /// When the unit is too short.
    pub fn put_minimum(self, unit: &mut [u8], lane: usize, block: usize, minimum: (f16, i8)) {
        self.put_number(unit, lane, 1, self.minima_at(block), minimum);
    }

    fn put_number(self, unit: &mut [u8], lane: usize, n: usize, at: usize, number: (f16, i8)) {
        unit[2 * (n * WIDTH + lane)..][..2].copy_from_slice(&number.0.to_le_bytes());
        if self.shared() {
            unit[at + lane] = number.1 as u8;
        }
    }

    /// Writes the codes of a block of row `lane`.
    ///
    /// # Panics
    /// When the unit is too short, or there are not as many codes as columns.
    pub fn put_codes(self, unit: &mut [u8], lane: usize, block: usize, codes: &[u8]) {
        assert!(codes.len() == self.block);
        let at = self.codes_at(block) + 4 * lane;
        let (in_vector, mask) = (16 / self.low, ((1u16 << self.low) - 1) as u8);
        for (n, codes) in codes.chunks_exact(2 * in_vector).enumerate() {
            put_words(unit, at + n * VECTOR, codes, self.low, |code| code & mask);
        }
        if self.high > 0 {
            let at = at + codes.len() / 2 / in_vector * VECTOR;
            put_words(unit, at, codes, self.high, |code| code >> self.low);
        }
    }

    /// A weight of row `lane` of a unit.
    ///
    /// # Panics
    /// When the unit is too short.
    pub fn weight(self, unit: &[u8], lane: usize, column: usize) -> f32 {
        let (block, column) = (column / self.block, column % self.block);
        let mut code = 0;
        for (bits, skipped, at, shift) in self.places(lane, block, column) {
            let word = u16::from_le_bytes([unit[at], unit[at + 1]]);
            code |= (word >> shift & ((1 << bits) - 1)) << skipped;
        }
        let number = |n: usize, at: usize| {
            if self.has_powers() {
                return 2f64.powi(i32::from(unit[lane]) - 128) as f32;
            }
            let at_half = 2 * (n * WIDTH + lane);
            let half = f16::from_le_bytes([unit[at_half], unit[at_half + 1]]).to_f32();
            if self.shared() {
                half * f32::from(unit[at + lane] as i8)
            } else {
                half
            }
        };
        let centred = match self.table {
            Some(table) => i16::from(table.value(code as u8)),
            None => code as i16 - self.centre,
        };
        let scaled = number(0, self.factors_at(block)) * f32::from(centred);
        if self.minimum {
            scaled + number(1, self.minima_at(block))
        } else {
            scaled
        }
    }

    /// Where the bits of a column's code are: how many, how many lower ones come before them, the
    /// byte at which their word is, and their place in it.
    fn places(
        self,
        lane: usize,
        block: usize,
        column: usize,
    ) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (pair, word) = (column / 2, 2 * lane + column % 2);
        let codes = self.codes_at(block) + 2 * word;
        let in_vector = 16 / self.low;
        let low = codes + pair / in_vector * VECTOR;
        let high = codes + self.block / 2 / in_vector * VECTOR;
        [
            (self.low, 0, low, pair % in_vector * self.low),
            (self.high, self.low, high, pair * self.high),
        ]
        .into_iter()
        .filter(|place| place.0 > 0)
    }
}

/// Writes a pair of words: the bits that `part` takes of the codes, those of every other column in
/// one word.
#[inline(always)]
fn put_words(unit: &mut [u8], at: usize, codes: &[u8], bits: usize, part: impl Fn(u8) -> u8) {
    let mut words = [0u16; 2];
    for (n, codes) in codes.as_chunks::<2>().0.iter().enumerate() {
        words[0] |= u16::from(part(codes[0])) << (bits * n);
        words[1] |= u16::from(part(codes[1])) << (bits * n);
    }
    let words = words.map(u16::to_le_bytes);
    unit[at..at + 4].copy_from_slice(words.as_flattened());
}

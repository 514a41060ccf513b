//! Columns of a block that share a scale, whatever the layout of their format.

use half::f16;
use std::ops::Neg;

/// Columns of a block that share a scale: a number is `scale * code`, plus the minimum where the
/// format has one.
pub(crate) struct SubBlock {
    pub scale: Scale,
    pub minimum: Option<Scale>,
    /// Codes, or what they stand for.
    codes: [i8; MOST],
    len: usize,
}

/// Columns of the longest sub-block.
pub(super) const MOST: usize = 32;

/// A scale or a minimum: a half float times a small integer, which is 1 where a block has no scales
/// of its parts, times a power of two, which is 1 but in some newer formats. The product is exact in
/// a float.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub half: f16,
    pub factor: i8,
    /// Of the power of two.
    pub exponent: i16,
}

impl Scale {
    /// The half float at the start of some bytes.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self::of(f16::from_le_bytes(*part(bytes, 0)))
    }

    pub(super) fn of(half: f16) -> Self {
        Self {
            half,
            factor: 1,
            exponent: 0,
        }
    }

    /// Times a power of two.
    pub(super) fn shifted(self, exponent: i16) -> Self {
        Self { exponent, ..self }
    }

    pub(super) fn times(self, factor: u8) -> Self {
        Self {
            factor: factor as i8,
            ..self
        }
    }

    /// Without its factor.
    pub(crate) fn unit(self) -> f32 {
        match self.exponent {
            0 => self.half.to_f32(),
            // In doubles: powers of floats below 2^-127 come out as zero.
            exponent => (self.half.to_f64() * 2f64.powi(exponent.into())) as f32,
        }
    }

    fn value(self) -> f32 {
        self.unit() * f32::from(self.factor)
    }
}

impl Neg for Scale {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            half: -self.half,
            ..self
        }
    }
}

impl SubBlock {
    /// Columns of the longest sub-block.
    pub(crate) const MOST: usize = MOST;

    /// 32 columns.
    pub(super) fn new(scale: Scale, minimum: Option<Scale>, code: impl Fn(usize) -> i8) -> Self {
        Self {
            scale,
            minimum,
            codes: std::array::from_fn(code),
            len: MOST,
        }
    }

    /// 16 columns.
    pub(super) fn short(scale: Scale, minimum: Option<Scale>, code: impl Fn(usize) -> i8) -> Self {
        let mut codes = [0; MOST];
        for (c, to) in codes[..MOST / 2].iter_mut().enumerate() {
            *to = code(c);
        }
        Self {
            scale,
            minimum,
            codes,
            len: MOST / 2,
        }
    }

    /// As many columns as `POINTS` points of a lattice have, eight each.
    pub(super) fn of<const POINTS: usize>(scale: Scale, point: impl Fn(usize) -> [i8; 8]) -> Self {
        let mut codes = [0; MOST];
        for (n, to) in codes.as_chunks_mut::<8>().0[..POINTS]
            .iter_mut()
            .enumerate()
        {
            *to = point(n);
        }
        Self {
            scale,
            minimum: None,
            codes,
            len: 8 * POINTS,
        }
    }

    /// One code for each column.
    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes[..self.len]
    }

    /// Appends its numbers.
    pub(super) fn write(&self, floats: &mut Vec<f32>) {
        let scale = self.scale.value();
        let scaled = self.codes().iter().map(|code| scale * f32::from(*code));
        match self.minimum.map(Scale::value) {
            // Not one case with a minimum of 0: that would turn -0 into 0.
            None => floats.extend(scaled),
            Some(minimum) => floats.extend(scaled.map(|x| x + minimum)),
        }
    }
}

/// Some bytes of a block, of a length known to the compiler: the loops over them need no checks.
pub(super) fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a whole block")
}

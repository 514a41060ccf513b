//! Values that codes of 4 bits stand for.
//!
//! Origin: `kvalues_iq4nl` and `kvalues_mxfp4` of ggml's `ggml-common.h` (MIT); the second are the
//! numbers of E2M1, doubled ("OCP Microscaling Formats Specification" 1.0, table 5).

/// What each code of 4 bits stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    values: [i8; 16],
    /// The values plus 128, as unsigned bytes.
    raised: [i8; 16],
    /// A code of each value that is there.
    codes: [u8; 256],
}

impl Table {
    const fn new(values: [i8; 16]) -> Self {
        let (mut codes, mut raised) = ([0; 256], values);
        // From the end: of codes with the same value the first one stays.
        let mut code = 16;
        while code > 0 {
            code -= 1;
            codes[values[code] as u8 as usize] = code as u8;
            raised[code] = values[code] ^ i8::MIN;
        }
        Self {
            values,
            raised,
            codes,
        }
    }

    /// The value of each code.
    #[inline(always)]
    pub(super) const fn values(&self) -> &[i8; 16] {
        &self.values
    }

    /// The bits of each value plus 128, an unsigned byte.
    #[inline(always)]
    pub(super) const fn raised(&self) -> &[i8; 16] {
        &self.raised
    }

    /// The value of a code; only its lower four bits count.
    pub fn value(&self, code: u8) -> i8 {
        self.values[usize::from(code & 15)]
    }

    /// The code of a value; 0 for what is not in the table.
    pub fn code(&self, value: i8) -> u8 {
        self.codes[usize::from(value as u8)]
    }
}

/// Values of IQ4_NL and IQ4_XS.
pub static IQ4: Table = Table::new([
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
]);

/// Values of MXFP4 and NVFP4: twice those of a float with 2 bits of exponent and one of mantissa.
pub static FP4: Table = Table::new([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_values_are_each_others_inverse() {
        for table in [&IQ4, &FP4] {
            for code in 0..16 {
                let value = table.value(code);
                assert_eq!(table.value(table.code(value)), value);
                let raised = table.raised()[usize::from(code)] as u8;
                assert_eq!(i16::from(raised), i16::from(value) + 128);
            }
        }
        assert_eq!((IQ4.code(-127), IQ4.code(113), FP4.code(0)), (0, 15, 0));
    }
}

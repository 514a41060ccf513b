//! Reproducible random numbers for generated texts and tokens.

/// SplitMix64 (Steele, Lea and Flood 2014): the same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from 0 to below 1, in steps of a millionth or so.
    pub fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    /// A decimal number of exactly `digits` digits (at least 1, at most 18).
    pub fn decimal(&mut self, digits: usize) -> String {
        let smallest = 10u64.pow(digits.clamp(1, 18) as u32 - 1);
        (smallest + self.below(9 * smallest)).to_string()
    }

    /// Shuffles items (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            items.swap(n, self.below(n as u64 + 1) as usize);
        }
    }

    /// `count` distinct numbers below `bound`, in random order.
    pub fn sample(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        self.shuffle(&mut all);
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_their_digits() {
        let mut random = Random::new(1);
        for digits in [1, 5, 18] {
            let number = random.decimal(digits);
            assert!(
                number.len() == digits && !number.starts_with('0'),
                "{number}"
            );
        }
        assert_eq!(random.decimal(0).len(), 1);
        assert_eq!(random.decimal(40).len(), 18);
    }
}

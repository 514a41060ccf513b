//! Numbers along an axis, and where they lie.

use super::style::grouped;

/// From numbers to points of a picture.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    /// The points of `low` and `high`.
    pixels: (i32, i32),
    ticks: Vec<f64>,
    digits: usize,
}

impl Axis {
    /// A linear axis from `low` to `high`, with about six numbers.
    pub(super) fn linear(low: f64, high: f64, pixels: (i32, i32)) -> Self {
        let (ticks, digits) = even_ticks(low, high);
        Self {
            low,
            high,
            is_log: false,
            pixels,
            ticks,
            digits,
        }
    }

    /// A logarithmic axis. Where its ends are within a decade, its numbers have one distance from
    /// each other, so that there are some however close the ends are; else they are 1, 2 and 5
    /// times powers of ten.
    pub(super) fn logarithmic(low: f64, high: f64, pixels: (i32, i32)) -> Self {
        let (ticks, digits) = if high / low < 10.0 {
            even_ticks(low, high)
        } else {
            (decade_ticks(low, high), decimals(low))
        };
        Self {
            low,
            high,
            is_log: true,
            pixels,
            ticks,
            digits,
        }
    }

    /// With these numbers, as far as they are apart.
    pub(super) fn with_ticks(mut self, ticks: &[f64], apart: i32) -> Self {
        self.ticks.clear();
        // From the largest down: the longest text matters most.
        for &tick in ticks.iter().rev() {
            let last = self.ticks.last();
            if last.is_none_or(|&last| (self.pixel(last) - self.pixel(tick)).abs() >= apart) {
                self.ticks.push(tick);
            }
        }
        self.ticks.reverse();
        self
    }

    /// The point of a number, cut at the ends of the axis.
    pub(super) fn pixel(&self, number: f64) -> i32 {
        let scale = |number: f64| {
            if self.is_log {
                number.max(f64::MIN_POSITIVE).ln()
            } else {
                number
            }
        };
        let (low, high) = (scale(self.low), scale(self.high));
        let share = ((scale(number) - low) / (high - low)).clamp(0.0, 1.0);
        let (from, to) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        (from + (to - from) * share).round() as i32
    }

    /// The numbers along the axis with their points.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, i32)> {
        self.ticks.iter().map(|&tick| (tick, self.pixel(tick)))
    }

    /// A number in words, with as many digits as tell neighbours apart.
    pub(super) fn label(&self, number: f64) -> String {
        if self.digits == 0 {
            return grouped(number);
        }
        let digits = self.digits;
        format!("{number:.digits$}")
    }
}

/// Digits after the point that a step of this size needs.
fn decimals(step: f64) -> usize {
    (-step.log10().floor()).clamp(0.0, 9.0) as usize
}

/// Multiples of 1, 2 or 5 times a power of ten, about six of them, and their digits.
fn even_ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let rough = (high - low) / 6.0;
    if !(rough > 0.0 && rough.is_finite()) {
        return (vec![low], decimals(low.abs().max(1e-9)));
    }
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let ticks = (first..=last).map(|n| n as f64 * step).collect();
    (ticks, decimals(step * (1.0 + 1e-9)))
}

/// 1, 2 and 5 times powers of ten; powers alone where those are many.
fn decade_ticks(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = exponents.flat_map(|exponent| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(exponent)));
    let inside: Vec<f64> = all.filter(|tick| (low..=high).contains(tick)).collect();
    if inside.len() <= 9 {
        return inside;
    }
    let is_power = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
    inside.into_iter().filter(is_power).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn close_numbers_still_get_ticks_that_differ() {
        let axis = Axis::logarithmic(8.28, 8.31, (500, 0));
        let labels: Vec<String> = axis.ticks().map(|(tick, _)| axis.label(tick)).collect();
        assert_eq!(labels, ["8.28", "8.29", "8.30", "8.31"]);
        let axis = Axis::logarithmic(3.0, 4000.0, (500, 0));
        let ticks: Vec<f64> = axis.ticks().map(|(tick, _)| tick).collect();
        assert_eq!(ticks[..2], [5.0, 10.0]);
        assert_eq!(axis.label(1000.0), "1,000");
    }

    #[test]
    fn given_ticks_keep_their_distance() {
        let axis = Axis::linear(0.0, 16384.0, (0, 1000));
        let axis = axis.with_ticks(&[512.0, 1024.0, 4096.0, 16384.0], 60);
        let ticks: Vec<f64> = axis.ticks().map(|(tick, _)| tick).collect();
        assert_eq!(ticks, [1024.0, 4096.0, 16384.0]);
    }

    proptest! {
        #[test]
        fn every_axis_has_some_numbers(low in 1e-3f64..1e4, factor in 1.001f64..1e6, is_log: bool) {
            let high = low * factor;
            let axis = if is_log {
                Axis::logarithmic(low, high, (0, 400))
            } else {
                Axis::linear(low, high, (0, 400))
            };
            let ticks: Vec<_> = axis.ticks().collect();
            prop_assert!((2..=13).contains(&ticks.len()), "{:?}", ticks);
            let labels: std::collections::HashSet<_> =
                ticks.iter().map(|(tick, _)| axis.label(*tick)).collect();
            prop_assert_eq!(labels.len(), ticks.len());
        }
    }
}

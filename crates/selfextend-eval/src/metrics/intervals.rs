//! Confidence intervals, all at 95%.

use crate::random::Random;

/// The ends of a 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The normal distribution's 97.5% point.
const Z: f64 = 1.959_963_984_540_054;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// Wilson's score interval (1927) for `successes` out of `n`; 0 to 1 if `n` is 0.
///
/// ```
/// let interval = selfextend_eval::metrics::wilson(9.0, 10);
/// assert!((interval.low - 0.596).abs() < 1e-3 && (interval.high - 0.982).abs() < 1e-3);
/// ```
pub fn wilson(successes: f64, n: usize) -> Interval {
    if n == 0 {
        return Interval {
            low: 0.0,
            high: 1.0,
        };
    }
    let n = n as f64;
    let share = successes / n;
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval {
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    }
}

/// A percentile bootstrap (Efron 1979): the interval of `value` over resamples of `items`.
fn bootstrap<T>(items: &[T], value: impl Fn(&mut dyn Iterator<Item = &T>) -> f64) -> Interval {
    let count = items.len() as u64;
    if count == 0 {
        return Interval {
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    // The seed is fixed, so a report written again has the same numbers.
    let mut random = Random::new(count);
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| value(&mut (0..count).map(|_| &items[random.below(count) as usize])))
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((RESAMPLES - 1) as f64 * share).round() as usize];
    Interval {
        low: at(0.025),
        high: at(0.975),
    }
}

/// The bootstrap interval of a mean.
pub fn bootstrap_mean(values: &[f64]) -> Interval {
    bootstrap(values, |some| {
        let (sum, count) = some.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
        sum / count
    })
}

/// The bootstrap interval of a perplexity, from blocks of text: the tokens of each and their
/// summed negative log-likelihood. Whole blocks are drawn because neighbouring tokens depend on
/// each other.
pub fn bootstrap_perplexity(blocks: &[(usize, f64)]) -> Interval {
    bootstrap(blocks, |some| perplexity_of(some))
}

/// The perplexity of texts, from the tokens of each and their summed negative log-likelihood:
/// lm-evaluation-harness's `weighted_perplexity`.
pub fn perplexity(texts: &[(usize, f64)]) -> f64 {
    perplexity_of(&mut texts.iter())
}

fn perplexity_of(texts: &mut dyn Iterator<Item = &(usize, f64)>) -> f64 {
    let (count, nll) = texts.fold((0.0, 0.0), |(n, sum), text| {
        (n + text.0 as f64, sum + text.1)
    });
    (nll / count).exp()
}

/// The mean of scores between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many scores there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Wilson's interval if every score is 0 or 1, otherwise a bootstrap interval.
    pub interval: Interval,
}

impl Summary {
    /// Summarises scores; `None` if there are none.
    pub fn of(scores: &[f64]) -> Option<Self> {
        if scores.is_empty() {
            return None;
        }
        let sum: f64 = scores.iter().sum();
        let is_accuracy = scores.iter().all(|&score| score == 0.0 || score == 1.0);
        Some(Self {
            count: scores.len(),
            mean: sum / scores.len() as f64,
            interval: if is_accuracy {
                wilson(sum, scores.len())
            } else {
                bootstrap_mean(scores)
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_of_0_and_1_get_the_interval_of_a_share() {
        let interval = |scores: &[f64]| Summary::of(scores).unwrap().interval;
        assert_eq!(interval(&[0.0, 1.0, 1.0]), wilson(2.0, 3));
        assert_eq!(interval(&[0.5, 1.0, 0.0]), bootstrap_mean(&[0.5, 1.0, 0.0]));
    }

    /// Of 0, 1, ... 1999, nearest ranks of 49.975 and 1949.025.
    #[test]
    fn a_bootstrap_ends_at_its_percentiles() {
        let drawn = std::cell::Cell::new(-1.0);
        let interval = bootstrap(&[()], |_| {
            drawn.set(drawn.get() + 1.0);
            drawn.get()
        });
        assert_eq!((interval.low, interval.high), (50.0, 1949.0));
    }

    /// statsmodels 0.15.0, `proportion_confint(k, n, method="wilson")`, computed once.
    #[test]
    fn wilson_agrees_with_statsmodels() {
        for (k, n, low, high) in WILSON {
            let interval = wilson(k, n);
            assert!((interval.low - low).abs() < 1e-9, "{k}/{n}: {interval:?}");
            assert!((interval.high - high).abs() < 1e-9, "{k}/{n}: {interval:?}");
        }
    }

    const WILSON: [(f64, usize, f64, f64); 4] = [
        (0.0, 10, 0.0, 0.277_532_799_862_889),
        (9.0, 10, 0.595_849_973_204_761, 0.982_123_786_904_927),
        (20.0, 20, 0.838_874_841_947_180, 1.0),
        (137.0, 200, 0.617_650_439_142_697, 0.745_376_790_097_715),
    ];

    proptest! {
        #[test]
        fn intervals_hold_their_mean(scores in prop::collection::vec(0.0f64..1.0, 1..50)) {
            let summary = Summary::of(&scores).unwrap();
            prop_assert!(summary.interval.low <= summary.mean + 1e-9);
            prop_assert!(summary.interval.high >= summary.mean - 1e-9);
            let again = Summary::of(&scores).unwrap();
            prop_assert_eq!(summary, again);
        }
    }

    #[test]
    fn equal_blocks_leave_no_doubt() {
        let interval = bootstrap_perplexity(&[(10, 20.0), (20, 40.0)]);
        let expected = 2f64.exp();
        assert!((interval.low - expected).abs() < 1e-9 && (interval.high - expected).abs() < 1e-9);
        assert!(Summary::of(&[]).is_none());
    }

    /// The bootstrap of a mean of many values approaches the normal interval, mean +- z s/sqrt(n).
    #[test]
    fn the_bootstrap_approaches_the_normal_interval() {
        let values: Vec<f64> = (0..1000).map(|n| f64::from(n) / 999.0).collect();
        let (interval, half) = (
            bootstrap_mean(&values),
            Z * (1.0 / 12.0f64).sqrt() / 1000f64.sqrt(),
        );
        assert!(
            (interval.low - (0.5 - half)).abs() < 0.004,
            "{interval:?} {half}"
        );
        assert!(
            (interval.high - (0.5 + half)).abs() < 0.004,
            "{interval:?} {half}"
        );
    }
}

//! How many proposed tokens pay: what a row of a pass costs, and who gets rows.

use selfextend_attention::cache::MOST_STEPS;

/// The most tokens that are proposed at a time.
pub const MOST_PROPOSALS: usize = MOST_STEPS - 1;

/// What a further row is expected to cost, of a pass with one, before any was measured.
const ROW: f64 = 0.2;
/// What becomes of the weight of older measurements with each new one.
const FADING: f64 = 0.95;
/// The weight of the expectation beside each measurement. So the price of rows goes back to it while
/// passes have one row only, and one disturbed pass cannot end proposing for ever.
const WEIGHT: f64 = 0.02;
/// Further rows of the imagined pass by which the expectation is told.
const AHEAD: f64 = 8.0;
/// The least that a further row costs of one: measurements alone can make it less than nothing.
const LEAST: f64 = 0.01;

/// Passes with up to so many rows are remembered by their number.
const REMEMBERED: usize = 32;
/// The weight of the line beside what is remembered of a number of rows.
const LINE: f64 = 0.2;
/// Further rows that are tried after the best number: rows are cheaper in twos and fours.
const FURTHER: usize = 8;

/// Seconds that decode passes take by their rows: a line through the measurements, the recent ones
/// above all, and what passes with just so many rows took. Kernels take rows in twos and fours, so
/// three can take longer than four.
#[derive(Debug, Clone, Default)]
pub struct PassCost {
    passes: usize,
    sums: Sums,
    /// Weights and weighted seconds of passes with one row, with two, ...
    each: [(f64, f64); REMEMBERED],
    /// Seconds of a pass with one row, and of each further row.
    known: Option<(f64, f64)>,
}

/// Weighted sums over points (rows, seconds).
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weight: f64,
    rows: f64,
    squares: f64,
    seconds: f64,
    products: f64,
}

impl Sums {
    fn fade(&mut self) {
        for sum in [
            &mut self.weight,
            &mut self.rows,
            &mut self.squares,
            &mut self.seconds,
            &mut self.products,
        ] {
            *sum *= FADING;
        }
    }

    fn add(&mut self, weight: f64, rows: f64, seconds: f64) {
        self.weight += weight;
        self.rows += weight * rows;
        self.squares += weight * rows * rows;
        self.seconds += weight * seconds;
        self.products += weight * rows * seconds;
    }
}

impl PassCost {
    /// A price that is known: what a further row costs of a pass with one. Nothing is measured.
    pub fn known(row: f64) -> Self {
        Self::known_in_all(1.0, row)
    }

    /// Prices that are known: of a pass with one row, and of each further row.
    pub(super) fn known_in_all(one: f64, row: f64) -> Self {
        Self {
            known: Some((one, row)),
            ..Self::default()
        }
    }

    /// Notes how long a pass with so many rows took.
    pub fn note(&mut self, rows: usize, seconds: f64) {
        if self.known.is_some() {
            return;
        }
        // The first one pays for buffers and rings of keys, as no other does.
        if self.passes <= 1 {
            self.sums = Sums::default();
            self.each = Default::default();
        }
        self.passes += 1;
        for (weight, sum) in &mut self.each {
            *weight *= FADING;
            *sum *= FADING;
        }
        if let Some((weight, sum)) = rows.checked_sub(1).and_then(|n| self.each.get_mut(n)) {
            *weight += 1.0;
            *sum += seconds;
        }
        let rows = rows as f64;
        let one = seconds / (1.0 + ROW * (rows - 1.0));
        self.sums.fade();
        self.sums.add(1.0, rows, seconds);
        let expected = one * (1.0 + ROW * (rows + AHEAD - 1.0));
        self.sums.add(WEIGHT, rows + AHEAD, expected);
    }

    /// Seconds of a pass with `rows` rows; nothing before any pass was measured.
    pub(super) fn seconds(&self, rows: usize) -> Option<f64> {
        let line = self.line(rows)?;
        let each = rows.checked_sub(1).and_then(|n| self.each.get(n));
        let (weight, sum) = each.copied().unwrap_or_default();
        Some((sum + LINE * line) / (weight + LINE))
    }

    /// The same by the line alone.
    fn line(&self, rows: usize) -> Option<f64> {
        let sums = &self.sums;
        if let Some((one, row)) = self.known {
            return Some(one + row * (rows as f64 - 1.0));
        }
        if self.passes == 0 {
            return None;
        }
        let (mean_rows, mean) = (sums.rows / sums.weight, sums.seconds / sums.weight);
        let variance = sums.squares / sums.weight - mean_rows * mean_rows;
        let covariance = sums.products / sums.weight - mean_rows * mean;
        let row = (covariance / variance).max(LEAST * mean / mean_rows);
        let pass = mean + row * (rows as f64 - mean_rows);
        Some(pass.max(row))
    }
}

/// How many proposed tokens each sequence of a pass gets. `chances` are, for each sequence, the
/// probabilities that its first, its first two, ... proposals are all right.
///
/// A further row makes the pass longer for all, and likely gives its sequence a token. It is worth it
/// where its sequence gains more, in proportion, than all together lose: rates of tokens whose product
/// is largest (proportional fairness). For one sequence these are the most tokens a second.
pub fn allot(chances: &[&[f64]], cost: &PassCost) -> Vec<usize> {
    let rows = |counts: &[usize]| counts.len() + counts.iter().sum::<usize>();
    allot_by(chances, |counts| cost.seconds(rows(counts)))
}

/// [`allot`], with the seconds that it takes to propose so many tokens of each sequence.
pub(super) fn allot_by(
    chances: &[&[f64]],
    seconds: impl Fn(&[usize]) -> Option<f64>,
) -> Vec<usize> {
    let sequences = chances.len();
    let mut counts = vec![0; sequences];
    let mut expected = vec![1.0; sequences];
    // Logarithms of the product: of tokens, and of rates.
    let mut tokens = 0.0;
    let rates = |tokens: f64, counts: &[usize]| {
        let seconds = seconds(counts)?;
        Some(tokens - sequences as f64 * f64::ln(seconds))
    };
    let Some(mut most) = rates(tokens, &counts) else {
        return counts;
    };
    let (mut best, mut rows, mut best_rows) = (counts.clone(), sequences, sequences);
    while rows < best_rows + FURTHER {
        let gain = |n: usize| Some(chances[n].get(counts[n])? / expected[n]);
        let gains = (0..sequences).filter_map(|n| Some((n, gain(n)?)));
        let Some((n, gain)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        expected[n] += chances[n][counts[n]];
        counts[n] += 1;
        rows += 1;
        tokens += gain.ln_1p();
        if let Some(product) = rates(tokens, &counts).filter(|&product| product > most) {
            (most, best_rows) = (product, rows);
            best.clone_from(&counts);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes that take `1 + row * (rows - 1)`.
    fn measured(row: f64, rows: &[usize]) -> PassCost {
        let mut cost = PassCost::default();
        for &rows in rows {
            cost.note(rows, 1.0 + row * (rows as f64 - 1.0));
        }
        cost
    }

    fn powers(chance: f64) -> Vec<f64> {
        (1..16).map(|n| chance.powi(n)).collect()
    }

    #[test]
    fn prices_are_those_of_the_measurements() {
        assert!(PassCost::default().seconds(1).is_none());
        for row in [0.02, 0.3, 1.0] {
            let some: Vec<usize> = (0..200).map(|n| [1, 5, 1, 9][n % 4]).collect();
            let cost = measured(row, &some);
            let pass = cost.seconds(1).unwrap();
            let price = cost.line(2).unwrap() - cost.line(1).unwrap();
            assert!((price - row).abs() < 0.15 * row + 0.01, "{price} for {row}");
            assert!((pass - 1.0).abs() < 0.1 + 0.1 * row, "{pass}");
        }
        // Passes that were shorter with more rows.
        let mut odd = PassCost::default();
        (0..50).for_each(|n| odd.note(1 + n % 2, 1.0 - 0.5 * (n % 2) as f64));
        assert!(odd.seconds(40).unwrap() > odd.seconds(39).unwrap());
    }

    #[test]
    fn a_disturbed_pass_is_forgotten() {
        let mut cost = measured(0.1, &[1; 30]);
        cost.note(9, 30.0);
        assert!(cost.seconds(9).unwrap() > 9.0);
        assert_eq!(allot(&[&powers(0.9)], &cost), [0]);
        (0..150).for_each(|_| cost.note(1, 1.0));
        assert!(allot(&[&powers(0.9)], &cost)[0] >= 4);
    }

    /// The count with the most expected tokens a second, found by trying all.
    #[test]
    fn one_sequence_gets_the_most_tokens_a_second() {
        for row in [0.02, 0.1, 0.5, 2.0] {
            let cost = measured(row, &[1, 5, 9].repeat(40));
            for chance in [0.02, 0.3, 0.6, 0.9, 0.99] {
                let chances = powers(chance);
                let rate = |n: usize| {
                    (1.0 + chances[..n].iter().sum::<f64>()) / cost.seconds(n + 1).unwrap()
                };
                let best = (0..16)
                    .max_by(|&a, &b| rate(a).total_cmp(&rate(b)))
                    .unwrap();
                let got = allot(&[&chances], &cost)[0];
                assert!(
                    rate(got) >= rate(best) * (1.0 - 1e-9),
                    "{row} {chance}: {got} {best}"
                );
            }
        }
    }

    /// Passes whose rows are taken in fours, and one that remains.
    #[test]
    fn numbers_of_rows_that_are_cheap_are_found() {
        let seconds =
            |rows: usize| 1.0 + 0.7 * ((rows - 1) / 4) as f64 + 0.3 * ((rows - 1) % 4) as f64;
        let mut cost = PassCost::default();
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].repeat(12) {
            cost.note(rows, seconds(rows));
        }
        for chance in [0.3, 0.6, 0.8, 0.9, 0.95] {
            let chances = powers(chance);
            let rate = |n: usize| (1.0 + chances[..n].iter().sum::<f64>()) / seconds(n + 1);
            let best = (0..12)
                .max_by(|&a, &b| rate(a).total_cmp(&rate(b)))
                .unwrap();
            let got = allot(&[&chances], &cost)[0];
            assert!(rate(got) >= 0.97 * rate(best), "{chance}: {got} {best}");
        }
    }

    #[test]
    fn nobody_pays_much_for_another() {
        let cost = measured(0.05, &[16, 20, 24].repeat(30));
        let (sure, unsure) = (powers(0.95), powers(0.1));
        let mut all: Vec<&[f64]> = vec![&unsure; 15];
        all.push(&sure);
        let counts = allot(&all, &cost);
        assert_eq!(counts[..15], [0; 15]);
        // Alone it gets all it asks for.
        assert!(counts[15] <= 2, "{counts:?}");
        assert_eq!(allot(&[&sure], &cost), [15]);
    }
}

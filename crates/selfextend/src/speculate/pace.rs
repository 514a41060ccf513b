//! How many proposed tokens pay: what a row of a pass costs, and who gets rows.

/// What a further row is expected to cost, of a pass with one, before any was measured.
const ROW: f64 = 0.1;
/// What becomes of the weight of older measurements with each new one.
const FADING: f64 = 0.95;
/// The weight of the expectation beside each measurement. So the price of rows goes back to it while
/// passes have one row only, and one disturbed pass cannot end proposing for ever.
const WEIGHT: f64 = 0.02;
/// Further rows of the imagined pass by which the expectation is told.
const AHEAD: f64 = 8.0;
/// The least that a further row costs of one: measurements alone can make it less than nothing.
const LEAST: f64 = 0.01;

/// Seconds that decode passes take by their rows: a line through the measurements, the recent ones
/// above all.
#[derive(Debug, Clone, Default)]
pub struct PassCost {
    passes: usize,
    sums: Sums,
    known: Option<f64>,
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
        Self {
            known: Some(row),
            ..Self::default()
        }
    }

    /// Notes how long a pass with so many rows took.
    pub fn note(&mut self, rows: usize, seconds: f64) {
        // The first one pays for buffers and rings of keys, as no other does.
        if self.passes <= 1 {
            self.sums = Sums::default();
        }
        self.passes += 1;
        let rows = rows as f64;
        let one = seconds / (1.0 + ROW * (rows - 1.0));
        self.sums.fade();
        self.sums.add(1.0, rows, seconds);
        let expected = one * (1.0 + ROW * (rows + AHEAD - 1.0));
        self.sums.add(WEIGHT, rows + AHEAD, expected);
    }

    /// Seconds of a pass with `rows` rows, and of a further row; nothing before any pass was measured.
    fn line(&self, rows: usize) -> Option<(f64, f64)> {
        let sums = &self.sums;
        if let Some(row) = self.known {
            return Some((1.0 + row * (rows as f64 - 1.0), row));
        }
        if self.passes == 0 {
            return None;
        }
        let (mean_rows, mean) = (sums.rows / sums.weight, sums.seconds / sums.weight);
        let variance = sums.squares / sums.weight - mean_rows * mean_rows;
        let covariance = sums.products / sums.weight - mean_rows * mean;
        let row = (covariance / variance).max(LEAST * mean / mean_rows);
        let pass = mean + row * (rows as f64 - mean_rows);
        Some((pass.max(row), row))
    }
}

/// How many proposed tokens each sequence of a pass gets. `chances` are, for each sequence, the
/// probabilities that its first, its first two, ... proposals are all right.
///
/// A further row makes the pass longer for all, and likely gives its sequence a token. It is worth it
/// where its sequence gains more, in proportion, than all together lose: rates of tokens whose product
/// is largest (proportional fairness). For one sequence these are the most tokens a second.
pub fn allot(chances: &[&[f64]], cost: &PassCost) -> Vec<usize> {
    let mut counts = vec![0; chances.len()];
    let Some((mut pass, row)) = cost.line(chances.len()) else {
        return counts;
    };
    let mut expected = vec![1.0; chances.len()];
    loop {
        let gain = |n: usize| Some(chances[n].get(counts[n])? / expected[n]);
        let gains = (0..chances.len()).filter_map(|n| Some((n, gain(n)?)));
        let Some((n, gain)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return counts;
        };
        if gain <= chances.len() as f64 * row / pass {
            return counts;
        }
        expected[n] += chances[n][counts[n]];
        counts[n] += 1;
        pass += row;
    }
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
        assert!(PassCost::default().line(1).is_none());
        for row in [0.02, 0.3, 1.0] {
            let some: Vec<usize> = (0..200).map(|n| [1, 5, 1, 9][n % 4]).collect();
            let (pass, price) = measured(row, &some).line(1).unwrap();
            assert!((price - row).abs() < 0.15 * row + 0.01, "{price} for {row}");
            assert!((pass - 1.0).abs() < 0.1 + 0.1 * row, "{pass}");
        }
        // Passes that were shorter with more rows.
        let mut odd = PassCost::default();
        (0..50).for_each(|n| odd.note(1 + n % 2, 1.0 - 0.5 * (n % 2) as f64));
        assert!(odd.line(1).unwrap().1 > 0.0);
    }

    #[test]
    fn a_disturbed_pass_is_forgotten() {
        let mut cost = measured(0.1, &[1; 30]);
        cost.note(9, 30.0);
        assert!(cost.line(1).unwrap().1 > 1.0);
        assert_eq!(allot(&[&powers(0.9)], &cost), [0]);
        (0..150).for_each(|_| cost.note(1, 1.0));
        assert!(allot(&[&powers(0.9)], &cost)[0] >= 4);
    }

    /// The count with the most expected tokens a second, found by trying all.
    #[test]
    fn one_sequence_gets_the_most_tokens_a_second() {
        for row in [0.02, 0.1, 0.5, 2.0] {
            let cost = measured(row, &[1, 5, 9].repeat(40));
            let (one, row) = cost.line(1).unwrap();
            for chance in [0.02, 0.3, 0.6, 0.9, 0.99] {
                let chances = powers(chance);
                let rate =
                    |n: usize| (1.0 + chances[..n].iter().sum::<f64>()) / (one + row * n as f64);
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

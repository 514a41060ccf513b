//! Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): every round doubles the samples
//! and keeps the better half.

use crate::error::{CliError, Result};
use crate::output;
use selfextend::Method;
use selfextend::profile::Losses;

/// A search over a list of candidates.
pub struct Search {
    /// Samples of each candidate in the last round.
    pub samples: usize,
}

/// A method and what it lost so far.
pub struct Candidate {
    pub method: Method,
    pub losses: Vec<Losses>,
}

/// The losses of a method on a sample, by its number; the text says what is being done.
pub type Evaluate<'a> = &'a mut dyn FnMut(&Method, usize, &str) -> Result<Losses>;

/// The mean of some losses.
pub fn mean(losses: &[Losses]) -> Losses {
    let average = |part: fn(&Losses) -> f64| {
        losses.iter().map(part).sum::<f64>() / losses.len().max(1) as f64
    };
    Losses {
        needle: average(|losses| losses.needle),
        text: average(|losses| losses.text),
    }
}

impl Search {
    /// How many times a search over `candidates` methods measures losses.
    pub fn measurements(&self, candidates: usize) -> usize {
        let (mut alive, mut samples) = (candidates, 1);
        let mut total = candidates;
        while samples < self.samples {
            alive = alive.div_ceil(2);
            let more = (2 * samples).min(self.samples);
            total += alive * (more - samples);
            samples = more;
        }
        total
    }

    /// The candidates of the last round, the best first. After Ctrl-C, those of the previous round.
    pub fn run(&self, methods: Vec<Method>, evaluate: Evaluate) -> Result<Vec<Candidate>> {
        let fresh = |method| Candidate {
            method,
            losses: Vec::new(),
        };
        let mut alive: Vec<_> = methods.into_iter().map(fresh).collect();
        let mut samples = 1;
        loop {
            for n in 0..alive.len() {
                let what = format!(
                    "{}, candidate {} of {}",
                    counted(samples),
                    n + 1,
                    alive.len()
                );
                while alive[n].losses.len() < samples {
                    let (method, sample) = (alive[n].method.clone(), alive[n].losses.len());
                    match evaluate(&method, sample, &what) {
                        Ok(losses) => alive[n].losses.push(losses),
                        Err(CliError::Interrupted) => return stopped(alive, samples),
                        Err(error) => return Err(error),
                    }
                }
            }
            alive.sort_by(|a, b| {
                let needle = |candidate: &Candidate| mean(&candidate.losses).needle;
                needle(a).total_cmp(&needle(b))
            });
            let best = mean(&alive[0].losses);
            output::note(&format!(
                "after {}: the best of {} is {}, needle loss {:.4}, text loss {:.4}",
                counted(samples),
                alive.len(),
                alive[0].method,
                best.needle,
                best.text
            ));
            if samples >= self.samples {
                return Ok(alive);
            }
            alive.truncate(alive.len().div_ceil(2));
            samples = (2 * samples).min(self.samples);
        }
    }
}

fn counted(samples: usize) -> String {
    let plural = if samples == 1 { "" } else { "s" };
    format!("{samples} sample{plural}")
}

/// After a stop, the candidates are still in the order of the round before.
fn stopped(alive: Vec<Candidate>, samples: usize) -> Result<Vec<Candidate>> {
    if samples == 1 {
        return Err(CliError::Interrupted);
    }
    output::note("stopped: the best of the previous round is taken");
    Ok(alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods() -> Vec<Method> {
        let windows = (1..=8).map(|window| format!("rerope:W={window}"));
        windows.map(|text| text.parse().unwrap()).collect()
    }

    /// The sample's noise would mislead a search by one sample alone.
    fn loss(method: &Method, sample: usize) -> Losses {
        let window: f64 = method.to_string()[9..].parse().unwrap();
        let noise = if sample == 0 && window == 2.0 {
            -2.5
        } else {
            0.0
        };
        Losses {
            needle: (window - 5.0).abs() + noise,
            text: 1.0,
        }
    }

    #[test]
    fn the_better_half_gets_twice_the_samples() {
        let mut asked = 0;
        let search = Search { samples: 4 };
        let ranked = search.run(methods(), &mut |method, sample, _| {
            asked += 1;
            Ok(loss(method, sample))
        });
        let ranked = ranked.unwrap();
        assert_eq!(ranked[0].method.to_string(), "rerope:W=5");
        // 8 once, 4 once more, 2 twice more.
        assert_eq!((asked, ranked.len()), (8 + 4 + 4, 2));
        assert_eq!(search.measurements(8), asked);
        assert_eq!(Search { samples: 5 }.measurements(5), 5 + 3 + 2 * 2 + 1);
    }

    #[test]
    fn an_interrupt_leaves_the_round_before() {
        for (after, works) in [(3, false), (10, true)] {
            let mut asked = 0;
            let ranked = Search { samples: 4 }.run(methods(), &mut |method, sample, _| {
                asked += 1;
                if asked > after {
                    Err(CliError::Interrupted)
                } else {
                    Ok(loss(method, sample))
                }
            });
            assert_eq!(ranked.is_ok(), works);
        }
    }
}

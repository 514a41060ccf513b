//! Finds the longest generated text that fits a number of tokens.

use crate::error::{EvalError, Result};

/// A text of as many units as fit into `limit` tokens.
pub(crate) struct Fitted<T> {
    pub(crate) made: T,
    pub(crate) tokens: Vec<u32>,
}

/// Finds the largest text of at most `limit` tokens, to within a few tokens or one unit:
/// `make(units)` gives the text of so many units and its tokens, which grow with them.
///
/// # Errors
/// What `make` returns, and a limit that is below the text of no units.
pub(crate) fn fit<T>(
    limit: usize,
    what: &str,
    make: impl FnMut(usize) -> Result<(T, Vec<u32>)>,
) -> Result<Fitted<T>> {
    // Low, so that the first text is not too long for generators that have only so many units.
    fit_units(limit, what, 10, make)
}

/// [`fit`] for units of about so many tokens.
pub(crate) fn fit_units<T>(
    limit: usize,
    what: &str,
    tokens_a_unit: usize,
    mut make: impl FnMut(usize) -> Result<(T, Vec<u32>)>,
) -> Result<Fitted<T>> {
    let (made, tokens) = make(0)?;
    if tokens.len() > limit {
        return Err(EvalError::settings(format!(
            "{what} takes at least {} tokens, more than the {limit} available",
            tokens.len()
        )));
    }
    let mut best = (0, Fitted { made, tokens });
    let close = (limit / 500).max(2);
    let mut too_many = usize::MAX;
    // Units per token, from the last two tries.
    let mut slope = 1.0 / tokens_a_unit as f64;
    let mut tried = (0, best.1.tokens.len());
    while limit - best.1.tokens.len() > close && too_many - best.0 > 1 {
        let room = limit as f64 - tried.1 as f64;
        let guess = tried.0 as f64 + room * slope;
        // Within what is known, and never the same again.
        let units = (guess.max(0.0) as usize).clamp(best.0 + 1, (too_many - 1).min(1 << 40));
        let (made, tokens) = make(units)?;
        if tokens.len() != tried.1 && units != tried.0 {
            slope = (units as f64 - tried.0 as f64) / (tokens.len() as f64 - tried.1 as f64);
        } else {
            slope *= 2.0;
        }
        tried = (units, tokens.len());
        if tokens.len() <= limit {
            best = (units, Fitted { made, tokens });
        } else {
            too_many = units;
            if too_many - best.0 > 1 && slope <= 0.0 {
                slope = 1.0;
            }
        }
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Units of uneven length, as words are.
        #[test]
        fn texts_fill_their_limit(
            limit in 50usize..5000,
            fixed in 0usize..50,
            sizes in prop::collection::vec(1usize..4, 7),
        ) {
            let size = |units: usize| {
                fixed + (0..units).map(|n| sizes[n % sizes.len()]).sum::<usize>()
            };
            let mut tries = 0;
            let found = fit(limit, "it", |units| {
                tries += 1;
                Ok((units, vec![0; size(units)]))
            }).unwrap();
            let close = (limit / 500).max(2);
            prop_assert!(found.tokens.len() <= limit);
            prop_assert!(limit - found.tokens.len() <= close || size(found.made + 1) > limit);
            prop_assert!(tries < 40, "{}", tries);
        }
    }

    /// As RULER's lists of words, which are limited.
    #[test]
    fn no_text_is_made_far_beyond_the_limit() {
        let most = |units: usize| match units {
            0..4000 => Ok((units, vec![0; 12 * units])),
            _ => Err(EvalError::settings("no such words")),
        };
        assert_eq!(fit(16384, "it", most).unwrap().made, 16384 / 12);
    }

    #[test]
    fn a_limit_below_every_text_is_refused() {
        let error = fit(5, "the question", |_| Ok(((), vec![0; 9])))
            .err()
            .unwrap();
        assert!(error.to_string().contains("at least 9 tokens"), "{error}");
    }
}

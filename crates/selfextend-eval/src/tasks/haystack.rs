//! What answers are hidden in: the filler that several tasks repeat, and depths.

use crate::error::{EvalError, Result};

/// A line of noise: passkey retrieval's and RULER's.
pub(super) const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// Refuses depths outside 0 (the start of the text) to 1 (its end).
pub(super) fn check_depths(depths: &[f64]) -> Result<()> {
    let Some(depth) = depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) else {
        return Ok(());
    };
    let reason = format!("the depth {depth} does not lie between 0 and 1");
    Err(EvalError::settings(reason))
}

/// The depths, the deepest first, each once: samples in this order share the longest prefixes.
pub(super) fn deepest_first(depths: &[f64]) -> Vec<f64> {
    let mut depths = depths.to_vec();
    depths.sort_by(|a, b| b.total_cmp(a));
    depths.dedup();
    depths
}

/// The sentences of a text: up to a full stop, question or exclamation mark (and what closes a quotation
/// or bracket after it) before white space, or up to an empty line.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let paragraphs = text.split("\n\n").flat_map(|part| part.split("\r\n\r\n"));
    paragraphs.flat_map(|paragraph| {
        let mut rest = paragraph.trim();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (sentence, after) = rest.split_at(first_end(rest));
            rest = after.trim_start();
            Some(sentence)
        })
    })
}

/// Where the first sentence of a text ends, in bytes.
fn first_end(text: &str) -> usize {
    let mut ended = false;
    for (at, c) in text.char_indices() {
        match c {
            '.' | '!' | '?' => ended = true,
            '"' | '\'' | ')' | ']' | '”' | '’' if ended => {}
            c if ended && c.is_whitespace() => return at,
            _ => ended = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_before_white_space() {
        let text = "One is 1.5 here. \"Two?\" Three\nis long!)\n\nA title\n\n Four … Ä. ";
        let all: Vec<&str> = sentences(text).collect();
        let expected = [
            "One is 1.5 here.",
            "\"Two?\"",
            "Three\nis long!)",
            "A title",
            "Four … Ä.",
        ];
        assert_eq!(all, expected);
        assert_eq!(sentences(" \n\n \n").count(), 0);
    }

    #[test]
    fn depths_are_checked_and_ordered() {
        assert!(check_depths(&[0.0, 1.0]).is_ok());
        assert!(check_depths(&[0.5, 1.1]).is_err() && check_depths(&[f64::NAN]).is_err());
        assert_eq!(deepest_first(&[0.1, 0.9, 0.1]), [0.9, 0.1]);
    }
}

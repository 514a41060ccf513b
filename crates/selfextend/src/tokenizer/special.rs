//! Finding tokens that stand in a text as a whole.

use aho_corasick::{AhoCorasick, MatchKind};

use super::TokenizerError;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Text between tokens; never empty.
    Text(&'t str),
    /// A token found in the text.
    Token(u32),
}

/// Splits texts at the tokens it was built with.
#[derive(Debug)]
pub(super) struct Splitter {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Splitter {
    pub(super) fn new<'v>(
        tokens: impl Iterator<Item = (u32, &'v str)>,
    ) -> Result<Self, TokenizerError> {
        let (ids, texts): (Vec<u32>, Vec<&str>) = tokens.unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(TokenizerError::engine)?;
        Ok(Self { automaton, ids })
    }

    /// The parts of `text` in order; of overlapping tokens the leftmost, then the longest.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        let mut rest = 0;
        for found in self.automaton.find_iter(text) {
            if rest < found.start() {
                parts.push(Part::Text(&text[rest..found.start()]));
            }
            parts.push(Part::Token(self.ids[found.pattern().as_usize()]));
            rest = found.end();
        }
        if rest < text.len() {
            parts.push(Part::Text(&text[rest..]));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_token_wins_and_text_between_is_kept() {
        let tokens = [(7, "<a>"), (8, "<a><b>"), (9, "é")];
        let splitter = Splitter::new(tokens.into_iter()).unwrap();
        let parts = splitter.split("x<a><b><a>yé");
        let expected = [
            Part::Text("x"),
            Part::Token(8),
            Part::Token(7),
            Part::Text("y"),
            Part::Token(9),
        ];
        assert_eq!(parts, expected);
        assert!(splitter.split("").is_empty());
    }

    #[test]
    fn no_tokens_leave_the_text_whole() {
        let splitter = Splitter::new(std::iter::empty()).unwrap();
        assert_eq!(splitter.split("<a>"), [Part::Text("<a>")]);
    }
}

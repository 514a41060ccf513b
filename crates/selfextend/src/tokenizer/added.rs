//! Added tokens: those that stand in a text as a whole, found before it is cut into words.
//!
//! The rules are those of the `tokenizers` crate (its `AddedVocabulary`), flags included. They are
//! not left to that crate because it cannot keep the markup of chat templates apart from the same
//! characters in a message: see [`Markup`].

use super::error::TokenizerError;
use aho_corasick::{AhoCorasick, MatchKind};
use regex_syntax::is_word_character;
use std::ops::Range;
use tokenizers::{NormalizedString, PreTokenizedString, Token, tokenizer::normalizer};

/// A token that is found in text as a whole, with the flags of tokenizer.json.
#[derive(Clone, Debug)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) text: String,
    /// Markup: found only where [`Markup`] allows it.
    pub(super) control: bool,
    /// Found only where no character of a word stands beside it.
    pub(super) single_word: bool,
    /// Takes in the white space before it.
    pub(super) lstrip: bool,
    /// Takes in the white space behind it.
    pub(super) rstrip: bool,
    /// Looked for in normalised text, in its own normalised form.
    pub(super) normalized: bool,
}

/// Where the text of a control token stands for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup {
    /// Nowhere: it is text like any other.
    Text,
    /// Everywhere, as the `tokenizers` crate reads it.
    Read,
    /// Where this character does not stand inside it. The character itself is no part of the text.
    Fenced(char),
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Text between tokens; never empty.
    Text(&'t str),
    /// A token found in the text.
    Token(u32),
}

/// The added tokens of a tokenizer.
#[derive(Debug)]
pub(super) struct AddedTokens {
    /// Those looked for in the text as it is.
    plain: Matcher,
    /// Those looked for in normalised text.
    normalized: Matcher,
    /// Control tokens of two characters and more: a single character cannot be fenced.
    control: Matcher,
}

impl AddedTokens {
    /// `normalize` is what the tokenizer does to text first.
    pub(super) fn new(
        tokens: Vec<AddedToken>,
        normalize: impl Fn(&mut NormalizedString) -> tokenizers::Result<()>,
    ) -> Result<Self, TokenizerError> {
        let of = |tokens: &[AddedToken], wanted: fn(&AddedToken) -> bool| {
            let wanted = tokens.iter().filter(|token| wanted(token));
            Matcher::new(wanted.cloned().collect())
        };
        let control = of(&tokens, |it| it.control && it.text.chars().count() > 1)?;
        let plain = of(&tokens, |it| !it.normalized)?;
        let mut normalized: Vec<_> = tokens.into_iter().filter(|it| it.normalized).collect();
        for token in &mut normalized {
            let mut text = NormalizedString::from(token.text.as_str());
            normalize(&mut text).map_err(TokenizerError::engine)?;
            token.text = text.get().to_owned();
        }
        let normalized = Matcher::new(normalized)?;
        Ok(Self {
            plain,
            normalized,
            control,
        })
    }

    /// Normalised text, cut at the tokens found in it.
    pub(super) fn split(
        &self,
        text: &str,
        markup: Markup,
        normalize: impl Fn(&mut NormalizedString) -> tokenizers::Result<()>,
    ) -> tokenizers::Result<PreTokenizedString> {
        let mut parts = PreTokenizedString::from(text);
        if let Markup::Fenced(fence) = markup {
            parts.split(|_, part| self.control.cut(&part, true))?;
            parts.normalize(|part| {
                if part.get().contains(fence) {
                    part.filter(|c| c != fence);
                }
                Ok(())
            })?;
        }
        let reads_control = markup == Markup::Read;
        parts.split(|_, part| self.plain.cut(&part, reads_control))?;
        parts.split(|_, mut part| {
            normalize(&mut part)?;
            self.normalized.cut(&part, reads_control)
        })?;
        Ok(parts)
    }

    /// Cuts text at the control tokens written in it, whatever their flags.
    pub(super) fn split_control<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        let mut rest = 0;
        for found in self.control.automaton.find_iter(text) {
            if rest < found.start() {
                parts.push(Part::Text(&text[rest..found.start()]));
            }
            parts.push(Part::Token(self.control.tokens[found.pattern()].id));
            rest = found.end();
        }
        if rest < text.len() {
            parts.push(Part::Text(&text[rest..]));
        }
        parts
    }
}

/// Finds tokens in a text: of overlapping ones the leftmost, then the longest.
#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    tokens: Vec<AddedToken>,
}

impl Matcher {
    fn new(tokens: Vec<AddedToken>) -> Result<Self, TokenizerError> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.text))
            .map_err(TokenizerError::engine)?;
        Ok(Self { automaton, tokens })
    }

    fn cut(
        &self,
        text: &NormalizedString,
        reads_control: bool,
    ) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
        let cut = |(id, range): (Option<u32>, Range<usize>)| {
            let part = text.slice(normalizer::Range::Normalized(range));
            let part = part.ok_or("an added token was cut inside a character")?;
            let token = id.map(|id| vec![Token::new(id, String::new(), (0, part.len()))]);
            Ok((part, token))
        };
        self.find(text.get(), reads_control)
            .into_iter()
            .map(cut)
            .collect()
    }

    /// The whole text as ranges, those of tokens with their ids.
    fn find(&self, text: &str, reads_control: bool) -> Vec<(Option<u32>, Range<usize>)> {
        let mut parts = Vec::new();
        let mut rest = 0;
        for found in self.automaton.find_iter(text) {
            let token = &self.tokens[found.pattern()];
            let (mut start, mut end) = (found.start(), found.end());
            let (before, behind) = (&text[..start], &text[end..]);
            if token.control && !reads_control || token.single_word && in_word(before, behind) {
                continue;
            }
            if token.lstrip {
                // What the token before took in is gone.
                start = before.trim_end().len().max(rest);
            }
            if token.rstrip {
                end += behind.len() - behind.trim_start().len();
            }
            if rest < start {
                parts.push((None, rest..start));
            }
            parts.push((Some(token.id), start..end));
            rest = end;
        }
        if rest < text.len() {
            parts.push((None, rest..text.len()));
        }
        parts
    }
}

fn in_word(before: &str, behind: &str) -> bool {
    before.chars().next_back().is_some_and(is_word_character)
        || behind.chars().next().is_some_and(is_word_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, text: &str) -> AddedToken {
        AddedToken {
            id,
            text: text.to_owned(),
            control: true,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
        }
    }

    #[test]
    fn longest_token_wins_and_text_between_is_kept() {
        let tokens = vec![token(7, "<a>"), token(8, "<a><b>"), token(9, "éé")];
        let added = AddedTokens::new(tokens, |_| Ok(())).unwrap();
        let parts = added.split_control("x<a><b><a>yéé");
        let expected = [
            Part::Text("x"),
            Part::Token(8),
            Part::Token(7),
            Part::Text("y"),
            Part::Token(9),
        ];
        assert_eq!(parts, expected);
        assert!(added.split_control("").is_empty());
    }

    #[test]
    fn no_tokens_leave_the_text_whole() {
        let added = AddedTokens::new(Vec::new(), |_| Ok(())).unwrap();
        assert_eq!(added.split_control("<a>"), [Part::Text("<a>")]);
    }
}

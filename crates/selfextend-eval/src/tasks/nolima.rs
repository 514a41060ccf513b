//! NoLiMa (Modarressi et al., arXiv 2502.05167): needles that share no word with their question, in its
//! shuffled books, from files in its format; prompts and scores as in the authors' code
//! (github.com/adobe-research/NoLiMa).
//!
//! Two things differ: a length is that of the whole prompt with its answer (there: of the book), and
//! only a drawn part of the needles may be asked for. Sets with distractors or system prompts are
//! refused.

mod needle_set;

use self::needle_set::{Case, cases};
use super::data::{read_text, stem};
use super::fit::fit;
use super::haystack::{check_depths, deepest_first};
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::right;
use crate::random::Random;
use crate::sample::{Ask, Sample, Tags};
use std::path::PathBuf;
use std::str::FromStr;

/// A sweep over needles, lengths and depths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NoLiMa {
    /// A needle set.
    pub needles: PathBuf,
    /// The books: each needle is hidden in one of them.
    pub books: Vec<PathBuf>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Where a needle is hidden: 0 is the start of the text, 1 its end.
    pub depths: Vec<f64>,
    /// The most questions, drawn with the seed; 0 for all.
    pub questions: usize,
    /// Seed of everything drawn.
    pub seed: u64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// When an answer is right.
    pub metric: NoLiMaMetric,
}

/// When an answer is right, as the authors call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLiMaMetric {
    /// It contains a right one.
    Contains,
    /// It is a right one.
    ExactMatch,
    /// Its last line contains a right one.
    LastLineContains,
    /// Its last line is a right one.
    LastLineExactMatch,
}

impl NoLiMaMetric {
    /// Every metric, with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("contains", Self::Contains),
        ("EM", Self::ExactMatch),
        ("lastline_contains", Self::LastLineContains),
        ("lastline_EM", Self::LastLineExactMatch),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, metric)| *metric == self);
        found.map_or("", |(name, _)| name)
    }

    /// Whether an answer is right.
    fn is_right(self, answer: &str, expected: &[String]) -> bool {
        let trimmed = answer.trim();
        let last = trimmed.rsplit('\n').next().unwrap_or_default();
        let (text, whole) = match self {
            Self::Contains => (answer, false),
            Self::ExactMatch => (trimmed, true),
            Self::LastLineContains => (last, false),
            Self::LastLineExactMatch => (last, true),
        };
        expected.iter().any(|right| {
            if whole {
                text == right
            } else {
                text.contains(&**right)
            }
        })
    }
}

impl FromStr for NoLiMaMetric {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, metric)| *metric).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            EvalError::settings(format!(
                "there is no metric {text:?} of NoLiMa; metrics: {names}"
            ))
        })
    }
}

impl NoLiMa {
    /// All questions at five depths, with answers of the authors' 192 tokens that contain a right one.
    pub fn new(needles: PathBuf, books: Vec<PathBuf>, lengths: Vec<usize>) -> Self {
        Self {
            needles,
            books,
            lengths,
            depths: vec![0.0, 0.25, 0.5, 0.75, 1.0],
            questions: 0,
            seed: 42,
            max_tokens: 192,
            metric: NoLiMaMetric::Contains,
        }
    }

    /// The samples, deepest first.
    ///
    /// # Errors
    /// Files that cannot be read or hold too little, depths outside 0 to 1, lengths too short for a
    /// question.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        check_depths(&self.depths)?;
        let mut cases = cases(&self.needles)?;
        if self.questions > 0 {
            Random::new(self.seed).shuffle(&mut cases);
            cases.truncate(self.questions);
        }
        let books = self.books.iter().map(|path| read_text(path));
        let books = books.collect::<Result<Vec<_>>>()?;
        if books.is_empty() {
            return Err(EvalError::settings("there are no books for the needles"));
        }
        let mut samples = Vec::new();
        for &length in &self.lengths {
            for (d, depth) in deepest_first(&self.depths).into_iter().enumerate() {
                for (n, case) in cases.iter().enumerate() {
                    // The same book and name at every length.
                    let seed = self.seed.wrapping_mul(1_000_003);
                    let random = Random::new(seed.wrapping_add((n * 1009 + d) as u64));
                    let place = (length, depth);
                    samples.push(self.sample(prompter, &books, case, place, random)?);
                }
            }
        }
        Ok(samples)
    }

    fn sample(
        &self,
        prompter: &Prompter,
        books: &[String],
        case: &Case,
        (length, depth): (usize, f64),
        mut random: Random,
    ) -> Result<Sample> {
        let book = random.below(books.len() as u64) as usize;
        let character = random.below(case.characters.len().max(1) as u64) as usize;
        let character = case.characters.get(character);
        let (needle, question, expected) = case.with_character(character);
        let told = prompter.continuation("", &format!(" {}", expected[0]))?;
        let room = length.saturating_sub(self.max_tokens.max(told.len()));
        let found = fit(room, "the question", |chars| {
            let text = with_needle(&books[book], &needle, chars, depth).ok_or_else(|| {
                let reason =
                    format!("too short for {length} tokens: NoLiMa's books are not repeated");
                EvalError::file(&self.books[book], reason)
            })?;
            let asked = case.template.replace("{question}", &question);
            let tokens = prompter.tokens(&asked.replace("{haystack}", &text), "")?;
            Ok(((), tokens))
        })?;
        let (metric, answers) = (self.metric, expected.clone());
        Ok(Sample {
            id: format!("{}/{length}/{depth}", case.name),
            tags: Tags::from([
                ("task".into(), case.kind.clone().into()),
                ("length".into(), length.into()),
                ("depth".into(), depth.into()),
                ("case".into(), case.name.clone().into()),
                ("book".into(), stem(&self.books[book]).into()),
            ]),
            context: length,
            ask: Ask::Answer {
                prompt: found.tokens,
                without_extension: None,
                max_tokens: self.max_tokens,
                stop: Vec::new(),
                expected,
                answer: told.into(),
                score: Box::new(move |text| right(metric.is_right(text, &answers))),
            },
        })
    }
}

/// The first `chars` characters of a book with a needle on a line of its own: behind the first line
/// that ends at the depth or after it, or at the end. `None` where the book is shorter.
fn with_needle(book: &str, needle: &str, chars: usize, depth: f64) -> Option<String> {
    let end = match book.char_indices().nth(chars) {
        Some((end, _)) => end,
        None if book.chars().count() == chars => book.len(),
        None => return None,
    };
    let book = &book[..end];
    let wanted = (chars as f64 * depth) as usize;
    let wanted = book.char_indices().nth(wanted).map_or(end, |(at, _)| at);
    let cut = if wanted == 0 {
        0
    } else {
        book[wanted..].find('\n').map_or(end, |at| wanted + at)
    };
    let (before, after) = book.split_at(cut);
    let after = after.strip_prefix('\n').unwrap_or(after);
    Some(format!("{before} {needle}\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn needles_stand_behind_lines() {
        let book = "One line.\nTwo lines.\nThree.";
        let at = |depth| with_needle(book, "N.", 27, depth).unwrap();
        assert_eq!(at(0.0), " N.\nOne line.\nTwo lines.\nThree.");
        assert_eq!(at(0.2), "One line. N.\nTwo lines.\nThree.");
        assert_eq!(at(0.5), "One line.\nTwo lines. N.\nThree.");
        assert_eq!(at(1.0), "One line.\nTwo lines.\nThree. N.\n");
        assert_eq!(with_needle(book, "N.", 28, 0.5), None);
    }

    /// `_evaluate_response` of the authors' code, by hand.
    #[test]
    fn answers_are_judged_as_by_the_authors() {
        let expected = ["Ann".to_owned()];
        let judged =
            |answer: &str| NoLiMaMetric::ALL.map(|(_, metric)| metric.is_right(answer, &expected));
        assert_eq!(judged(" Ann\n"), [true, true, true, true]);
        assert_eq!(judged("It is Ann."), [true, false, true, false]);
        assert_eq!(judged("Ann thinks.\nBen"), [true, false, false, false]);
        assert_eq!(judged("I think.\nAnn "), [true, false, true, true]);
        assert_eq!(judged("ann"), [false; 4]);
        for (name, metric) in NoLiMaMetric::ALL {
            assert_eq!(
                (name.parse::<NoLiMaMetric>().unwrap(), metric.name()),
                (metric, name)
            );
        }
    }

    proptest! {
        #[test]
        fn the_book_stays_whole(chars in 0usize..200, depth in 0.0f64..=1.0) {
            let book = "Äpfel und Birnen.\nMore of it, and so on!\n".repeat(6);
            let text = with_needle(&book, "N.", chars, depth).unwrap();
            prop_assert_eq!(text.matches(" N.\n").count(), 1);
            let rest: String = text.replacen(" N.\n", "\n", 1);
            let first: String = book.chars().take(chars).collect();
            let same = [format!("\n{first}"), format!("{first}\n"), first];
            prop_assert!(same.contains(&rest), "{rest}");
        }
    }
}

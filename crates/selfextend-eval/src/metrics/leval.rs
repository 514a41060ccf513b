//! Scores of L-Eval's closed-ended tasks: the extraction of its authors' `auto_eval.py`, then the
//! exact match of `em.py`.

use super::python::{float, is_space, pattern, words};
use super::text::without_articles;
use regex::Regex;
use selfextend::chat_template::is_digit;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

fn letters(text: &str) -> String {
    text.chars().filter(|c| LETTERS.contains(c)).collect()
}

/// The letters of a text, each once and in order.
fn letter_set(text: &str) -> String {
    let set: BTreeSet<char> = letters(text).chars().collect();
    set.into_iter().collect()
}

/// `em.py`: letters are compared as letters, with a quarter for some of several right ones;
/// numbers as numbers; anything else must occur in the answer, whatever case and spaces.
pub fn exact_match(answer: &str, expected: &str) -> f64 {
    let right = without_articles(expected);
    if right.chars().all(|c| LETTERS.contains(&c)) {
        let said = without_articles(answer);
        return if said == right {
            1.0
        } else if said.chars().all(|c| right.contains(c)) {
            0.25
        } else {
            0.0
        };
    }
    if let (Some(said), Some(right)) = (float(answer), float(expected)) {
        return super::right(said == right);
    }
    let bare = |text: &str| text.to_lowercase().replace(' ', "");
    super::right(bare(answer).contains(&bare(expected)))
}

/// Multiple choice. Only Coursera's questions have `several` right letters.
pub fn exam_choice(answer: &str, expected: &str, several: bool) -> f64 {
    let right = letters(words(expected).next().unwrap_or_default());
    let right = if right.is_empty() { "A" } else { &*right };
    exact_match(&chosen(answer, several), right)
}

/// The letters an answer names: A, as the authors guess, if it names none, and no letter if it is
/// empty.
fn chosen(answer: &str, several: bool) -> String {
    static ALONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Z][\s\x1c-\x1f.)]"));
    if answer.chars().all(is_space) {
        return "None".into();
    }
    if "ABCD".contains(answer) {
        return answer.to_owned();
    }
    if !several && let Some(letter) = answer.chars().find(|c| LETTERS.contains(c)) {
        return letter.into();
    }
    let rest = answer.trim_start_matches(LETTERS);
    let mut named = answer[..answer.len() - rest.len()].to_owned();
    if named.len() > 1 {
        return letter_set(&named);
    }
    let rest = rest.split("Question").next().unwrap_or_default();
    named.extend(ALONE.find_iter(rest).map(|found| found.as_str()));
    let found = letter_set(&named);
    if !found.is_empty() {
        return found;
    }
    // The first letters in a row, in their order.
    let from = rest.find(LETTERS).unwrap_or(rest.len());
    let run = rest[from..].chars().take_while(|c| LETTERS.contains(c));
    let run: String = run.collect();
    if run.is_empty() { "A".into() } else { run }
}

/// GSM: the number after "The answer is", or the last word with a digit of the first paragraph.
pub fn exam_math(answer: &str, expected: &str) -> f64 {
    exact_match(&number(answer), &number(expected))
}

/// The digits of the number up to its point.
fn number(text: &str) -> String {
    static ANSWER: LazyLock<Regex> = LazyLock::new(|| pattern(r"The answer is ([^\s\x1c-\x1f]+)"));
    let word = match ANSWER.captures(text).and_then(|found| found.get(1)) {
        Some(word) => word.as_str(),
        None => {
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            let mut words = paragraph.split(' ').rev();
            words
                .find(|word| word.chars().any(is_digit))
                .unwrap_or_default()
        }
    };
    let before = word.split('.').next().unwrap_or_default();
    before.chars().filter(|&c| is_digit(c)).collect()
}

/// CodeU: the last words of the answer, or those after "the final output", as many as the right
/// answer has and three more.
pub fn exam_code(answer: &str, expected: &str) -> f64 {
    let count = words(expected).count() + 3;
    let mut text = code_text(answer);
    for phrase in [
        "will be",
        "of the code",
        "is",
        "would be",
        "the value of",
        "the result of",
        "printed",
    ] {
        text = text.replace(phrase, "");
    }
    // `re.split` leaves empty texts at the ends.
    let split = |text: &str| -> Vec<String> { SPACES.split(text).map(str::to_owned).collect() };
    let found = match text.rsplit_once("the final output") {
        Some((_, after)) => {
            let mut words = split(after);
            words.truncate(count);
            words
        }
        None => {
            let words = split(&text);
            words[words.len().saturating_sub(count)..].to_vec()
        }
    };
    exact_match(&found.join(" "), &code_text(expected))
}

static SPACES: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\s\x1c-\x1f]+"));

/// A value without the differences that the authors ignore.
fn code_text(text: &str) -> String {
    let mut text = SPACES.replace_all(text, " ").into_owned();
    for (from, to) in [
        (",", ""),
        ("'", ""),
        ("\\", ""),
        (".0", ""),
        ("] [", "]["),
        ("[ [", "[["),
        ("] ]", "]]"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// Which side of a true-or-false question is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What holds in the story.
    Story,
    /// What holds outside it.
    Fact,
}

/// True or false: the first word that says either. The authors join both answers as
/// `STORY [fact: FACT]` and take them apart at that mark, wherever it is.
pub fn exam_judgement(answer: &str, expected: &str, side: Side) -> f64 {
    let answer = answer.to_lowercase();
    let text = match (side, answer.split_once("[fact:")) {
        (_, None) => &*answer,
        (Side::Story, Some((before, _))) => before,
        // They also drop its last character, which they take for the bracket.
        (Side::Fact, Some((before, _))) => {
            let mut chars = before.chars();
            chars.next_back();
            chars.as_str()
        }
    };
    let said = words(text).find_map(|word| {
        ["true", "false"]
            .into_iter()
            .find(|said| word.contains(said))
    });
    exact_match(
        said.unwrap_or("<error>"),
        expected.trim_matches(is_space).to_lowercase().as_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_after_the_words() {
        assert_eq!(
            exam_math("3+4=7.\nThe answer is 12", "The answer is 12"),
            1.0
        );
        assert_eq!(exam_math("It costs 120", "so\nThe answer is 12"), 0.0);
        assert_eq!(
            exam_math("That is $1,200.50 in all", "The answer is 1200"),
            1.0
        );
    }

    #[test]
    fn an_empty_choice_is_wrong() {
        assert_eq!(exam_choice("", "A", false), 0.0);
        assert_eq!(exam_choice("none of them", "A", false), 1.0);
        assert_eq!(exam_choice("B", "BD", true), 0.25);
    }
}

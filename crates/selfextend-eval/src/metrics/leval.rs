//! Scores of L-Eval's closed-ended tasks, as its authors' `auto_eval.py` and `em.py` give them.

use std::collections::BTreeSet;

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

fn letters(text: &str) -> String {
    text.chars().filter(|c| LETTERS.contains(c)).collect()
}

/// The letters of a text, each once and in order.
fn letter_set(text: &str) -> String {
    letters(text)
        .chars()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Multiple choice: 1 for the right letters, a quarter for some of several right ones (which
/// only `several` tasks have), 0 otherwise. An answer without a letter counts as A, as the
/// authors guess for it.
pub fn exam_choice(answer: &str, expected: &str, several: bool) -> f64 {
    let said = chosen(answer, several);
    let right = letters(expected.split_whitespace().next().unwrap_or_default());
    let right = if right.is_empty() {
        "A".to_owned()
    } else {
        right
    };
    match said {
        said if said == right => 1.0,
        said if said.chars().all(|c| right.contains(c)) => 0.25,
        _ => 0.0,
    }
}

/// The letters an answer names.
fn chosen(answer: &str, several: bool) -> String {
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
    // Letters that stand alone, before white space, a full stop or a bracket.
    let rest = rest.split("Question").next().unwrap_or_default();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if LETTERS.contains(&c)
            && chars
                .peek()
                .is_some_and(|&next| next.is_whitespace() || next == '.' || next == ')')
        {
            named.push(c);
        }
    }
    match letter_set(&named) {
        none if none.is_empty() => "A".into(),
        some => some,
    }
}

/// True or false: whether the first word that says either says the right one.
pub fn exam_judgement(answer: &str, expected: &str) -> f64 {
    let answer = answer.to_lowercase();
    let said = answer.split_whitespace().find_map(|word| match word {
        word if word.contains("true") => Some("true"),
        word if word.contains("false") => Some("false"),
        _ => None,
    });
    f64::from(u8::from(
        said == Some(expected.trim().to_lowercase().as_str()),
    ))
}

/// Short answers: whether the first line of more than one character contains the right answer,
/// whatever case and spaces.
pub fn exam_match(answer: &str, expected: &str) -> f64 {
    if let (Ok(said), Ok(right)) = (answer.trim().parse::<f64>(), expected.trim().parse::<f64>()) {
        return f64::from(u8::from(said == right));
    }
    let line = answer
        .split('\n')
        .find(|line| line.chars().count() > 1)
        .unwrap_or(answer);
    let bare = |text: &str| text.to_lowercase().replace(' ', "");
    f64::from(u8::from(bare(line).contains(&bare(expected))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the authors' functions for these answers, by hand from their code.
    #[test]
    fn choices_are_read_as_the_authors_do() {
        for (answer, several, named) in [
            ("B", false, "B"),
            ("The answer is (C) because", false, "C"),
            ("none of them", false, "A"),
            ("", false, ""),
            ("DB", true, "BD"),
            ("B, D", true, "B"),
            ("B. and D.", true, "BD"),
            ("It is A. Question B.", true, "A"),
            ("nothing", true, "A"),
        ] {
            assert_eq!(chosen(answer, several), named, "{answer:?}");
        }
        assert_eq!(exam_choice("BD", "BD", true), 1.0);
        assert_eq!(exam_choice("B", "BD", true), 0.25);
        assert_eq!(exam_choice("AB", "BD", true), 0.0);
        assert_eq!(
            exam_choice("(B) Their", "(B) Their subconscious", false),
            1.0
        );
    }

    #[test]
    fn judgements_and_matches() {
        assert_eq!(exam_judgement("It is True, I think false", "True"), 1.0);
        assert_eq!(exam_judgement("untrue", "True"), 1.0);
        assert_eq!(exam_judgement("maybe", "False"), 0.0);
        assert_eq!(
            exam_match(
                "\n \nThe role of  art in society.\nmore",
                "The role of art in society"
            ),
            1.0
        );
        assert_eq!(exam_match("Space", "The role of art"), 0.0);
        assert_eq!(
            (exam_match("42.0", "42"), exam_match("42", "4")),
            (1.0, 0.0)
        );
    }
}

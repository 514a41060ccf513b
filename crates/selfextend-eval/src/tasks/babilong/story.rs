//! bAbI's stories (Weston et al., arXiv 1502.05698), as its files write them.

use crate::error::{EvalError, Result};
use crate::tasks::data::read_text;
use std::path::Path;

/// A question, and the facts told before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Story {
    pub(super) facts: Vec<String>,
    pub(super) question: String,
    pub(super) answer: String,
}

/// The stories of a file: lines of a number and a fact, or a number, a question, a tab, its answer,
/// a tab and the numbers of the facts that tell it (some copies have `|` for tabs). A story starts
/// where the number is 1, and each of its questions is asked after all facts before it (BABILong's
/// `get_dataset_df`).
pub(super) fn stories(path: &Path) -> Result<Vec<Story>> {
    let text = read_text(path)?;
    let (mut facts, mut stories) = (Vec::<String>::new(), Vec::new());
    for (n, line) in text.lines().enumerate() {
        let bad = |reason: &str| EvalError::line(path, n + 1, reason);
        let (number, rest) = line
            .split_once(' ')
            .ok_or_else(|| bad("not a number and a sentence"))?;
        let number: usize = number
            .parse()
            .map_err(|_| bad("does not begin with a number"))?;
        if number == 1 {
            facts.clear();
        }
        let mut parts = rest.split(['\t', '|']).map(str::trim);
        let sentence = parts.next().unwrap_or_default().to_owned();
        let Some(answer) = parts.next() else {
            facts.push(sentence);
            continue;
        };
        if answer.is_empty() || facts.is_empty() {
            return Err(bad("a question without an answer or without facts"));
        }
        stories.push(Story {
            facts: facts.clone(),
            question: sentence,
            answer: answer.to_owned(),
        });
    }
    if stories.is_empty() {
        return Err(EvalError::file(path, "the file asks no questions"));
    }
    Ok(stories)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Story>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qa1_x_test.txt");
        std::fs::write(&path, text).unwrap();
        stories(&path)
    }

    #[test]
    fn questions_come_with_the_facts_before_them() {
        let text = "1 A went.\n2 Where is A? \tx\t1\n3 A ran.\n4 Where is A? |y|3\n1 B is.\n2 Where is B? \tz\t1\n";
        let all = read(text).unwrap();
        let facts: Vec<_> = all.iter().map(|story| story.facts.len()).collect();
        assert_eq!(facts, [1, 2, 1]);
        assert_eq!(
            (&*all[1].question, &*all[1].answer, &*all[2].facts[0]),
            ("Where is A?", "y", "B is.")
        );
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, reason) in [
            ("1 A went.\nx\n", "line 2"),
            ("1 A went.\nA Where? \tx\n", "line 2"),
            ("1 Where? \tx\t1\n", "line 1"),
            ("1 A went.\n", "no questions"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

//! The score of graph walks.

use super::python::{is_space, pattern};
use std::collections::HashSet;
use std::sync::LazyLock;

/// F1 of the nodes in the last line of an answer, `Final Answer: [a, b]` (GraphWalks' `get_list` and
/// its grading). Where neither side has a node it is 1; without a shared node 0, where the published
/// lines give 1.
pub fn node_f1(answer: &str, expected: &[String]) -> f64 {
    let said = listed(answer);
    let said: HashSet<&str> = said.iter().map(String::as_str).collect();
    let wanted: HashSet<&str> = expected.iter().map(String::as_str).collect();
    if said.is_empty() && wanted.is_empty() {
        return 1.0;
    }
    let shared = said.intersection(&wanted).count() as f64;
    2.0 * shared / (said.len() + wanted.len()) as f64
}

fn listed(answer: &str) -> Vec<String> {
    static LIST: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"Final Answer: ?\[.*\]"));
    let line = answer.rsplit('\n').next().unwrap_or_default();
    let Some(found) = LIST.find(line) else {
        return Vec::new();
    };
    // The published lines leave these words in the first node.
    let list = found.as_str().trim_matches(['[', ']']);
    let list = list.split_once('[').map_or("", |(_, list)| list);
    let items = list.split(',').map(|item| item.trim_matches(is_space));
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, from the data set's definition.
    #[test]
    fn the_last_line_counts() {
        let right = ["ab".to_owned(), "cd".to_owned()];
        for (answer, score) in [
            ("Final Answer: [ab, cd]", 1.0),
            ("I see.\nFinal Answer: [cd,ab ]", 1.0),
            ("Final Answer: [ab]", 2.0 / 3.0),
            ("Final Answer: [ab, x, y]", 0.4),
            ("Final Answer: [x]", 0.0),
            ("Final Answer: []", 0.0),
            ("Final Answer: [ab, cd]\nDone.", 0.0),
            ("ab, cd", 0.0),
        ] {
            assert_eq!(node_f1(answer, &right), score, "{answer}");
        }
        assert_eq!(node_f1("Final Answer: []", &[]), 1.0);
    }
}

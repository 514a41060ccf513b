//! Scores of an answer beside a right one, as the benchmarks' authors compute them.

use super::python::{is_space, is_word, pattern, words};
use super::sequence::matching;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::LazyLock;

/// The share of expected texts that an answer contains, whatever their case: RULER's
/// `string_match_all`.
///
/// The authors first replace control characters by line breaks and trim the answer.
pub fn string_match_all(answer: &str, expected: &[String]) -> f64 {
    let answer = answer.trim_matches(is_space).replace(|c| c < ' ', "\n");
    let answer = answer.trim_matches(is_space).to_lowercase();
    let found = expected
        .iter()
        .filter(|text| answer.contains(&text.to_lowercase()));
    found.count() as f64 / expected.len().max(1) as f64
}

/// 1 if an answer contains one of the expected texts, whatever their case: RULER's
/// `string_match_part`.
pub fn string_match_part(answer: &str, expected: &[String]) -> f64 {
    let one = |text: &String| string_match_all(answer, std::slice::from_ref(text));
    expected.iter().map(one).fold(0.0, f64::max)
}

/// 1 if the first sentence of an answer names the expected label, or all of several, and no other
/// label that the question does not name: BABILong's `compare_answers`.
pub fn label_match(answer: &str, expected: &str, question: &str, labels: &[String]) -> f64 {
    let answer = answer.to_lowercase();
    let answer = answer.split('.').next().unwrap_or_default();
    let answer = answer.split("<context>").next().unwrap_or_default();
    let answer = answer.split("<example>").next().unwrap_or_default();
    let (question, expected) = (question.to_lowercase(), expected.to_lowercase());
    let labels: HashSet<String> = labels.iter().map(|label| label.to_lowercase()).collect();
    let named = labels.iter().map(String::as_str);
    let named: HashSet<&str> = named
        .filter(|label| answer.contains(label) && !question.contains(label))
        .collect();
    // Of three letters at most: a direction, as in `e,n`.
    let wanted: Vec<&str> = if expected.chars().count() > 3 {
        expected.split(',').collect()
    } else {
        vec![&expected]
    };
    let all = wanted.iter().all(|label| named.contains(label));
    super::right(all && named.len() == wanted.len())
}

/// 1 if an answer says "The correct answer is" with the expected letter: LongBench v2's
/// `extract_answer`.
pub fn stated_choice(answer: &str, expected: &str) -> f64 {
    static BRACKETED: LazyLock<regex::Regex> =
        LazyLock::new(|| pattern(r"The correct answer is \(([A-D])\)"));
    static BARE: LazyLock<regex::Regex> =
        LazyLock::new(|| pattern(r"The correct answer is ([A-D])"));
    let answer = answer.trim_matches(is_space).replace('*', "");
    let found = BRACKETED
        .captures(&answer)
        .or_else(|| BARE.captures(&answer));
    let said = found.and_then(|found| found.get(1));
    super::right(said.is_some_and(|letter| letter.as_str() == expected))
}

/// A text in lower case without punctuation, articles and repeated white space (SQuAD).
pub fn normalised(text: &str) -> String {
    without_articles(&text.to_lowercase())
}

/// A text without punctuation, lower-case articles and repeated white space.
pub(super) fn without_articles(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_ascii_punctuation());
    let kept: String = kept.collect();
    let mut plain = String::new();
    let mut rest = &*kept;
    while let Some(first) = rest.chars().next() {
        let end = rest
            .find(|c| is_word(c) != is_word(first))
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        plain += if matches!(part, "a" | "an" | "the") {
            " "
        } else {
            part
        };
        rest = after;
    }
    words(&plain).collect::<Vec<_>>().join(" ")
}

/// F1 of the words two texts share, normalised (SQuAD; LongBench's `qa_f1_score`).
pub fn token_f1(answer: &str, expected: &str) -> f64 {
    let (answer, expected) = (normalised(answer), normalised(expected));
    let list = |text| words(text).collect::<Vec<_>>();
    f1(&list(&answer), &list(&expected))
}

/// F1 of the words two lists share, each as often as both have it.
pub(super) fn f1<W: Eq + Hash>(answer: &[W], expected: &[W]) -> f64 {
    let mut left: HashMap<&W, usize> = HashMap::new();
    for word in expected {
        *left.entry(word).or_default() += 1;
    }
    let shared = answer.iter().filter(|word| {
        let count = left.get_mut(*word).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    });
    let shared = shared.count() as f64;
    if shared == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (shared / answer.len() as f64, shared / expected.len() as f64);
    (2.0 * precision * recall) / (precision + recall)
}

/// Rouge-L of summaries as the `rouge` package computes it, which LongBench's authors use: the
/// distinct words of the longest common subsequences of all pairs of sentences, over the
/// distinct words of each side. Sentences end at full stops, words at single spaces.
pub fn rouge_l(answer: &str, expected: &str) -> f64 {
    let (answer, expected) = (sentences(answer), sentences(expected));
    if answer.is_empty() || expected.is_empty() {
        return 0.0;
    }
    let distinct = |sentences: &[Vec<String>]| {
        let words: HashSet<&str> = sentences.iter().flatten().map(String::as_str).collect();
        words.len() as f64
    };
    let mut union: HashSet<&str> = HashSet::new();
    for reference in &expected {
        for sentence in &answer {
            union.extend(common_words(reference, sentence));
        }
    }
    let recall = union.len() as f64 / distinct(&expected);
    let precision = union.len() as f64 / distinct(&answer);
    2.0 * ((precision * recall) / (precision + recall + 1e-8))
}

fn sentences(text: &str) -> Vec<Vec<String>> {
    let parts = text.split('.').filter(|part| !part.is_empty());
    let words = |part: &str| {
        let words: Vec<String> = words(part).map(str::to_owned).collect();
        // The package splits an empty text into one empty word.
        if words.is_empty() {
            vec![String::new()]
        } else {
            words
        }
    };
    parts.map(words).collect()
}

/// The words of a longest common subsequence; among equals the one the package finds.
fn common_words<'a>(x: &'a [String], y: &[String]) -> Vec<&'a str> {
    let width = y.len() + 1;
    let mut table = vec![0u32; (x.len() + 1) * width];
    for (i, a) in x.iter().enumerate() {
        for (j, b) in y.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if a == b {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j, mut words) = (x.len(), y.len(), Vec::new());
    while i > 0 && j > 0 {
        if x[i - 1] == y[j - 1] {
            words.push(&*x[i - 1]);
            (i, j) = (i - 1, j - 1);
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    words
}

/// Similarity of two lines as `fuzzywuzzy.fuzz.ratio` gives it (difflib's matching blocks), from
/// 0 to 1 in hundredths.
pub fn edit_similarity(answer: &str, expected: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (answer.chars().collect(), expected.chars().collect());
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let ratio = 2.0 * matching(&a, &b) as f64 / (a.len() + b.len()) as f64;
    (100.0 * ratio).round_ties_even() / 100.0
}

/// How much of an answer behind a hash is the right one (`difflib`'s ratio); 0 where the hash is
/// missing: MRCR's `grade`.
pub fn repetition(answer: &str, expected: &str, hash: &str) -> f64 {
    let Some(said) = answer.strip_prefix(hash) else {
        return 0.0;
    };
    let (a, b): (Vec<char>, Vec<char>) = (said.chars().collect(), expected.chars().collect());
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    2.0 * matching(&a, &b) as f64 / (a.len() + b.len()) as f64
}

/// LongBench's `code_sim_score`: the first line of an answer that looks like code.
pub fn code_similarity(answer: &str, expected: &str) -> f64 {
    let mut lines = answer.trim_start_matches('\n').split('\n');
    let line =
        lines.find(|line| !line.contains('`') && !line.contains('#') && !line.contains("//"));
    edit_similarity(line.unwrap_or(""), expected)
}

/// The share of an answer's numbers that are the right one (LongBench's `count_score`).
pub fn count_accuracy(answer: &str, expected: &str) -> f64 {
    static DIGITS: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"\d+"));
    let numbers: Vec<&str> = DIGITS
        .find_iter(answer)
        .map(|found| found.as_str())
        .collect();
    let right = numbers.iter().filter(|number| **number == expected).count();
    match numbers.len() {
        0 => 0.0,
        all => right as f64 / all as f64,
    }
}

/// As [`count_accuracy`], with the number that follows `word` in the right answer ("Paragraph 3";
/// LongBench's `retrieval_score`).
pub fn retrieval_accuracy(answer: &str, expected: &str, word: &str) -> f64 {
    let Some((_, after)) = expected.split_once(word) else {
        return 0.0;
    };
    let after = after.trim_start();
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    count_accuracy(answer, &after[..end])
}

/// One over the number of classes an answer names, if the right one is among them (LongBench's
/// `classification_score`).
pub fn classification(answer: &str, expected: &str, classes: &[String]) -> f64 {
    let mut named: Vec<&String> = classes
        .iter()
        .filter(|name| answer.contains(&***name))
        .collect();
    // A class whose name is part of the right one's does not count against it. The authors'
    // loop removes from the list it walks over, which passes over the entry after each removed one.
    let mut at = 0;
    while at < named.len() {
        if expected.contains(&**named[at]) && named[at] != expected {
            let gone = named[at].clone();
            let first = named.iter().position(|name| **name == gone).unwrap_or(at);
            named.remove(first);
        }
        at += 1;
    }
    if named.iter().any(|name| *name == expected) {
        1.0 / named.len() as f64
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_common_word_counts_as_often_as_both_have_it() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (x, y, common) in [
            ("a", "a a", vec!["a"]),
            ("a a", "a", vec!["a"]),
            ("b a c a", "a c b a a", vec!["a", "c", "a"]),
        ] {
            assert_eq!(common_words(&words(x), &words(y)), common, "{x}, {y}");
        }
    }

    /// `rouge` 1.0.1, `Rouge().get_scores([answer], [expected])[0]["rouge-l"]["f"]`, computed once.
    #[test]
    fn rouge_l_agrees_with_the_package() {
        let cases = [
            (
                "The cat sat on the mat. It was happy.",
                "A cat sat on a mat. The cat was very happy there.",
                0.699_999_995_050_000_1,
            ),
            (
                "The senator, Smith, said no. Voters said yes! Then all went home.",
                "Senator Smith said no to the bill. The voters went home and said yes to it.",
                0.399_999_995_072,
            ),
            (
                "one two three four",
                "four three two one",
                0.249_999_995_000_000_09,
            ),
            ("alpha beta gamma", "delta epsilon", 0.0),
        ];
        for (answer, expected, value) in cases {
            assert!((rouge_l(answer, expected) - value).abs() < 1e-9, "{answer}");
        }
        assert_eq!(rouge_l("", "a b"), 0.0);
        assert_eq!(rouge_l("...", "a b"), 0.0);
    }

    /// `fuzzywuzzy` 0.18.0, `fuzz.ratio`, computed once (without python-Levenshtein).
    #[test]
    fn edit_similarity_agrees_with_fuzzywuzzy() {
        let cases = [
            ("    return x + 1", "    return x+1", 0.93),
            ("def foo(a, b):", "def bar(a, c):", 0.71),
            ("", "x = 1", 0.0),
            ("for i in range(10):", "for i in range(10):", 1.0),
        ];
        for (answer, expected, value) in cases {
            assert_eq!(edit_similarity(answer, expected), value, "{answer}");
        }
        assert_eq!(
            code_similarity("\n```python\n# next\nx = 1\ny", "x = 1"),
            1.0
        );
    }

    /// By hand, from the authors' definition: 3 right of 4 said and of 5 wanted.
    #[test]
    fn f1_counts_shared_words() {
        assert_eq!(
            normalised("The  quick, (brown) fox; an 'A'-team"),
            "quick brown fox ateam"
        );
        let f1 = token_f1("the red green blue white", "Blue, green! red black grey");
        assert!((f1 - 2.0 / 3.0).abs() < 1e-12, "{f1}");
        // Repeated words count as often as both have them.
        assert!((token_f1("x x y", "x z") - 0.4).abs() < 1e-12);
        assert_eq!(
            (
                token_f1("", "x"),
                token_f1("x", "y"),
                token_f1("the", "the")
            ),
            (0.0, 0.0, 0.0)
        );
    }

    /// Python 3.11's `difflib.SequenceMatcher(None, said, right).ratio()`.
    #[test]
    fn repetitions_need_their_hash() {
        let right = "The quick brown fox jumps over the lazy dog";
        assert_eq!(repetition(&format!("aB3{right}"), right, "aB3"), 1.0);
        assert_eq!(repetition(right, right, "aB3"), 0.0);
        let score = repetition("aB3The quick red fox jumped over a dog", right, "aB3");
        assert!((score - 0.7948717948717948).abs() < 1e-12, "{score}");
    }

    #[test]
    fn matches_and_counts() {
        let expected = ["123".to_owned(), "Blue".to_owned()];
        assert_eq!(string_match_all("It is blue.", &expected), 0.5);
        assert_eq!(string_match_all("123 blue", &expected), 1.0);
        assert_eq!(count_accuracy("3 or 4, no 3", "3"), 2.0 / 3.0);
        assert_eq!(count_accuracy("none", "3"), 0.0);
        assert_eq!(
            retrieval_accuracy("Paragraph 12", "Paragraph 12", "Paragraph"),
            1.0
        );
        assert_eq!(retrieval_accuracy("段落1", "段落12", "段落"), 0.0);
    }

    #[test]
    fn classes_share_the_point() {
        let classes = ["Food", "Other food", "Sport"].map(str::to_owned);
        assert_eq!(classification("Sport", "Sport", &classes), 1.0);
        assert_eq!(classification("Sport and Food", "Sport", &classes), 0.5);
        assert_eq!(classification("Food", "Sport", &classes), 0.0);
        let classes = ["Date", "Date of birth"].map(str::to_owned);
        // "Date" is named only as a part of the right class.
        assert_eq!(
            classification("Date of birth", "Date of birth", &classes),
            1.0
        );
    }

    proptest! {
        #[test]
        fn scores_lie_between_0_and_1_and_reach_1(a in "[a-d .]{0,30}", b in "[a-d .]{0,30}") {
            for score in [token_f1(&a, &b), rouge_l(&a, &b), edit_similarity(&a, &b)] {
                prop_assert!((0.0..=1.0).contains(&score), "{}", score);
            }
            prop_assert_eq!(edit_similarity(&a, &a), 1.0);
            if !normalised(&a).is_empty() {
                prop_assert_eq!(token_f1(&a, &a), 1.0);
            }
        }
    }
}

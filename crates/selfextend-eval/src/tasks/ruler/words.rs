//! RULER's tasks on variables and words, and the words themselves.

use super::question::Question;
use crate::error::{EvalError, Result};
use crate::random::Random;
use crate::tasks::haystack::NOISE;
use std::sync::LazyLock;

/// Nouns and adjectives, each once, in order.
static WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let (medium, large) = (petname::Petnames::medium(), petname::Petnames::large());
    let mut words: Vec<&str> = medium.adjectives.to_vec();
    words.extend(medium.nouns.iter().chain(large.nouns.iter()));
    words.sort_unstable();
    words.dedup();
    words
});

/// An adjective and a noun, as in `brave-otter`.
pub(super) fn key(random: &mut Random) -> String {
    static LISTS: LazyLock<petname::Petnames<'static>> = LazyLock::new(petname::Petnames::medium);
    let mut one = |words: &[&'static str]| words[random.below(words.len() as u64) as usize];
    format!("{}-{}", one(&LISTS.adjectives), one(&LISTS.nouns))
}

fn letters(random: &mut Random, first: u8, count: usize) -> String {
    (0..count)
        .map(|_| char::from(first + random.below(26) as u8))
        .collect()
}

/// Variable tracking: one chain of five variables among lines of noise, after a solved example
/// of its own, as RULER's one shot.
pub(super) fn variables(lines: usize, random: &mut Random) -> Question {
    const HOPS: usize = 4;
    let (example, example_prefix, answers) = chain(5, 3, HOPS, random);
    let (text, prefix, expected) = chain(lines, 5, HOPS, random);
    Question {
        text: format!("{example}{example_prefix}{}\n\n{text}", answers.join(" ")),
        prefix,
        expected,
    }
}

fn chain(
    lines: usize,
    name: usize,
    hops: usize,
    random: &mut Random,
) -> (String, String, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    while names.len() <= hops {
        let new = letters(random, b'A', name);
        if !names.contains(&new) {
            names.push(new);
        }
    }
    let value = random.decimal(5);
    let mut assignments = vec![format!("VAR {} = {value}", names[0])];
    assignments.extend(
        names
            .windows(2)
            .map(|pair| format!("VAR {} = VAR {} ", pair[1], pair[0])),
    );
    // In order, at depths that do not depend on the number of lines.
    let mut depths: Vec<f64> = assignments.iter().map(|_| random.share()).collect();
    depths.sort_by(f64::total_cmp);
    let mut context = vec![NOISE.to_owned(); lines];
    for (n, (assignment, depth)) in assignments.into_iter().zip(depths).enumerate() {
        context.insert((lines as f64 * depth) as usize + n, assignment);
    }
    let text = format!(
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{}\nQuestion: Find all variables that are assigned the value {value} in the text above.",
        context.join("\n")
    );
    let prefix = format!(
        " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assigned the value {value}, they are: ",
        names.len()
    );
    (text, prefix, names)
}

const COMMON: usize = 10;
const COMMON_PREFIX: &str = " Answer: The top 10 words that appear most often in the list are:";

/// Common words: ten words thirty times each among others three times each, after a solved
/// example. Below 4096 tokens 6 times and once, as in the original. A unit is one more of the
/// others.
pub(super) fn common(others: usize, length: usize, random: &mut Random) -> Result<Question> {
    let short = length < 4096;
    let (shown, shown_often, shown_seldom) = if short { (20, 3, 1) } else { (40, 10, 3) };
    let (often, seldom) = if short { (6, 1) } else { (30, 3) };
    if COMMON + others > WORDS.len() {
        return Err(EvalError::settings(format!(
            "cwe at {length} tokens needs more words than the {} available",
            WORDS.len()
        )));
    }
    let (example, answers) = word_list(shown - COMMON, shown_often, shown_seldom, random);
    let (list, expected) = word_list(others, often, seldom, random);
    let question = |list: &str| {
        format!(
            "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n{list}\nQuestion: What are the 10 most common words in the above list?"
        )
    };
    Ok(Question {
        text: format!(
            "{}{COMMON_PREFIX} {}\n{}",
            question(&example),
            numbered(answers.iter().map(String::as_str)),
            question(&list)
        ),
        prefix: COMMON_PREFIX.into(),
        expected,
    })
}

/// A shuffled list, and the words that are in it most often.
fn word_list(
    others: usize,
    often: usize,
    seldom: usize,
    random: &mut Random,
) -> (String, Vec<String>) {
    let drawn = random.sample(WORDS.len(), COMMON + others);
    let words: Vec<&str> = drawn.iter().map(|&n| WORDS[n]).collect();
    let (common, others) = words.split_at(COMMON);
    let mut list = common.repeat(often);
    list.extend(others.repeat(seldom));
    random.shuffle(&mut list);
    let common = common.iter().map(|word| (*word).to_owned());
    (numbered(list.into_iter()), common.collect())
}

fn numbered<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words = words
        .enumerate()
        .map(|(n, word)| format!("{}. {word}", n + 1));
    words.collect::<Vec<_>>().join(" ")
}

/// Frequent words: coded words whose counts fall with the square of their rank (a zeta
/// distribution with alpha 2), the first of them dots. A unit is a word drawn.
pub(super) fn frequent(words: usize, length: usize, random: &mut Random) -> Question {
    // At least the dots and the three that are asked for.
    let vocabulary = (length / 50).max(8);
    let mut coded: Vec<String> = Vec::new();
    while coded.len() < vocabulary {
        let new = letters(random, b'a', 6);
        if !coded.contains(&new) {
            coded.push(new);
        }
    }
    coded[0] = "...".into();
    let zeta = std::f64::consts::PI.powi(2) / 6.0;
    let mut list: Vec<&str> = Vec::new();
    for (rank, word) in coded.iter().enumerate() {
        let share = 1.0 / ((rank + 1) as f64).powi(2) / zeta;
        // Even in the shortest text the three that are asked for are the most frequent, in order.
        let least = if rank < 4 { 5 - rank } else { 0 };
        let count = ((words as f64 * share) as usize).max(least);
        list.extend(std::iter::repeat_n(word.as_str(), count));
    }
    random.shuffle(&mut list);
    Question {
        text: format!(
            "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. {}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?",
            list.join(" ")
        ),
        prefix: " Answer: According to the coded text above, the three most frequently appeared words are:".into(),
        expected: coded[1..4].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words of the last list of a prompt, and how often each is there.
    fn counts(text: &str) -> Vec<(usize, String)> {
        let mut found: std::collections::HashMap<&str, usize> = Default::default();
        for word in text.split_whitespace() {
            *found.entry(word).or_default() += 1;
        }
        let mut counts: Vec<_> = found
            .into_iter()
            .map(|(word, n)| (n, word.to_owned()))
            .collect();
        counts.sort_by(|a, b| b.cmp(a));
        counts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_most_common_words_are_expected(others in 0usize..300, seed: u64) {
            let made = common(others, 4096, &mut Random::new(seed)).unwrap();
            let list = made.text.rsplit("appear most often.\n").next().unwrap();
            let list = list.split("\nQuestion").next().unwrap();
            for word in &made.expected {
                let times = list.split(' ').filter(|found| found == word).count();
                prop_assert_eq!(times, 30);
            }
            let all = list.split(' ').count() / 2;
            prop_assert_eq!(all, 300 + 3 * others);
        }

        #[test]
        fn the_most_frequent_words_are_expected(words in 200usize..4000, seed: u64) {
            let made = frequent(words, 4096, &mut Random::new(seed));
            let list = made.text.split("coded words. ").nth(1).unwrap();
            let counts = counts(list.split("\nQuestion").next().unwrap());
            let top: Vec<_> = counts.iter().filter(|(_, word)| word != "...").take(3).collect();
            for (_, word) in top {
                prop_assert!(made.expected.contains(word));
            }
        }

        #[test]
        fn chains_are_whole_and_in_order(lines in 0usize..100, seed: u64) {
            let made = variables(lines, &mut Random::new(seed));
            let text = made.text.rsplit("Memorize").next().unwrap();
            let mut from = 0;
            for name in &made.expected {
                let at = text[from..].find(&format!("VAR {name} = "));
                prop_assert!(at.is_some(), "{name} in {text}");
                from += at.unwrap();
                prop_assert_eq!(text.matches(&format!("VAR {name} = ")).count(), 1);
            }
        }
    }
}

//! RULER's needle tasks (`niah_*`): sentences that give a key its value, hidden in filler.

use super::question::Question;
use super::words;
use crate::random::Random;
use crate::tasks::haystack::NOISE;

/// What needles are hidden in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haystack {
    /// One line of noise again and again.
    Noise,
    /// Sentences of essays.
    Essay,
    /// Other needles.
    Needle,
}

/// The settings of a needle task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needles {
    /// What they are hidden in.
    pub(super) haystack: Haystack,
    /// Whether keys are UUIDs; otherwise an adjective and a noun.
    pub(super) uuid_keys: bool,
    /// Whether values are UUIDs; otherwise numbers of seven digits.
    pub(super) uuid_values: bool,
    /// Keys.
    pub(super) keys: usize,
    /// Values of each key.
    pub(super) values: usize,
    /// Keys that are asked for.
    pub(super) queries: usize,
}

impl Needles {
    /// The question with `units` of filler.
    pub(super) fn question(self, units: usize, random: &mut Random, essays: &[String]) -> Question {
        let kind = if self.uuid_values { "uuid" } else { "number" };
        let needle = |key: &str, value: &str| {
            format!("One of the special magic {kind}s for {key} is: {value}.")
        };
        let (mut keys, mut values, mut hidden) = (Vec::<String>::new(), Vec::new(), Vec::new());
        while keys.len() < self.keys {
            let key = self.key(random);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for key in &keys {
            let own: Vec<String> = (0..self.values).map(|_| self.value(random)).collect();
            hidden.extend(own.iter().map(|value| needle(key, value)));
            values.push(own);
        }
        random.shuffle(&mut hidden);
        let asked = random.sample(self.keys, self.queries);
        // These draws do not depend on the size, so needles keep their depths.
        let depths: Vec<f64> = random
            .sample(40, hidden.len())
            .iter()
            .map(|&n| n as f64 / 39.0)
            .collect();
        let context = match self.haystack {
            Haystack::Essay => in_essays(&hidden, &depths, units, essays),
            Haystack::Noise => {
                let lines = vec![NOISE.to_owned(); units];
                in_lines(&hidden, &depths, lines)
            }
            Haystack::Needle => {
                let lines = (0..units).map(|_| {
                    let mut key = self.key(random);
                    while keys.contains(&key) {
                        key = self.key(random);
                    }
                    needle(&key, &self.value(random))
                });
                in_lines(&hidden, &depths, lines.collect())
            }
        };
        let query = listed(&asked.iter().map(|&n| &*keys[n]).collect::<Vec<_>>());
        let expected: Vec<String> = asked.iter().flat_map(|&n| values[n].clone()).collect();
        question(kind, &context, &query, expected)
    }

    fn key(self, random: &mut Random) -> String {
        if self.uuid_keys {
            uuid(random)
        } else {
            words::key(random)
        }
    }

    fn value(self, random: &mut Random) -> String {
        if self.uuid_values {
            uuid(random)
        } else {
            random.decimal(7)
        }
    }
}

/// RULER's prompt, in the singular where one value is asked for.
fn question(kind: &str, context: &str, query: &str, expected: Vec<String>) -> Question {
    let single = expected.len() == 1;
    let text = if single {
        format!(
            "A special magic {kind} is hidden within the following text. Make sure to memorize it. \
             I will quiz you about the {kind} afterwards.\n{context}\nWhat is the special magic \
             {kind} for {query} mentioned in the provided text?"
        )
    } else {
        format!(
            "Some special magic {kind}s are hidden within the following text. Make sure to \
             memorize it. I will quiz you about the {kind}s afterwards.\n{context}\nWhat are all \
             the special magic {kind}s for {query} mentioned in the provided text?"
        )
    };
    let (s, verb) = if single { ("", "is") } else { ("s", "are") };
    let prefix =
        format!(" The special magic {kind}{s} for {query} mentioned in the provided text {verb}");
    Question {
        text,
        prefix,
        expected,
    }
}

/// Needles between whole sentences of `words` words of essays.
fn in_essays(needles: &[String], depths: &[f64], words: usize, essays: &[String]) -> String {
    let words: Vec<&str> = essays
        .iter()
        .cycle()
        .take(words)
        .map(String::as_str)
        .collect();
    let ends = words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.ends_with(['.', '!', '?']));
    let mut ends: Vec<usize> = ends.map(|(n, _)| n + 1).collect();
    ends.insert(0, 0);
    let mut places: Vec<(usize, &String)> = needles
        .iter()
        .zip(depths)
        .map(|(needle, depth)| (ends[((ends.len() - 1) as f64 * depth) as usize], needle))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    let (mut parts, mut from) = (Vec::<&str>::new(), 0);
    for (place, needle) in places {
        parts.extend(&words[from..place]);
        parts.push(needle);
        from = place;
    }
    parts.extend(&words[from..]);
    parts.join(" ")
}

/// Needles among lines.
fn in_lines(needles: &[String], depths: &[f64], mut lines: Vec<String>) -> String {
    let count = lines.len() as f64;
    let mut places: Vec<(usize, &String)> = needles
        .iter()
        .zip(depths)
        .map(|(needle, depth)| ((count * depth) as usize, needle))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    for (place, needle) in places.into_iter().rev() {
        lines.insert(place, needle.clone());
    }
    lines.join("\n")
}

/// Names in a list, as in "a, b, and c".
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] => format!("{}, and {last}", some.join(", ")),
    }
}

/// A random UUID (version 4).
fn uuid(random: &mut Random) -> String {
    let (a, b) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        ((b >> 48) & 0x3fff) | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed() {
        assert_eq!(listed(&["a", "b", "c"]), "a, b, and c");
        assert_eq!(listed(&["a"]), "a");
    }
}

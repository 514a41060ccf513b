//! How much of two texts is the same, as Python's `difflib.SequenceMatcher` counts it. (The
//! crates for this do not extend matches over characters that occur often, as it does.)

use std::collections::HashMap;
use std::ops::Range;

/// Characters in the matching blocks of two texts.
pub(super) fn matching(a: &[char], b: &[char]) -> usize {
    let mut places: HashMap<char, Vec<usize>> = HashMap::new();
    for (at, &c) in b.iter().enumerate() {
        places.entry(c).or_default().push(at);
    }
    // A match does not begin with a character that is frequent in a long text ("autojunk").
    if b.len() >= 200 {
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let mut total = 0;
    let mut left = vec![(0..a.len(), 0..b.len())];
    while let Some((in_a, in_b)) = left.pop() {
        let (i, j, size) = longest(a, b, &places, in_a.clone(), in_b.clone());
        if size > 0 {
            total += size;
            left.push((in_a.start..i, in_b.start..j));
            left.push((i + size..in_a.end, j + size..in_b.end));
        }
    }
    total
}

/// The longest match in parts of both, the first of equals: where it begins, and its length.
fn longest(
    a: &[char],
    b: &[char],
    places: &HashMap<char, Vec<usize>>,
    in_a: Range<usize>,
    in_b: Range<usize>,
) -> (usize, usize, usize) {
    let (mut i, mut j, mut size) = (in_a.start, in_b.start, 0);
    // The lengths of the matches that end at the character before, by their place in `b`.
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for at in in_a.clone() {
        let mut next = HashMap::new();
        for &place in places.get(&a[at]).into_iter().flatten() {
            if !in_b.contains(&place) {
                continue;
            }
            let before = place.checked_sub(1).and_then(|place| lengths.get(&place));
            let length = before.copied().unwrap_or(0) + 1;
            next.insert(place, length);
            if length > size {
                (i, j, size) = (at + 1 - length, place + 1 - length, length);
            }
        }
        lengths = next;
    }
    while i > in_a.start && j > in_b.start && a[i - 1] == b[j - 1] {
        (i, j, size) = (i - 1, j - 1, size + 1);
    }
    while i + size < in_a.end && j + size < in_b.end && a[i + size] == b[j + size] {
        size += 1;
    }
    (i, j, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `difflib`: frequent is what a text of 200 characters has more than 200 / 100 + 1 times.
    #[test]
    fn a_match_begins_with_a_character_that_is_not_frequent() {
        let text = |times: usize| -> Vec<char> {
            let others = ('\u{4e00}'..).take(200 - times);
            others.chain(vec!['x'; times]).collect()
        };
        assert_eq!([3, 4].map(|times| matching(&['x'], &text(times))), [1, 0]);
    }
}

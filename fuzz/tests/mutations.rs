//! A little fuzzing wherever tests run: seeds with a few changes, from a fixed seed of our own.
//! `SELFEXTEND_MUTATIONS` says how many of each.

use std::path::Path;

/// Numbers of a linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        let next = self.0.wrapping_mul(6364136223846793005);
        self.0 = next.wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

const WORDS: [&[u8]; 16] = [
    b"0",
    b"-1",
    b"18446744073709551616",
    b"4294967295",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"\"\"",
    b"\\ud800",
    b"\\u0000",
    b"[[[[[[[[",
    b"\n",
    b"\xff",
    b"NaN",
];

/// Some bytes changed: flipped, cut out, repeated, moved from another place, or a value put in.
fn mutate(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(24)).min(bytes.len());
        let kind = random.below(6);
        match kind {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let some = bytes[at..end].repeat(1 + random.below(40));
                bytes.splice(at..at, some);
            }
            3 => {
                let from = random.below(bytes.len() + 1);
                let some = bytes[from..(from + 20).min(bytes.len())].to_vec();
                bytes.splice(at..end, some);
            }
            4 => {
                // A whole number or word in place of one that is there.
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
                let rest = bytes[at..].iter();
                let first = at + rest.take_while(|byte| !is_part(byte)).count();
                let rest = bytes[first..].iter();
                let last = first + rest.take_while(|byte| is_part(byte)).count();
                bytes.splice(
                    first..last,
                    WORDS[random.below(WORDS.len())].iter().copied(),
                );
            }
            _ => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
        }
    }
    bytes
}

fn check(target: &str, fallback: usize, read: impl Fn(&[u8])) {
    let count = std::env::var("SELFEXTEND_MUTATIONS").ok();
    let count = count.map_or(fallback, |count| count.parse().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let mut paths: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let mut random = Random(1);
    for n in 0..count {
        let seed = &seeds[n % seeds.len()];
        let bytes = if n < seeds.len() {
            seed.clone()
        } else {
            mutate(&mut random, seed)
        };
        let read = std::panic::AssertUnwindSafe(|| read(&bytes));
        if std::panic::catch_unwind(read).is_err() {
            panic!(
                "{target}, mutation {n}: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn mutated_tokenizers_are_read_or_refused() {
    check("tokenizer", 1000, selfextend_fuzz::tokenizer);
}

#[test]
fn mutated_bodies_are_read_or_refused() {
    check("body", 20_000, selfextend_fuzz::body);
}

#[test]
fn mutated_blocks_are_read_or_refused() {
    check("block", 20_000, selfextend_fuzz::block);
}

#[test]
fn mutated_results_are_read_or_refused() {
    check("results", 1000, selfextend_fuzz::results);
}

#[test]
fn mutated_profiles_are_read_or_refused() {
    check("profile", 5000, selfextend_fuzz::profile);
}

//! Tokenizers against the `tokenizers` package and SentencePiece on random and hostile strings:
//! `tools/make_tokenizer_cases.py` wrote the files in `tests/tokenizers`.

mod common;

use selfextend::gguf::GgufFile;
use selfextend::tokenizer::Tokenizer;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::Path;

fn ids(value: &Value) -> Option<Vec<u32>> {
    let ids = value.as_array()?;
    Some(ids.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

/// The first four bytes of a digest of the ids, in hexadecimal.
fn digest(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let digest = Sha256::digest(ids.join(","));
    digest[..4].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_json(tokenizer: Value) -> Tokenizer {
    Tokenizer::from_json(tokenizer, &Value::Null, &Value::Null).unwrap()
}

/// Compares the cases of one tokenizer: a text, its ids with special tokens as text, and with
/// special tokens read; null where the reference says nothing.
fn compare(name: &str, tokenizer: &Tokenizer, cases: &Value, wrong: &mut Vec<String>) {
    for case in cases.as_array().unwrap() {
        let text = case[0].as_str().unwrap();
        let found = [
            tokenizer.encode(text).unwrap(),
            tokenizer.encode_with_special(text).unwrap(),
        ];
        for (found, expected) in found.iter().zip([&case[1], &case[2]]) {
            if let Some(expected) = ids(expected).filter(|expected| expected != found) {
                wrong.push(format!("{name}: {text:?}: {found:?}, not {expected:?}"));
            }
        }
    }
}

fn report(wrong: &[String]) {
    let shown = wrong
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(wrong.is_empty(), "{} wrong:\n{shown}", wrong.len());
}

/// Every flag of added tokens, and several normalisers and ways to mark spaces.
#[test]
fn small_tokenizers_give_the_ids_of_the_package() {
    let made: Value = serde_json::from_str(include_str!("tokenizers/small.json")).unwrap();
    let mut wrong = Vec::new();
    for (number, made) in made.as_array().unwrap().iter().enumerate() {
        let tokenizer = from_json(made["tokenizer"].clone());
        compare(&number.to_string(), &tokenizer, &made["cases"], &mut wrong);
    }
    report(&wrong);
}

#[test]
fn shared_vocabularies_give_the_ids_of_their_references() {
    let file: Value = serde_json::from_str(include_str!("tokenizers/shared.json")).unwrap();
    let texts: Vec<&str> = file["strings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    let mut wrong = Vec::new();
    for (name, digests) in file["digests"].as_object().unwrap() {
        let Some(path) = common::shared(&format!("tokenizers/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let gguf = GgufFile::open(&path).unwrap();
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
        let digests: Vec<&str> = digests.as_str().unwrap().split(' ').collect();
        assert_eq!(digests.len(), texts.len());
        for (text, digests) in texts.iter().zip(digests) {
            let (plain, special) = digests.split_once(':').unwrap();
            let found = [
                tokenizer.encode(text).unwrap(),
                tokenizer.encode_with_special(text).unwrap(),
            ];
            for (found, expected) in found.iter().zip([plain, special]) {
                if !expected.is_empty() && digest(found) != expected {
                    wrong.push(format!("{name}: {text:?}: {found:?}"));
                }
            }
        }
    }
    report(&wrong);
}

/// More of them, from a file that the tool's `many` wrote.
#[test]
fn cases_of_a_file_give_the_ids_of_their_references() {
    let Some(path) = std::env::var_os("SELFEXTEND_TOKENIZER_CASES") else {
        eprintln!("skipped: SELFEXTEND_TOKENIZER_CASES names no file");
        return;
    };
    let mut wrong = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let made: Value = serde_json::from_str(line).unwrap();
        let path = Path::new(made["tokenizer"].as_str().unwrap());
        let tokenizer = if path.is_dir() {
            let text = std::fs::read_to_string(path.join("tokenizer.json")).unwrap();
            from_json(serde_json::from_str(&text).unwrap())
        } else {
            Tokenizer::from_gguf(GgufFile::open(path).unwrap().metadata()).unwrap()
        };
        let name = path.display().to_string();
        compare(&name, &tokenizer, &made["cases"], &mut wrong);
    }
    report(&wrong);
}

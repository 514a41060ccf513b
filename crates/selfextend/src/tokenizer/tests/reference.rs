//! Real vocabularies, where they are at hand, against ids computed elsewhere.

use std::path::Path;

use crate::gguf::GgufFile;

use super::{SpecialTokens, Tokenizer, build};
use crate::test_support::{shared, smollm2};

fn read_gguf(path: &Path) -> Tokenizer {
    build(GgufFile::open(path).unwrap().metadata())
}

#[test]
fn reference_vocabularies_give_the_expected_ids() {
    for name in ["llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let Some(path) = shared(&format!("tokenizers/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let tokenizer = read_gguf(&path);
        let read = |end| std::fs::read_to_string(path.with_extension(end)).unwrap();
        let (texts, expected) = (read("gguf.inp"), read("gguf.out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(texts.len(), expected.len() + 1, "the last text is empty");
        for (text, expected) in texts.iter().zip(expected) {
            let expected: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                expected,
                "{name}: {text:?}"
            );
            let back = tokenizer.decode(&expected, SpecialTokens::Skip).unwrap();
            assert_eq!(back, *text, "{name}");
        }
    }
}

fn golden_ids(path: &Path) -> Vec<u32> {
    let file = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let ids = tensors.tensor("ids").unwrap();
    let width = ids.dtype().bitsize() / 8;
    // Little-endian and below 65,536, whatever the width.
    let ids = ids.data().chunks(width);
    ids.map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]).into())
        .collect()
}

#[test]
fn golden_ids_survive_decoding_and_encoding() {
    let (Some(model), Some(golden)) = (smollm2(), shared("golden/long_16384.safetensors")) else {
        return;
    };
    let tokenizer = read_gguf(&model);
    let ids = golden_ids(&golden);
    assert_eq!(ids.len(), 16384);
    let text = tokenizer.decode(&ids, SpecialTokens::Skip).unwrap();
    assert!(text.contains("Alice was beginning to get very tired"));
    assert_eq!(tokenizer.encode(&text).unwrap(), ids);
}

#[test]
fn stories260k_ids_survive_decoding_and_encoding() {
    let names = [
        "models/stories260K/stories260K-f32.gguf",
        "golden/stories260K_2048.safetensors",
    ];
    let [Some(model), Some(golden)] = names.map(shared) else {
        return;
    };
    let tokenizer = read_gguf(&model);
    let ids = golden_ids(&golden);
    // The first and the last story of a row are cut.
    for row in ids.chunks(2049) {
        let stories: Vec<&[u32]> = row.split(|id| *id == 1).collect();
        for story in &stories[1..stories.len() - 1] {
            let text = tokenizer.decode(story, SpecialTokens::Skip).unwrap();
            assert_eq!(tokenizer.encode(&text).unwrap(), *story);
        }
    }
}

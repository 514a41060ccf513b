//! Tokenizers of tokenizer.json.

use super::{CONTROL, NORMAL, SpecialTokens, Tokenizer};
use crate::gguf::{Array, GgufFile, Value};
use crate::test_support::shared;
use serde_json::{Value as Json, json};

/// A tokenizer.json of the vocabulary and merges of a GGUF file, in the form of its family.
fn from_gguf(name: &str, pattern: &str, ignore_merges: bool) -> Option<Tokenizer> {
    let path = shared(&format!("tokenizers/ggml-vocab-{name}.gguf"))?;
    let file = GgufFile::open(&path).unwrap();
    let list = |key: &str| file.metadata().get(key).and_then(Value::as_array);
    let texts = |array: &Array| -> Vec<String> {
        let texts = array.strings().unwrap();
        texts
            .map(|text| String::from_utf8(text.to_vec()).unwrap())
            .collect()
    };
    let kinds = list("tokenizer.ggml.token_type").unwrap();
    let tokens = texts(list("tokenizer.ggml.tokens").unwrap());
    let (mut vocab, mut added) = (serde_json::Map::new(), Vec::new());
    for (id, (token, kind)) in tokens
        .into_iter()
        .zip(kinds.integers().unwrap())
        .enumerate()
    {
        if kind == NORMAL.into() {
            vocab.insert(token, json!(id));
        } else {
            let special = kind == CONTROL.into();
            added.push(json!({"id": id, "content": token, "special": special}));
        }
    }
    let merges = texts(list("tokenizer.ggml.merges").unwrap());
    let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]},
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges,
        },
    });
    Some(Tokenizer::from_json(json, &Json::Null, &Json::Null).unwrap())
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[test]
fn reference_vocabularies_give_the_expected_ids() {
    for (name, pattern, ignore) in [("llama-bpe", LLAMA3, true), ("qwen2", QWEN2, false)] {
        let Some(tokenizer) = from_gguf(name, pattern, ignore) else {
            return;
        };
        let path = shared(&format!("tokenizers/ggml-vocab-{name}.gguf")).unwrap();
        let read = |end| std::fs::read_to_string(path.with_extension(end)).unwrap();
        let (texts, expected) = (read("gguf.inp"), read("gguf.out"));
        for (text, expected) in texts.split("\n__ggml_vocab_test__\n").zip(expected.lines()) {
            let expected: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                expected,
                "{name}: {text:?}"
            );
            assert_eq!(
                tokenizer.decode(&expected, SpecialTokens::Skip).unwrap(),
                text
            );
        }
    }
}

/// Pieces with spaces written as U+2581, bytes for the rest, and a space before a text: what
/// `scheme` says of it.
fn pieces(scheme: &str) -> Json {
    let mut vocab = serde_json::Map::new();
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = ["<unk>", "<s>", "</s>"]
        .map(str::to_owned)
        .into_iter()
        .chain(bytes);
    let tokens = tokens.chain(["▁", "h", "i", "hi", "▁hi"].map(str::to_owned));
    for (id, token) in tokens.enumerate() {
        vocab.insert(token, json!(id));
    }
    let special = |id: usize, text: &str| json!({"id": id, "content": text, "special": true, "rstrip": id == 265});
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>"), special(264, "[INST]"), special(265, "<|end|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": ["h i", "▁ hi"],
        },
    })
}

#[test]
fn pieces_bytes_and_markup() {
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let model = json!({"vocab_size": 300, "eos_token_id": [2, 265]});
    let tokenizer = Tokenizer::from_json(pieces("first"), &config, &model).unwrap();
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()),
        (Some(1), Some(2), true)
    );
    assert_eq!(
        tokenizer.end_tokens().iter().copied().collect::<Vec<_>>(),
        [2, 265]
    );
    assert_eq!(tokenizer.vocab_size(), 300);
    // The space is put before the start of a text, not after markup; white space after some is dropped.
    assert_eq!(tokenizer.encode("hi hi").unwrap(), [263, 263]);
    let ids = tokenizer
        .encode_with_special("[INST]hi<|end|>\n hi")
        .unwrap();
    assert_eq!(ids, [264, 262, 265, 262]);
    // Markup in the text of others is text.
    let ids = tokenizer.encode("<s>é").unwrap();
    assert!(ids.iter().all(|id| ![1, 264].contains(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, SpecialTokens::Skip).unwrap(), "<s>é");
    assert_eq!(tokenizer.decode(&[299], SpecialTokens::Skip).unwrap(), "");

    let always = Tokenizer::from_json(pieces("always"), &config, &model).unwrap();
    assert_eq!(always.encode_with_special("[INST]hi").unwrap(), [264, 263]);
}

/// What transformers 4.56 makes of every class with `add_bos_token` absent, false and true, for a
/// post-processor that adds BOS and for none.
#[test]
fn the_class_of_a_tokenizer_decides_about_bos() {
    let rows = [
        ("LlamaTokenizer", [true, false, true], [true, false, true]),
        (
            "LlamaTokenizerFast",
            [true, false, true],
            [true, false, true],
        ),
        ("GemmaTokenizer", [true, false, true], [true, false, true]),
        ("CohereTokenizer", [true, false, true], [true, false, true]),
        (
            "GPTNeoXTokenizer",
            [false, false, true],
            [false, false, true],
        ),
        ("PreTrainedTokenizerFast", [true; 3], [false; 3]),
        ("GPT2Tokenizer", [true; 3], [false; 3]),
        ("Qwen2Tokenizer", [true; 3], [false; 3]),
    ];
    for (class, with, without) in rows {
        let mut json = pieces("first");
        for expected in [with, without] {
            for (given, expected) in [Json::Null, json!(false), json!(true)].iter().zip(expected) {
                let config =
                    json!({"bos_token": "<s>", "tokenizer_class": class, "add_bos_token": given});
                let made = Tokenizer::from_json(json.clone(), &config, &Json::Null).unwrap();
                assert_eq!(made.add_bos(), expected, "{class} {given}");
            }
            json["post_processor"] = Json::Null;
        }
    }
}

#[test]
fn pieces_of_unigram_models_are_never_markup() {
    let mut json = pieces("first");
    let vocab = ["<unk>", "</s>", "▁", "<", "/", "s", ">"].map(|text| json!([text, -1.0]));
    json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false});
    json["added_tokens"] = json!([{"id": 1, "content": "</s>", "special": true}]);
    let tokenizer = Tokenizer::from_json(json, &Json::Null, &Json::Null).unwrap();
    assert_eq!(tokenizer.encode("</s>").unwrap(), [2, 3, 4, 5, 6]);
    assert_eq!(tokenizer.encode_with_special("</s>").unwrap(), [1]);
}

#[test]
fn damaged_files_are_refused() {
    let build = |json: Json| Tokenizer::from_json(json, &Json::Null, &Json::Null);
    for json in [
        json!({}),
        json!([]),
        json!({"model": {"vocab": {"a": -1}}}),
        json!({"model": {"vocab": {"a": 1u64 << 40}}}),
    ] {
        assert!(build(json).is_err());
    }
    let mut json = pieces("first");
    json["added_tokens"][0]["id"] = json!("x");
    assert!(build(json).is_err());
    let mut json = pieces("first");
    json["model"]["merges"] = json!(["h no"]);
    assert!(build(json).is_err());
}

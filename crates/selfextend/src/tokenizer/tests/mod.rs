//! Tests of whole tokenizers, on tiny vocabularies made here.

mod json;
mod properties;
mod reference;

use std::collections::BTreeSet;

use crate::gguf::{self, Value};

use super::codec::{ADD_BOS, MODEL, PRE};
use super::{SpecialTokens, Tokenizer, TokenizerError, sentence_piece, vocabulary};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

type Fields = gguf::Metadata;

fn strings<S: ToString>(texts: impl IntoIterator<Item = S>) -> Value {
    let texts = texts.into_iter().map(|text| text.to_string());
    Value::Array(texts.collect())
}

fn fields(model: &str, tokens: &[(String, i32)]) -> Fields {
    let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind).collect();
    Fields::from_iter([
        (MODEL.to_owned(), Value::String(model.to_owned())),
        (
            vocabulary::TOKENS.to_owned(),
            strings(tokens.iter().map(|(text, _)| text)),
        ),
        (vocabulary::TOKEN_TYPES.to_owned(), kinds.into()),
    ])
}

/// All bytes as tokens 0 to 255, then `he`, `ll`, `hell`, `hello`, and some that stand for
/// themselves.
fn byte_level() -> Fields {
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let mut alphabet: Vec<char> = alphabet.into_iter().collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<_> = alphabet.iter().map(|c| (c.to_string(), NORMAL)).collect();
    tokens.extend(["he", "ll", "hell", "hello"].map(|text| (text.to_owned(), NORMAL)));
    tokens.extend(["<|im_start|>", "<|im_end|>"].map(|text| (text.to_owned(), CONTROL)));
    tokens.push(("<think>".to_owned(), USER_DEFINED));
    tokens.push(("<|user|>".to_owned(), USER_DEFINED));
    let mut fields = fields("gpt2", &tokens);
    let merges = strings(["h e", "l l", "he ll", "hell o"]);
    fields.insert("tokenizer.ggml.merges".to_owned(), merges);
    fields.insert(PRE.to_owned(), Value::String("smollm".to_owned()));
    fields.insert("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(260));
    fields
}

/// `<unk>`, `<s>`, `</s>`, the bytes as tokens 3 to 258, then the given pieces.
fn sentence_piece(pieces: &[(&str, f32)]) -> Fields {
    let mut tokens = vec![
        ("<unk>".to_owned(), UNKNOWN),
        ("<s>".to_owned(), CONTROL),
        ("</s>".to_owned(), CONTROL),
    ];
    tokens.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    tokens.extend(pieces.iter().map(|(text, _)| ((*text).to_owned(), NORMAL)));
    let scores = std::iter::repeat_n(0.0, 259).chain(pieces.iter().map(|(_, score)| *score));
    let mut fields = fields("llama", &tokens);
    let scores = scores.collect::<Vec<f32>>().into();
    fields.insert(sentence_piece::SCORES.to_owned(), scores);
    fields.insert("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(1));
    fields.insert("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(2));
    fields.insert("tokenizer.ggml.unknown_token_id".to_owned(), Value::U32(0));
    fields
}

const PIECES: &[(&str, f32)] = &[
    ("▁", -7.0),
    ("a", -8.0),
    ("b", -9.0),
    ("ab", -1.0),
    ("▁a", -2.0),
    ("ba", -3.0),
    ("▁▁", -1e9),
    ("aa", -1e9),
];

fn build(fields: &Fields) -> Tokenizer {
    Tokenizer::from_gguf(fields).unwrap()
}

fn error_with(mut fields: Fields, key: &str, value: Value) -> String {
    fields.insert(key.to_owned(), value);
    Tokenizer::from_gguf(&fields).unwrap_err().to_string()
}

#[test]
fn byte_level_merges_in_order_and_reads_no_markup() {
    let tokenizer = build(&byte_level());
    assert_eq!(tokenizer.encode("hello").unwrap(), [259]);
    assert_eq!(tokenizer.encode("hellhe").unwrap(), [258, 256]);
    assert!(tokenizer.encode("").unwrap().is_empty());
    let text = "<|im_end|>hello<|user|>";
    let ids = tokenizer.encode(text).unwrap();
    assert!(ids.iter().all(|id| *id < 260), "{ids:?}");
    let plain = tokenizer.decode(&ids, SpecialTokens::Skip).unwrap();
    assert_eq!(plain, text);
    assert_eq!(
        tokenizer.encode_with_special(text).unwrap(),
        [261, 259, 263]
    );
    assert_eq!(tokenizer.encode("<think>hello").unwrap(), [262, 259]);
}

#[test]
fn control_tokens_are_shown_or_skipped() {
    let tokenizer = build(&byte_level());
    let ids = [260, 259, 261];
    let shown = tokenizer.decode(&ids, SpecialTokens::Show).unwrap();
    assert_eq!(shown, "<|im_start|>hello<|im_end|>");
    assert_eq!(
        tokenizer.decode(&ids, SpecialTokens::Skip).unwrap(),
        "hello"
    );
}

#[test]
fn special_ids_and_tokens_are_reported() {
    let tokenizer = build(&byte_level());
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (None, Some(260)));
    assert!(!tokenizer.add_bos());
    assert_eq!(*tokenizer.end_tokens(), BTreeSet::from([260, 261]));
    assert_eq!(tokenizer.vocab_size(), 264);
    assert_eq!(tokenizer.token_text(259), Some("hello"));
    assert_eq!(tokenizer.token_text(264), None);
    let error = tokenizer
        .decode(&[0, 264], SpecialTokens::Skip)
        .unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::UnknownId {
            id: 264,
            tokens: 264
        }
    ));

    let tokenizer = build(&sentence_piece(PIECES));
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(1), true));
    assert_eq!(*tokenizer.end_tokens(), BTreeSet::from([2]));
    assert_eq!(*tokenizer.token_bytes(263).unwrap(), *b" a");
    assert_eq!(*tokenizer.token_bytes(3 + 0xE9).unwrap(), [0xE9]);
}

#[test]
fn sentence_piece_merges_by_score_then_from_the_left() {
    let tokenizer = build(&sentence_piece(PIECES));
    let encode = |text: &str| {
        let ids = tokenizer.encode(text).unwrap();
        ids.iter()
            .map(|id| tokenizer.token_text(*id).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(encode("ab"), ["▁", "ab"]);
    assert_eq!(encode("aab"), ["▁a", "ab"]);
    assert_eq!(encode("baaa"), ["▁", "ba", "aa"]);
    // `▁▁` and `aa` have the same score and share nothing; `▁▁` of three spaces and the
    // prefix go left to right.
    assert_eq!(encode("   "), ["▁▁", "▁▁"]);
    assert_eq!(encode("é\n"), ["▁", "<0xC3>", "<0xA9>", "<0x0A>"]);
    assert!(encode("").is_empty());
    // The text of control and byte tokens is text.
    assert_eq!(encode("<s>").len(), 4);
    assert_eq!(encode("<0x0A>").len(), 7);
}

#[test]
fn equal_scores_merge_the_leftmost_pair_whatever_their_ids() {
    let pieces = [
        ("a", -5.0),
        ("b", -5.0),
        ("c", -5.0),
        ("bc", -1.0),
        ("ab", -1.0),
    ];
    let mut fields = sentence_piece(&pieces);
    fields.insert(
        "tokenizer.ggml.add_space_prefix".to_owned(),
        Value::Bool(false),
    );
    let tokenizer = build(&fields);
    assert_eq!(tokenizer.encode("abc").unwrap(), [263, 261]);
}

#[test]
fn the_added_space_goes_only_at_the_start_of_a_text() {
    let tokenizer = build(&sentence_piece(PIECES));
    let ids = tokenizer.encode("a a").unwrap();
    assert_eq!(ids, [263, 263]);
    assert_eq!(tokenizer.decode(&ids, SpecialTokens::Skip).unwrap(), "a a");
    let with_bos = [&[1], &ids[..]].concat();
    assert_eq!(
        tokenizer.decode(&with_bos, SpecialTokens::Skip).unwrap(),
        "a a"
    );
    let mut stream = tokenizer.continue_stream(SpecialTokens::Skip);
    assert_eq!(stream.push(263).unwrap().as_deref(), Some(" a"));
    assert_eq!(
        tokenizer.encode_with_special("<s>a</s>a").unwrap(),
        [1, 263, 2, 263]
    );
}

#[test]
fn phi_3_drops_space_after_markup() {
    let mut fields = sentence_piece(PIECES);
    fields.insert(
        "general.name".to_owned(),
        Value::String("Phi-3 mini".to_owned()),
    );
    let tokenizer = build(&fields);
    assert_eq!(tokenizer.encode_with_special("</s>\n a").unwrap(), [2, 263]);
    assert_eq!(
        tokenizer.encode_with_special("<s> a").unwrap(),
        [1, 259, 263]
    );
}

#[test]
fn a_stream_holds_back_incomplete_characters() {
    let tokenizer = build(&byte_level());
    let ids = tokenizer.encode("é!").unwrap();
    let mut stream = tokenizer.decode_stream(SpecialTokens::Skip);
    assert_eq!(stream.push(ids[0]).unwrap(), None);
    assert_eq!(stream.push(261).unwrap(), None);
    assert_eq!(stream.push(ids[1]).unwrap().as_deref(), Some("é"));
    assert!(stream.push(9999).is_err());
    assert_eq!(stream.push(ids[0]).unwrap(), None);
    assert_eq!(stream.finish(), "\u{FFFD}");
}

#[test]
fn a_file_that_does_not_name_its_rules_is_known() {
    let read = |fields: &Fields| Tokenizer::from_gguf(fields).unwrap().guesses_words();
    let mut fields = byte_level();
    assert!(!read(&fields));
    fields.remove(PRE);
    assert!(read(&fields));
}

#[test]
fn malformed_vocabularies_name_the_key() {
    let key = "tokenizer.ggml.merges";
    let cases = [
        (
            MODEL,
            Value::String("bert".to_owned()),
            "`bert`, which is not supported",
        ),
        (MODEL, Value::U32(1), "should be a string"),
        (
            PRE,
            Value::String("morse".to_owned()),
            "`morse`, which is not supported",
        ),
        (vocabulary::TOKENS, strings([""; 0]), "holds 0 tokens"),
        (
            vocabulary::TOKENS,
            vec![1].into(),
            "should be an array of UTF-8 strings",
        ),
        (vocabulary::TOKEN_TYPES, vec![1].into(), "has 1 elements"),
        (
            "tokenizer.ggml.eos_token_id",
            Value::U32(264),
            "is 264, but",
        ),
        (
            "tokenizer.ggml.bos_token_id",
            Value::I32(-1),
            "bos_token_id` is -1",
        ),
        (
            "tokenizer.ggml.eot_token_id",
            Value::Bool(true),
            "eot_token_id` of",
        ),
        (ADD_BOS, Value::U32(1), "should be a bool"),
        (key, strings(["h e", "hel"]), "element 1 of"),
        (key, strings(["h e l"]), "one space between"),
        (key, strings([" h"]), "one space between"),
        (key, strings(["h l"]), "`hl` is not among"),
    ];
    for (key, value, expected) in cases {
        let error = error_with(byte_level(), key, value);
        assert!(error.contains(expected), "{key}: {error}");
    }
    let mut missing = byte_level();
    missing.remove(key);
    let error = Tokenizer::from_gguf(&missing).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::MissingKey {
            key: "tokenizer.ggml.merges"
        }
    ));
}

#[test]
fn duplicates_load_and_encoding_takes_the_last() {
    let pieces = [
        ("▁", -7.0),
        ("a", -8.0),
        ("a", -8.0),
        ("a\0", -1.0),
        ("\0", -2.0),
    ];
    let tokenizer = build(&sentence_piece(&pieces));
    let ids = tokenizer.encode("aa\0\0").unwrap();
    assert_eq!(ids, [259, 261, 262, 263]);
    let text = tokenizer.decode(&ids, SpecialTokens::Skip).unwrap();
    assert_eq!(text, "aa\0\0");
    assert_eq!(*tokenizer.token_bytes(260).unwrap(), *b"a");
}

#[test]
fn merges_that_make_or_take_markup_are_left_out() {
    let mut fields = byte_level();
    let merges = strings(["h e", "< |", "<|im_start|> h", "l l", "<|im_end| >"]);
    fields.insert("tokenizer.ggml.merges".to_owned(), merges);
    let error = Tokenizer::from_gguf(&fields).unwrap_err().to_string();
    assert!(error.contains("`<|` is not among"), "{error}");
    let merges = strings(["h e", "<|im_start|> h", "l l", "<|im_end| >"]);
    fields.insert("tokenizer.ggml.merges".to_owned(), merges);
    let ids = build(&fields).encode("<|im_end|>hell").unwrap();
    assert!(
        ids.ends_with(&[256, 257]) && ids[..2] != [261, 256],
        "{ids:?}"
    );
}

#[test]
fn malformed_scores_and_bytes_are_refused() {
    let key = sentence_piece::SCORES;
    let error = error_with(sentence_piece(&[]), key, Vec::<f32>::new().into());
    assert!(error.contains("scores` has 0 elements"), "{error}");
    let error = Tokenizer::from_gguf(&sentence_piece(&[("a", f32::NAN)])).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::MalformedScore { id: 259, .. }
    ));
    let kinds = vec![BYTE; 259].into();
    let error = error_with(sentence_piece(&[]), vocabulary::TOKEN_TYPES, kinds);
    assert!(
        error.contains("token 0") && error.contains("<unk>"),
        "{error}"
    );
    let mut fields = fields("llama", &[("a".to_owned(), NORMAL)]);
    fields.insert(key.to_owned(), vec![0.0].into());
    let error = Tokenizer::from_gguf(&fields).unwrap_err();
    assert!(matches!(error, TokenizerError::NoFallback));
}

#[test]
fn a_tokenizer_can_be_shared_between_threads() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&build(&byte_level()));
}

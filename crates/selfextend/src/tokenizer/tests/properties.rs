//! What holds for every text and every sequence of ids.

use crate::gguf::Value;
use proptest::prelude::*;

use super::{PIECES, SpecialTokens, build, byte_level, sentence_piece};

/// SentencePiece's rule, word for word: again and again, the best pair, then the leftmost.
fn merge_slowly(text: &str, score: impl Fn(&str) -> Option<f32>) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let pairs = (1..parts.len()).filter_map(|i| Some((score(&parts[i - 1..=i].concat())?, i)));
        let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let Some((_, right)) = best else {
            return parts;
        };
        let end = parts.remove(right);
        parts[right - 1] += &end;
    }
}

proptest! {
    #[test]
    fn byte_level_round_trips(text in "\\PC*|[ a-z0-9<>|\n\t'🦙éˇ]*|.*") {
        let tokenizer = build(&byte_level());
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, SpecialTokens::Skip).unwrap(), text);
    }

    #[test]
    fn sentence_piece_round_trips(text in "[ab▂ é🦙\n<s>]*") {
        let tokenizer = build(&sentence_piece(PIECES));
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|id| *id > 2));
        prop_assert_eq!(tokenizer.decode(&ids, SpecialTokens::Skip).unwrap(), text);
    }

    #[test]
    fn streaming_gives_the_bytes_of_all_tokens(ids in prop::collection::vec(0u32..264, 0..60)) {
        let tokenizer = build(&byte_level());
        let mut stream = tokenizer.decode_stream(SpecialTokens::Show);
        let mut text = String::new();
        for id in &ids {
            text.extend(stream.push(*id).unwrap());
        }
        text += &stream.finish();
        let bytes: Vec<u8> =
            ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap().into_owned()).collect();
        prop_assert_eq!(text.as_str(), &*String::from_utf8_lossy(&bytes));
        prop_assert_eq!(text, tokenizer.decode(&ids, SpecialTokens::Show).unwrap());
    }

    #[test]
    fn the_queue_merges_as_the_rule_says(
        text in "[abc]{0,12}",
        pieces in prop::collection::hash_map("[abc]{1,4}", -3i8..0, 0..12),
    ) {
        let pieces: Vec<(&str, f32)> =
            pieces.iter().map(|(text, score)| (text.as_str(), f32::from(*score))).collect();
        let mut fields = sentence_piece(&pieces);
        fields.insert("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(false));
        let tokenizer = build(&fields);
        let known = |text: &str| pieces.iter().find(|(piece, _)| *piece == text);
        let slow = merge_slowly(&text, |text| known(text).map(|(_, score)| *score));
        // What is not a piece is spelled in bytes.
        let slow = slow.iter().flat_map(|part| match known(part) {
            Some(_) => vec![part.clone()],
            None => part.bytes().map(|byte| format!("<0x{byte:02X}>")).collect(),
        });
        let ids = tokenizer.encode(&text).unwrap();
        let fast = ids.iter().map(|id| tokenizer.token_text(*id).unwrap().to_owned());
        prop_assert_eq!(fast.collect::<Vec<_>>(), slow.collect::<Vec<_>>());
    }
}

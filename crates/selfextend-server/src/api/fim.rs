//! Filling in the middle: a prompt with a `suffix`, for models whose vocabulary names the tokens.

use super::error::ApiError;
use selfextend::tokenizer::Tokenizer;

/// Tokens before the beginning, the end, and the place of the answer.
struct Marks {
    prefix: u32,
    suffix: u32,
    middle: u32,
}

/// How models write these tokens, as llama.cpp recognises them.
const WRITTEN: [[&str; 3]; 6] = [
    // Qwen2.5-Coder
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // DeepSeek-Coder
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    // Granite, GLM
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
    // Code Llama
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
];

/// Tokens that end what is filled in, besides the model's end tokens.
const ENDS: [&str; 4] = ["<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<EOT>"];

/// The prompt for what stands between two texts, of which the tokens are given.
///
/// # Errors
/// A model without the tokens for it.
pub fn prompt(tokenizer: &Tokenizer, before: &[u32], after: &[u32]) -> Result<Vec<u32>, ApiError> {
    let marks = WRITTEN.iter().find_map(|written| marks(tokenizer, written));
    let marks = marks.ok_or_else(|| {
        let message = "suffix: this model's vocabulary has no tokens for filling in the middle, such as <|fim_prefix|>; leave it out, or use a model for code";
        ApiError::unsupported("suffix", message)
    })?;
    // The beginning-of-text token stays at the beginning.
    let bos = tokenizer.bos().filter(|bos| before.first() == Some(bos));
    let (bos, before) = before.split_at(usize::from(bos.is_some()));
    let parts: [&[u32]; 6] = [
        bos,
        &[marks.prefix],
        before,
        &[marks.suffix],
        after,
        &[marks.middle],
    ];
    Ok(parts.concat())
}

/// Texts that end an answer in the middle.
pub fn stops(tokenizer: &Tokenizer) -> impl Iterator<Item = String> {
    let known = ENDS
        .iter()
        .filter(|written| token(tokenizer, written).is_some());
    known.map(|written| (*written).to_owned())
}

fn marks(tokenizer: &Tokenizer, [prefix, suffix, middle]: &[&str; 3]) -> Option<Marks> {
    Some(Marks {
        prefix: token(tokenizer, prefix)?,
        suffix: token(tokenizer, suffix)?,
        middle: token(tokenizer, middle)?,
    })
}

/// The one token that is written so.
fn token(tokenizer: &Tokenizer, written: &str) -> Option<u32> {
    let ids = tokenizer.encode_with_special(written).ok()?;
    let [id] = ids[..] else {
        return None;
    };
    (tokenizer.token_text(id) == Some(written)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A vocabulary with the tokens of Qwen2.5-Coder, or without.
    fn tokenizer(names: [&str; 3]) -> Tokenizer {
        let added = (3..).zip(names).map(|(id, name)| {
            json!({
                "id": id, "content": name, "special": false, "normalized": false, "lstrip": false,
                "rstrip": false, "single_word": false,
            })
        });
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "vocab": {"a": 0, "b": 1, "c": 2}, "merges": [],
            },
        });
        Tokenizer::from_json(json, &json!(null), &json!(null)).unwrap()
    }

    /// The order that Qwen2.5-Coder's authors give: prefix, suffix, and then the middle.
    #[test]
    fn the_middle_follows_what_stands_around_it() {
        let coder = tokenizer(["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]);
        assert_eq!(prompt(&coder, &[0, 1], &[2]).unwrap(), [3, 0, 1, 5, 2, 4]);
        let padded = tokenizer(["<|fim_pad|>", "<|x|>", "<|y|>"]);
        assert_eq!(stops(&padded).collect::<Vec<_>>(), ["<|fim_pad|>"]);
        let error = prompt(&padded, &[0], &[1]).unwrap_err();
        assert!(
            error
                .json()
                .to_string()
                .contains("no tokens for filling in")
        );
        assert_eq!(error.json()["error"]["param"], "suffix");
    }
}

//! Byte-level BPE of a GGUF file: text is bytes, each byte is written as one character, and a
//! list of merges joins them.

use super::engine::Engine;
use super::error::TokenizerError;
use super::metadata::Metadata;
use super::pre_tokenizer::{self, PreTokenizer};
use super::vocabulary::{TokenKind, Vocabulary};
use std::collections::HashSet;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

const MERGES: &str = "tokenizer.ggml.merges";

/// The engine of `tokenizer.ggml.model` = `gpt2`.
pub(super) fn engine(
    metadata: Metadata<'_>,
    vocabulary: &Vocabulary,
    name: &str,
    rule: &PreTokenizer,
) -> Result<Engine, TokenizerError> {
    // Without the control tokens and merges that make them, no text becomes one.
    let markups = vocabulary.markups(None);
    let tokens: Vocab = plain(vocabulary)
        .map(|(id, text)| (text.to_owned(), id))
        .collect();
    let lines = metadata.strings(MERGES)?;
    let merges = lines.iter().enumerate().map(|(index, line)| {
        split_merge(line).ok_or_else(|| malformed(index, line, NOT_A_PAIR.to_owned()))
    });
    let mut merges: Merges = merges.collect::<Result<_, _>>()?;
    merges.retain(|(left, right)| !markups.touch(left, right));
    let model = BPE::builder()
        .vocab_and_merges(tokens, merges)
        .ignore_merges(rule.ignore_merges)
        .build()
        .map_err(|error| explain(error, &lines, vocabulary))?;
    let mut engine = tokenizers::Tokenizer::new(model);
    engine
        .with_normalizer(pre_tokenizer::normalizer(name))
        .map_err(TokenizerError::engine)?;
    engine.with_pre_tokenizer(Some(rule.build()?));
    Ok(Engine::new(engine))
}

fn plain(vocabulary: &Vocabulary) -> impl Iterator<Item = (u32, &str)> {
    vocabulary.iter().filter_map(|(id, text, kind)| {
        matches!(kind, TokenKind::Normal | TokenKind::UserDefined).then_some((id, text))
    })
}

const NOT_A_PAIR: &str = "it is not two tokens with one space between them";

fn split_merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let is_token = |part: &str| !part.is_empty() && !part.contains(' ');
    (is_token(left) && is_token(right)).then(|| (left.to_owned(), right.to_owned()))
}

fn malformed(index: usize, merge: &str, reason: String) -> TokenizerError {
    let merge = merge.to_owned();
    TokenizerError::MalformedMerge {
        index,
        merge,
        reason,
    }
}

/// The engine says which token it lacks, but not which merge asked for it.
fn explain(error: tokenizers::Error, lines: &[&str], vocabulary: &Vocabulary) -> TokenizerError {
    let known: HashSet<&str> = plain(vocabulary).map(|(_, text)| text).collect();
    for (index, line) in lines.iter().enumerate() {
        let product = line.replacen(' ', "", 1);
        let parts = line.split(' ').chain([product.as_str()]);
        if let Some(missing) = parts.into_iter().find(|part| !known.contains(part)) {
            let reason = format!("`{missing}` is not among the plain tokens of the vocabulary");
            return malformed(index, line, reason);
        }
    }
    TokenizerError::engine(error)
}

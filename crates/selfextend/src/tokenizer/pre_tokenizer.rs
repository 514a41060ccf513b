//! How text is normalised and cut into words before byte-level BPE, by `tokenizer.ggml.pre`.
//!
//! The expressions are those of the models' own `tokenizer.json`, the names and their
//! grouping those that llama.cpp's converter writes into GGUF files.

use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    normalizers::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::error::TokenizerError;

/// The rules that share one way of cutting text.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    /// Applied one after the other, each to the parts the one before left.
    patterns: &'static [&'static str],
    /// A word that is a token itself is taken whole, whatever the merges would make of it.
    pub(super) ignore_merges: bool,
    /// Whether a text starts with BOS when the file does not say.
    pub(super) adds_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

static TABLE: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &[
            "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "exaone4", "mellum",
        ],
        patterns: &[GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        patterns: &[LLAMA3],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "megrez",
            "hunyuan",
        ],
        patterns: &[QWEN2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["qwen35"],
        patterns: &[QWEN35],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["tekken"],
        patterns: &[TEKKEN],
        ignore_merges: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["gpt-4o", "llama4"],
        patterns: &[GPT4O],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        patterns: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+",
            r"\p{N}",
        ],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense"],
        patterns: &[
            r"\p{N}{1,3}",
            "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
            DEEPSEEK3,
        ],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
        ignore_merges: false,
        adds_bos: false,
    },
];

/// The models that put text into Unicode's composed form (NFC) first, and what says so: GGUF files
/// do not, and llama.cpp does it for none. The other names are of models whose files say nothing
/// of it (GPT-2, Phi, StarCoder, Llama 3, Falcon, Tekken, GPT-4o, DeepSeek, GLM) or were not at hand
/// (`jais`, `trillion`, `exaone`, `exaone4`, `mellum`, `minerva-7b`, `megrez`, `hunyuan-dense`,
/// `codeshell`).
const COMPOSED: &[&str] = &[
    "olmo",             // GPTNeoXTokenizer of transformers
    "mpt",              // the same
    "command-r",        // CohereTokenizer of transformers
    "qwen2",            // tokenizer.json of Qwen 2, 2.5 and 3, Qwen2Tokenizer of transformers
    "deepseek-r1-qwen", // Qwen 2.5 with other added tokens
    "qwen35",           // Qwen3_5Tokenizer of transformers
    "stablelm2",        // Arcade100kTokenizer, published with StableLM 2
    "hunyuan",          // HYTokenizer, published with Hunyuan-A13B
];

/// What is done to text first.
pub(super) fn normalizer(name: &str) -> Option<NFC> {
    COMPOSED.contains(&name).then_some(NFC)
}

/// The rule that a file names.
pub(super) fn find(name: &str) -> Result<&'static PreTokenizer, TokenizerError> {
    let rule = TABLE.iter().find(|rule| rule.names.contains(&name));
    rule.ok_or_else(|| {
        let supported: Vec<&str> = TABLE.iter().flat_map(|rule| rule.names).copied().collect();
        TokenizerError::UnsupportedPreTokenizer {
            found: name.to_owned(),
            supported: supported.join(", "),
        }
    })
}

impl PreTokenizer {
    /// The rule as the engine takes it, ending with bytes written as characters.
    pub(super) fn build(&self) -> Result<Sequence, TokenizerError> {
        let mut steps = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(TokenizerError::engine)?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        let bytes = ByteLevel::new(false, false, false);
        steps.push(PreTokenizerWrapper::ByteLevel(bytes));
        Ok(Sequence::new(steps))
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    fn words(rule: &str, text: &str) -> Vec<String> {
        let mut split = PreTokenizedString::from(text);
        find(rule)
            .unwrap()
            .build()
            .unwrap()
            .pre_tokenize(&mut split)
            .unwrap();
        let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        parts
            .into_iter()
            .map(|(_, (from, to), _)| text[from..to].to_owned())
            .collect()
    }

    #[test]
    fn every_rule_compiles_and_loses_nothing() {
        let text = "Don't  STOP\n\n at 12345, naïve 东京 Größe!?\t x_y(`a`)==~~ \r\n  ";
        for name in TABLE.iter().flat_map(|rule| rule.names) {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = TABLE.iter().flat_map(|rule| rule.names).collect();
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn digits_and_contractions_are_cut_as_each_family_does() {
        assert_eq!(words("gpt-2", "it's 1234"), ["it", "'s", " 1234"]);
        assert_eq!(words("smollm", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(
            words("llama-bpe", "IT'S 1234"),
            ["IT", "'S", " ", "123", "4"]
        );
        assert_eq!(words("qwen2", "v12"), ["v", "1", "2"]);
        assert_eq!(
            words("tekken", "helloWorld 1"),
            ["hello", "World", " ", "1"]
        );
        assert_eq!(words("default", "a1234.b"), ["a", "123", "4", ".", "b"]);
    }

    #[test]
    fn an_unknown_rule_is_named_with_the_known_ones() {
        let error = find("morse").unwrap_err().to_string();
        assert!(
            error.contains("morse") && error.contains("smollm"),
            "{error}"
        );
    }
}

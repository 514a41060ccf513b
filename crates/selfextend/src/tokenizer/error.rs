//! What can be wrong with a file's vocabulary, or with ids given to it.

/// Why a tokenizer could not be built from a GGUF file, or an id could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file lacks a key that its kind of tokenizer needs.
    #[error("the GGUF file has no `{key}`: convert the model again with its tokenizer")]
    MissingKey {
        /// The metadata key.
        key: &'static str,
    },
    /// A key holds a value of another type than the format says.
    #[error("`{key}` of the GGUF file should be {expected}, but is {found}")]
    WrongType {
        /// The metadata key, with the index of the element where it is an array.
        key: String,
        /// What the format asks for.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
    /// The kind of tokenizer is not one of those built here.
    #[error(
        "`tokenizer.ggml.model` is `{found}`, which is not supported; supported are `gpt2` \
         (byte-level BPE) and `llama` (SentencePiece BPE)"
    )]
    UnsupportedModel {
        /// The name in the file.
        found: String,
    },
    /// The rule that splits text into words before BPE is not known.
    #[error("`tokenizer.ggml.pre` is `{found}`, which is not supported; supported are {supported}")]
    UnsupportedPreTokenizer {
        /// The name in the file.
        found: String,
        /// The names that are known, separated by commas.
        supported: String,
    },
    /// The vocabulary is empty, or too large for 32-bit ids.
    #[error("`tokenizer.ggml.tokens` holds {found} tokens, which is no usable vocabulary")]
    VocabularySize {
        /// The number of tokens in the file.
        found: usize,
    },
    /// An array that runs parallel to the tokens has another length.
    #[error("`{key}` has {found} elements, but `tokenizer.ggml.tokens` has {tokens}")]
    LengthMismatch {
        /// The metadata key.
        key: &'static str,
        /// Its number of elements.
        found: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// A byte token is not written as `<0x00>` to `<0xFF>`.
    #[error(
        "token {id} of `tokenizer.ggml.tokens` is marked as a byte, but its text is `{text}` \
         instead of the form <0xA1>"
    )]
    MalformedByteToken {
        /// The id of the token.
        id: usize,
        /// Its text.
        text: String,
    },
    /// A score is not a number.
    #[error("element {id} of `tokenizer.ggml.scores` is {score}, which cannot rank merges")]
    MalformedScore {
        /// The id of the token.
        id: usize,
        /// The value found.
        score: f32,
    },
    /// A merge is not a pair of tokens that make a third.
    #[error("element {index} of `tokenizer.ggml.merges`, `{merge}`, is malformed: {reason}")]
    MalformedMerge {
        /// The position in the list of merges.
        index: usize,
        /// The merge as written.
        merge: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A special token's id is outside the vocabulary.
    #[error("`{key}` is {id}, but the vocabulary has {tokens} tokens")]
    IdOutOfRange {
        /// The metadata key.
        key: &'static str,
        /// The id in the file.
        id: i64,
        /// The number of tokens.
        tokens: usize,
    },
    /// Some text would have no ids at all.
    #[error(
        "the vocabulary has neither all 256 byte tokens nor an unknown token \
         (`tokenizer.ggml.unknown_token_id`): it cannot encode every text"
    )]
    NoFallback,
    /// An id given for decoding is outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {tokens} tokens: is it of another model?")]
    UnknownId {
        /// The id.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// A tokenizer.json that is not one.
    #[error("tokenizer.json is damaged: {what} is missing or malformed")]
    Json {
        /// The part of it.
        what: String,
    },
    /// The BPE engine refused the vocabulary or the text.
    #[error("the BPE engine failed: {message}")]
    Engine {
        /// The engine's own words.
        message: String,
    },
}

impl TokenizerError {
    /// Wraps an error of the `tokenizers` or `aho-corasick` crate.
    pub(super) fn engine(error: impl std::fmt::Display) -> Self {
        Self::Engine {
            message: error.to_string(),
        }
    }
}

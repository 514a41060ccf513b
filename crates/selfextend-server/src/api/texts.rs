//! The bodies of `/tokenize` and `/detokenize`.

use super::error::ApiError;
use serde::Deserialize;

/// A text to tokenise: `content` as llama.cpp's server reads it, `prompt` as vLLM does.
#[derive(Debug, Deserialize)]
pub struct Tokenize {
    pub model: Option<String>,
    content: Option<String>,
    /// Whether the beginning-of-text token is added to `content`.
    add_special: Option<bool>,
    /// Whether special tokens written in `content` stand for themselves.
    parse_special: Option<bool>,
    prompt: Option<String>,
    /// Whether the beginning-of-text token is added to `prompt`.
    add_special_tokens: Option<bool>,
    /// Whether the tokens' texts are returned too.
    pub return_token_strs: Option<bool>,
}

/// Tokens to turn into text.
#[derive(Debug, Deserialize)]
pub struct Detokenize {
    pub model: Option<String>,
    pub tokens: Vec<u32>,
}

/// A text and how it is read.
pub struct Asked {
    pub text: String,
    pub add_bos: bool,
    pub parse_special: bool,
}

impl Tokenize {
    /// What is to be tokenised.
    ///
    /// # Errors
    /// Fields of both shapes, or no text.
    pub fn asked(&mut self) -> Result<Asked, ApiError> {
        let given = |field: &Option<bool>| field.is_some();
        match (self.content.take(), self.prompt.take()) {
            (Some(text), None) if !given(&self.add_special_tokens) => Ok(Asked {
                text,
                add_bos: self.add_special.unwrap_or(false),
                parse_special: self.parse_special.unwrap_or(false),
            }),
            (None, Some(text)) if !given(&self.add_special) => Ok(Asked {
                text,
                add_bos: self.add_special_tokens.unwrap_or(true),
                parse_special: self.parse_special.unwrap_or(true),
            }),
            _ => Err(ApiError::bad_request(
                "send either content (with add_special) or prompt (with add_special_tokens)",
            )),
        }
    }
}

//! The tokenizer of a model, built from the metadata of its GGUF file or from a tokenizer.json.
//!
//! Two kinds are known: byte-level BPE (`gpt2`: GPT-2, Llama 3, Qwen, SmolLM, ...) and every
//! tokenizer.json, for which the `tokenizers` crate is the engine, and SentencePiece BPE (`llama`:
//! Llama 2, Mistral, Phi-3, Gemma, ...).
//!
//! Control tokens, the markup of chat templates, are never read from plain text: the text
//! of a message cannot end its turn. [`Tokenizer::encode`] is for such text, and
//! [`encode_chat`](crate::chat_prompt::encode_chat) for conversations.

mod added;
mod byte_level;
mod codec;
mod engine;
mod error;
mod json;
mod metadata;
mod pre_tokenizer;
mod sentence_piece;
mod spelling;
mod stream;
#[cfg(test)]
mod tests;
mod vocabulary;

pub(crate) use added::Part;
pub use codec::Tokenizer;
pub use error::TokenizerError;
pub use stream::{DecodeStream, SpecialTokens};

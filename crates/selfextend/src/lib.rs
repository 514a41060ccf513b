//! Run any RoPE language model past the context window it was trained on, with no fine-tuning.
//!
//! The engine reads a model from one file, chooses the settings of SelfExtend (arXiv 2401.01325)
//! from the context that is needed, and computes its bi-level attention exactly, at the price of
//! plain attention.
//!
//! ```no_run
//! use selfextend::settings::ContextRequest;
//! use selfextend::{GenerateOptions, LoadOptions, TextModel, generate};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), selfextend::Error> {
//! let text = TextModel::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let prompt = text.tokenizer.encode("A very long text ...")?;
//! let request = ContextRequest { needed: prompt.len() + 100, ..Default::default() };
//! let settings = request.settings(text.model.config().trained_window)?;
//! let mut session = text.model.session(settings.into());
//! let logits = session.append(&prompt, &mut |_| Ok(()))?;
//! let options = GenerateOptions { max_tokens: 100, ..Default::default() };
//! generate(&mut session, &text.tokenizer, logits, &options, &mut |piece| {
//!     print!("{piece}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! * [`settings`]: from a context to a group size and a neighbour window; [`method`]: every
//!   training-free method by name.
//! * [`TextModel`], [`Model`], [`Session`]: text, ids, one sequence.
//! * [`backend`]: the narrow waist between the decoder and the machine.
//! * [`gguf`], [`safetensors`]: the file formats; [`hub`]: where files come from.

pub mod backend;
pub mod chat_prompt;
pub mod chat_template;
pub mod config;
pub mod decoder;
mod error;
mod families;
mod fingerprint;
mod generate;
pub mod gguf;
pub mod hub;
pub mod method;
mod model;
mod model_file;
pub mod profile;
mod runner;
pub mod safetensors;
pub mod sampling;
mod session;
pub mod settings;
pub mod tensor;
#[cfg(test)]
mod test_support;
mod text;
pub mod tokenizer;
mod weights;

pub use backend::{Block, Device, Phase};
pub use error::{Error, Result};
pub use fingerprint::fingerprint;
pub use generate::{Finish, GenerateOptions, Generation, Writer, Written, generate};
pub use method::Method;
pub use model::{LoadOptions, Model};
pub use model_file::ModelFile;
pub use sampling::Sampling;
pub use selfextend_attention::cache::PAGE;
pub use selfextend_attention::{
    Frequencies, KvType, PositionMap, Positions, QueryScaling, RopeScaling, SelfExtend,
};
pub use session::{DEFAULT_CHUNK, Input, LogitRows, Session, SessionOptions};
pub use tensor::{TensorFormat, TensorInfo};
pub use text::TextModel;

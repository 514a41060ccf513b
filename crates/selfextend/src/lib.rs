//! Run any RoPE language model past the context window it was trained on, with no fine-tuning.
//!
//! The engine reads a model from one file, chooses the settings of SelfExtend (arXiv 2401.01325)
//! from the context that is needed, and computes its bi-level attention exactly, at the price of
//! plain attention.
//!
//! ```no_run
//! use selfextend::{GenerateOptions, TextModel};
//!
//! # fn main() -> Result<(), selfextend::Error> {
//! // A path, a known model's name, or an id of the Hugging Face hub.
//! let model = TextModel::open("smollm2-135m")?;
//! // Four times the window that this model was trained on.
//! let mut session = model.session(32_768)?;
//! let book = std::fs::read_to_string("book.txt").unwrap();
//! let prompt = format!("{book}\n\nWho is the murderer?");
//! for piece in model.answer(&mut session, &prompt, &GenerateOptions::default())? {
//!     print!("{}", piece?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * [`TextModel`], [`Model`], [`Session`]: text, ids, one sequence.
//! * [`ContextRequest`]: from a context to settings of SelfExtend; [`Method`]: every training-free
//!   method by name; [`Extension`]: what either comes to on a model, and what a session runs under.
//! * [`Session::append_with`], [`Model::forward`], [`Writer`], [`Block`]: progress and cancelling,
//!   several sequences in one pass, steps of generation, shared prefixes, for servers.
//! * [`ModelFile`]: what a file says of its model.
//!
//! # Cargo features
//!
//! * `hub` (default): models by name, fetched and kept in a cache. Without it, no HTTP client and no
//!   archive reader are compiled.
//! * `cuda`: NVIDIA GPUs.
//! * `unstable`: the modules `backend`, `decoder`, `gguf`, `safetensors` and `tensor`, for tests and benchmarks.
//!   They may change in any version.

#[cfg(feature = "unstable")]
pub mod backend;
#[cfg(not(feature = "unstable"))]
mod backend;
mod builder;
pub mod chat_prompt;
pub mod chat_template;
pub mod config;
#[cfg(feature = "unstable")]
pub mod decoder;
#[cfg(not(feature = "unstable"))]
mod decoder;
mod device;
mod device_model;
mod error;
mod extension;
mod families;
mod fingerprint;
mod generate;
#[cfg(feature = "unstable")]
pub mod gguf;
#[cfg(not(feature = "unstable"))]
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
pub mod keys;
mod looks;
pub mod method;
mod model;
mod model_file;
mod options;
pub mod profile;
mod reader;
#[cfg(test)]
mod readme;
mod request;
mod routing;
#[cfg(feature = "unstable")]
pub mod safetensors;
#[cfg(not(feature = "unstable"))]
mod safetensors;
pub mod sampling;
mod session;
pub mod settings;
pub mod speculate;
#[cfg(feature = "unstable")]
pub mod tensor;
#[cfg(not(feature = "unstable"))]
mod tensor;
#[cfg(test)]
mod test_support;
mod text;
pub mod tokenizer;
mod turns;
mod uncounted;
mod weights;

pub use backend::{Block, Phase, SessionBytes};
pub use device::{Device, UnknownDevice};
pub use device_model::LogitRows;
pub use error::{Error, Result};
pub use extension::Extension;
pub use fingerprint::fingerprint;
pub use generate::{
    Answer, DEFAULT_MAX_TOKENS, Finish, GenerateOptions, Generation, Writer, Written, generate,
};
pub use method::Method;
pub use model::Model;
pub use model_file::ModelFile;
pub use options::{DEFAULT_CHUNK, LinearMode, LoadOptions, SessionOptions};
pub use request::ContextRequest;
pub use sampling::Sampling;
pub use selfextend_attention::cache::{MOST_STEPS, PAGE};
pub use selfextend_attention::{
    Frequencies, KvType, PositionMap, Positions, QueryScaling, RopeScaling, SelfExtend,
};
pub use session::{Input, Session};
pub use tensor::{TensorFormat, TensorInfo};
pub use text::TextModel;

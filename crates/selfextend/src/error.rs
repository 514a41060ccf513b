//! The engine's errors: what was wrong, where, and what to do.

use std::path::PathBuf;

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An engine error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model file that is damaged or contradicts itself.
    #[error("{path}: {reason}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A model this version cannot run.
    #[error("{path}: {what} is not supported; {supported}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What the file asks for.
        what: String,
        /// What is supported.
        supported: String,
    },
    /// A context that the settings cannot reach.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// A method that cannot be read, or cannot run at a context.
    #[error(transparent)]
    Method(#[from] crate::method::MethodError),
    /// A model that cannot be found or fetched.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// More tokens than the session's context has room for.
    #[error(
        "the context of {context} tokens is full: {used} used, {more} more asked for; start again with a larger context"
    )]
    ContextFull {
        /// The session's limit.
        context: usize,
        /// Tokens it holds.
        used: usize,
        /// Tokens that did not fit.
        more: usize,
    },
    /// A pass over a session that was opened on another model.
    #[error("the session belongs to another model; open one on the model that runs the pass")]
    OtherModel,
    /// More decode steps of a sequence than a pass takes.
    #[error("{asked} decode steps of one sequence in a pass; {most} are the most")]
    Steps {
        /// Steps asked for.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// A model that cannot guess tokens for another one.
    #[error("{path} cannot draft for this model: {reason}")]
    Draft {
        /// The file of the draft model.
        path: PathBuf,
        /// What its vocabulary lacks, and what would do.
        reason: String,
    },
    /// A prompt of no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id outside the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab} tokens")]
    Token {
        /// The id.
        id: u32,
        /// Its place among the new tokens.
        position: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Sampling settings outside their range.
    #[error("{0}")]
    Sampling(String),
    /// Logits that are not numbers: weights that are damaged, or too large for their format.
    #[error(
        "the model does not give numbers (token {token} gets {value}): its file is damaged, or was converted wrongly; load it with `check` (--check) to be told where"
    )]
    NotFinite {
        /// The first token with such a logit.
        token: u32,
        /// The logit, or the logarithm of the probability.
        value: f32,
    },
    /// The first output that is not finite, as [`LoadOptions::check`](crate::LoadOptions::check)
    /// finds it.
    #[error(
        "{operation}{} gives {value}, and everything before is finite: its weights are damaged, or were converted wrongly",
        in_layer(*layer)
    )]
    NotFiniteIn {
        /// What was computed.
        operation: &'static str,
        /// In which layer, counted from 0 as in the names of tensors; `None` outside of them.
        layer: Option<usize>,
        /// The first such number.
        value: f32,
    },
    /// A stop text that every answer begins with.
    #[error("a stop text is empty, so it would end every answer at once; leave it out")]
    EmptyStop,
    /// Text that cannot be turned into tokens or back.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// A chat template that cannot be used.
    #[error(transparent)]
    Template(#[from] crate::chat_template::TemplateError),
    /// A conversation that cannot be turned into tokens.
    #[error(transparent)]
    ChatPrompt(#[from] crate::chat_prompt::ChatPromptError),
    /// Arguments the attention refuses.
    #[error(transparent)]
    Attention(#[from] selfextend_attention::AttentionError),
    /// A name that no device has.
    #[error(transparent)]
    UnknownDevice(#[from] crate::device::UnknownDevice),
    /// A device that is absent, or cannot do what was asked.
    #[error("{0}")]
    Device(String),
    /// A device that has no memory left.
    #[error("{0}")]
    DeviceMemory(String),
    /// A thread pool that cannot be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The system's reason.
        reason: String,
    },
    /// The answer cannot satisfy its constraint.
    #[error("constrained decoding: {0}")]
    Constraint(String),
    /// The work was stopped by its caller.
    #[error("stopped")]
    Stopped,
}

fn in_layer(layer: Option<usize>) -> String {
    layer.map_or(String::new(), |layer| {
        format!(" in layer {layer} (of 0, 1, ...)")
    })
}

impl Error {
    /// Whether the model's chat template is to blame, and no other conversation would do better.
    pub fn blames_template(&self) -> bool {
        use crate::chat_prompt::ChatPromptError;
        match self {
            Self::Template(error) | Self::ChatPrompt(ChatPromptError::Template(error)) => {
                error.blames_template()
            }
            _ => false,
        }
    }
}

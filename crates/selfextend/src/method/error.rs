//! Methods that cannot be read, or cannot run at a context.

use crate::settings::SettingsError;
use selfextend_attention::AttentionError;

/// A method that cannot be read, or cannot run at a context.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A name no method has.
    #[error("no method is called {name:?}; methods: {known}")]
    Unknown {
        /// What was written.
        name: String,
        /// The methods there are, separated by commas.
        known: String,
    },
    /// Parameters that are misspelt or are not numbers.
    #[error("method {method:?}: {reason}")]
    Parameters {
        /// What was written.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A context in which the method would use positions the model was not trained on.
    #[error(
        "method {method} reaches {reach} tokens on a trained window of {trained}, not {context}; change its parameters, or leave them out to have them chosen"
    )]
    Beyond {
        /// The method.
        method: String,
        /// Tokens asked for.
        context: usize,
        /// The most it reaches.
        reach: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// Settings of SelfExtend that do not work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings no position map can have.
    #[error(transparent)]
    Attention(#[from] AttentionError),
}

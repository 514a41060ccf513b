//! What can be wrong with the arguments of this crate.

/// An argument that cannot be used; the text says which one, and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// Heads, head size or key/value heads that do not fit together.
    #[error("attention shape: {0}")]
    Shape(String),
    /// A slice whose length does not match the shape and the number of tokens.
    #[error("{what} has {actual} elements, expected {expected}")]
    Length {
        /// The argument.
        what: &'static str,
        /// Its length.
        actual: usize,
        /// The length that the shape and the tokens require.
        expected: usize,
    },
    /// Parameters of a position map outside their bounds.
    #[error("position map: {0}")]
    Position(String),
    /// Parameters of the rotary embedding outside their bounds.
    #[error("rotary embedding: {0}")]
    Rope(String),
}

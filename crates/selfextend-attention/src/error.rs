//! What can be wrong with the arguments of this crate.

/// An argument that cannot be used; the text says which and what would do.
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
        /// The length the shape asks for.
        expected: usize,
    },
    /// Settings of a position map that mean nothing.
    #[error("position map: {0}")]
    Position(String),
    /// Settings of the rotary embedding that mean nothing.
    #[error("rotary embedding: {0}")]
    Rope(String),
}

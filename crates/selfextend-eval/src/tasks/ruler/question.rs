//! A question of RULER before it is tokens.

/// A prompt, the words with which its answer begins, and the right answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) prefix: String,
    pub(super) expected: Vec<String>,
}
